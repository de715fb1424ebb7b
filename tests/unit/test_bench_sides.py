"""What runs beside a contender: the tally that its tasks count in, and the methods of every side."""

import ast
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from benchmarks.contenders import CONTENDERS
from benchmarks.profiles import hottest, without_places
from benchmarks.sides.tally import Tally, read_waits

BENCH = Path(__file__).parents[2] / "benchmarks"
METHODS = {"publish", "settle", "latency", "reset", "close"}


def _run(path: Path, times: int) -> None:
    _count(Tally(path), times)


def _count(tally: Tally, times: int) -> None:
    for _ in range(times):
        tally.ran()


def test_a_tally_counts_over_threads_and_processes(tmp_path: Path) -> None:
    """Nobody's count is lost, and `clear` begins anew."""
    path = tmp_path / "tally"
    tally = Tally(path)
    threads = [threading.Thread(target=_count, args=(tally, 500)) for _ in range(4)]
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_run, args=(path, 300)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for process in processes:
        process.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert tally.count == 4 * 500 + 2 * 300
    assert 0 < tally.first <= time.monotonic()
    tally.clear()
    assert (tally.count, tally.first) == (0, 0)


def test_a_tally_keeps_how_long_tasks_waited(tmp_path: Path) -> None:
    """In seconds, until it is cleared."""
    path = tmp_path / "tally"
    tally = Tally(path)
    tally.waited(0.0)
    assert len(read_waits(path)) == tally.count == 1
    assert read_waits(path)[0] > 1e9
    tally.clear()
    assert read_waits(path) == []


def test_every_side_has_the_methods_that_the_bench_asks_for() -> None:
    """By their source, for the peers' packages are not here; the bare loop has other ones."""
    for contender in CONTENDERS:
        folder = "peers" if contender.peer else "sides"
        source = (BENCH / folder / f"{contender.side}.py").read_text()
        side = next(
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.ClassDef) and node.name == "Side"
        )
        methods = {
            node.name for node in side.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }  # fmt: skip
        wanted = (
            {"publish", "produce", "drain", "floor", "close"}
            if contender.name == "bare"
            else METHODS
        )
        assert wanted <= methods, contender.name


def test_the_hottest_functions_are_those_found_at_the_top_most_often() -> None:
    """A function that calls itself counts once a sample."""
    samples, functions = hottest("main;run;run 3\nmain;run;send 5\nmain 2\n")
    assert samples == 10
    assert functions == [("send", 5, 5), ("run", 3, 8), ("main", 2, 10)]


def test_profiles_name_no_place_of_the_machine() -> None:
    """The longest prefix goes first."""
    assert without_places("f (/a/b/c.py);g (/a/d.py) 1", ["/a", "/a/b"]) == "f (c.py);g (d.py) 1"


def test_a_steady_rate_is_kept_whatever_results_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each result is timed from before its publish, in the order of the publishes."""
    monkeypatch.syspath_prepend(str(BENCH / "sides"))
    serving = importlib.import_module("serving")
    got: list[float] = []
    found = serving.paced(1000.0, 0.02, lambda published: published, got.append)
    assert len(found) == len(got) == 20
    assert got == sorted(got)
    assert min(found) >= 0


def test_a_side_answers_line_by_line(tmp_path: Path) -> None:
    """Ready, an answer with its seconds, or an error; it ends with its input."""
    (tmp_path / "small.py").write_text(
        "class Side:\n"
        "    def double(self, n): print('noise'); return 2 * n\n"
        "    async def later(self): return 'done'\n"
        "    def fail(self): raise ValueError('no')\n"
    )
    asked = ['{"do": "double", "n": 4}', '{"do": "later"}', '{"do": "fail"}']
    ended = subprocess.run(
        [sys.executable, "-m", "serving", "small"],
        input="\n".join(asked) + "\n", capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": f"{BENCH / 'sides'}{os.pathsep}{tmp_path}"},
    )  # fmt: skip
    ready, double, later, failed = (json.loads(line) for line in ended.stdout.splitlines())
    assert ready == {"answer": "ready"}
    assert double["answer"] == 8
    assert double["seconds"] >= 0
    assert later["answer"] == "done"
    assert "ValueError: no" in failed["error"]
