"""What becomes of a client that came over a fork into a process without its threads."""

import ctypes


def abandon(client: object) -> None:
    """Keeps a client for this process's life, unused.

    To free it would wait for threads that only the parent has, at exit too (a hang or a crash were
    seen), so it gets one reference that nobody gives back.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
