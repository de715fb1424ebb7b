"""What becomes of a client that came over a fork into a process without its threads."""

import ctypes
import gc
import os

# A client that the parent has dropped, and its collector not yet freed, is garbage in the child, too: to
# free it there crashes (seen once). So the child's collector looks at nothing that came over the fork.
os.register_at_fork(after_in_child=gc.freeze)


def abandon(client: object) -> None:
    """Keeps a client for this process's life, unused.

    To free it would wait for threads that only the parent has, at exit too (a hang or a crash were
    seen), so it gets one reference that nobody gives back.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
