"""Refusing what would hold up a running event loop."""

import sys

from taskstream.core.errors import BlockingCall


def refuse_on_loop(method: str) -> None:
    """Raises BlockingCall where an event loop runs in this thread.

    Args:
        method: what was called, as its user wrote it ("charge.publish"); the error names its twin.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:  # nobody has loaded it, so no loop runs; loading it takes half our import
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise BlockingCall(method)
