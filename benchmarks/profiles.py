"""`python -m benchmarks.profiles`: where publisher, parent and child of a drain spend their time.

py-spy looks at each of them a hundred times a second, from outside, while 50,000 tasks are published
and then drained. It writes one file of collapsed stacks for each (benchmarks/profiles/), and a page
with the functions that were found at work most often.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import psutil
import typer

from benchmarks.contenders import OURS
from benchmarks.machine import commit
from benchmarks.servers import Servers
from benchmarks.stage import Stage

HERE = Path(__file__).parent
FOLDER = HERE / "profiles"
ROLES = {
    "publisher": "publish_many of all tasks",
    "parent": "a worker's parent, from its first task to its last",
    "child": "one of its two children, likewise",
}
"""Who is looked at, and while it does what."""

RATE = 100
SHOWN = 20


def main(
    tasks: Annotated[int, typer.Option(help="How many are published and drained.")] = 50_000,
) -> None:
    """Record a publish and a drain; writes benchmarks/profiles/."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="taskstream-bench-") as temporary:
        folder = Path(temporary)
        with Servers(folder) as servers, Stage(OURS, servers, folder) as stage:
            stage.ask("publish", n=1)  # what is done once is done
            with _Recording("publisher", stage.side_pid, folder):
                stage.ask("publish", n=tasks)
            stage.forget()
            stage.start()
            stage.await_runs(1)
            parent, child = _parent_and_child(stage)
            with _Recording("parent", parent, folder), _Recording("child", child, folder):
                stage.await_runs(tasks, look=0.05)
        stacks = {}
        for role in ROLES:
            stacks[role] = (folder / f"{role}.txt").read_text("utf-8")
            (FOLDER / f"{role}.txt").write_text(stacks[role], encoding="utf-8")
    (FOLDER / "README.md").write_text(page(stacks, commit(HERE), tasks), encoding="utf-8")
    print("wrote benchmarks/profiles/")


def hottest(collapsed: str) -> tuple[int, list[tuple[str, int, int]]]:
    """How many samples there are, and each function's share of them; those at work most come first.

    A function has the samples in which it was at work itself, and those in which it or what it called was.

    Args:
        collapsed: a line for each stack: frames from the outermost on, joined by ';', and a count.
    """
    itself: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in collapsed.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if frame]
        if not frames:
            continue
        itself[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    samples = sum(itself.values())
    return samples, [(frame, itself[frame], whole[frame]) for frame, _ in itself.most_common()]


def page(stacks: dict[str, str], taken_at: str, tasks: int) -> str:
    """The page beside the files."""
    lines = [
        "# Profiles",
        "",
        "<!-- Written by `make bench-profile`: run it, don't edit. -->",
        "",
        (
            f"Where the time goes while {tasks:,} no-op tasks are published and drained, at commit "
            f"{taken_at or 'unknown'}. The .txt files are collapsed stacks, one line a stack with its "
            "samples: open one at [speedscope](https://www.speedscope.app) (it stays in the browser), or "
            "make an SVG of it with any flame graph script. py-spy took "
            f"{RATE} samples a second, each of the thread that had the interpreter (GIL): so waiting does not "
            "count, and neither does what C code does without it (librdkafka's threads, sockets, compression). "
            "*Itself* is the share of samples in which a function was at the top, *whole* that in which "
            "it was anywhere. It slows what it looks at: compare shares, not times."
        ),
        "",
    ]
    for role, collapsed in stacks.items():
        samples, functions = hottest(collapsed)
        lines += [
            f"## {role.capitalize()}: {ROLES[role]}",
            "",
            f"{samples} samples, [{role}.txt]({role}.txt)",
            "",
        ]
        lines += ["| function | itself | whole |", "| --- | --- | --- |"]
        lines += [
            f"| `{frame}` | {100 * own / samples:.1f} % | {100 * whole / samples:.1f} % |"
            for frame, own, whole in functions[:SHOWN]
        ]
        lines.append("")
    return "\n".join(lines)


def without_places(collapsed: str, prefixes: Iterable[str]) -> str:
    """Collapsed stacks in which file names begin where the packages do, not where this machine has them."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        collapsed = collapsed.replace(prefix.rstrip("/") + "/", "")
    return collapsed


class _Recording:
    """py-spy on one process while it is entered."""

    def __init__(self, role: str, pid: int, folder: Path) -> None:
        self._file = folder / f"{role}.txt"
        program = Path(sys.executable).with_name("py-spy")
        command: Sequence[str] = [
            str(program), "record", "--pid", str(pid), "--format", "raw", "--function", "--rate", str(RATE),
            "--gil", "--output", str(self._file), "--full-filenames",
        ]  # fmt: skip
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(2)  # as Ctrl-C: it writes what it has
        said = self._process.communicate(timeout=60)[1]
        if not self._file.exists():
            raise SystemExit(f"py-spy recorded nothing: {said.decode(errors='replace').strip()}")
        places = [*sys.path, str(HERE.parent / "src"), str(HERE.parent), sys.base_prefix]
        content = without_places(self._file.read_text("utf-8"), [p for p in places if p])
        self._file.write_text(content, encoding="utf-8")


def _parent_and_child(stage: Stage) -> tuple[int, int]:
    parent = stage.workers.all[0]
    children = [one for one in parent.children() if _is_child(one)]
    return parent.pid, children[0].pid


def _is_child(process: psutil.Process) -> bool:
    return any("consumer.child" in word for word in process.cmdline())


if __name__ == "__main__":
    typer.run(main)
