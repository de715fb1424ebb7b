"""Which process is ours: a pid alone is not enough, the system gives it to somebody else later.

So beside a pid we keep the process's birth, and what is recorded and what is found are compared
before anything is believed of a process or done to it.
"""

from pathlib import Path

_PROC = Path("/proc")


def birth_of(pid: int) -> str | None:
    """What tells this process from every other that has or will have its pid.

    Returns:
        A text to compare with an earlier one; None when there is no such process, or only the
        remains of one that nobody has reaped.
    """
    if not (_PROC / "self" / "stat").exists():
        return _birth_by_psutil(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses of its own.
    columns = stat.rpartition(")")[2].split()
    state, threads, start_ticks = columns[0], int(columns[17]), columns[19]
    # After a SIGKILL the first thread is a zombie at once, while the others still hold the ports.
    if state in "ZX" and threads <= 1:
        return None
    # Ticks count from boot; a clock that is set right later doesn't change them.
    return f"{_boot()}:{start_ticks}"


def is_alive(pid: int | None, birth: str | None) -> bool:
    """Whether the process that had this pid and this birth still runs (or stands stopped)."""
    return pid is not None and birth is not None and birth_of(pid) == birth


def _boot() -> str:
    return (_PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()


def _birth_by_psutil(pid: int) -> str | None:
    import psutil  # noqa: PLC0415 - Linux needs no psutil, and a service that only publishes has none

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
