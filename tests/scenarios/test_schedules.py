"""Schedules on real servers: one of several schedulers fires, whoever dies when, and each firing is run once.

Broken on purpose once, and seen to fail: ids of firings that are drawn anew; no look-up asked of the
worker; a state that is noted before the task is published; a scheduler that owns every partition; an end that
is never asked for.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.eventually import eventually
from tests.support.stage import ROOT, Stage

from taskstream.admin import audit, schedules
from taskstream.admin.schedules import ShownSchedule
from taskstream.broker.tail import read_to_end
from taskstream.core import faultpoints
from taskstream.core.cron import Every, instants
from taskstream.core.envelope import identity_of
from taskstream.core.errors import BadArguments, ConfigError, TaskstreamError, UnknownTask
from taskstream.core.schedule import Firings, Schedule, task_id
from taskstream.core.states import State
from taskstream.schemas.records import Records
from taskstream.schemas.schedules import Book, record_of

QUICKLY = json.dumps(
    {"group.protocol": "classic", "session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
)
"""A takeover within seconds."""


class Schedulers:
    """Schedulers of a stage's app, as processes of their own."""

    def __init__(self, stage: Stage, **environment: str) -> None:
        self._stage = stage
        self._environment = {"TASKSTREAM_KAFKA": QUICKLY, **environment}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1) -> None:
        """Starts so many more."""
        for _ in range(count):
            with (self._stage.directory / f"scheduler-{len(self._processes)}.log").open(
                "wb"
            ) as log:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "taskstream", "scheduler", "tests.support.jobs:app"],
                        cwd=ROOT,
                        env={**os.environ, **self._stage.environment, **self._environment},
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    )
                )  # fmt: skip

    def killed(self) -> bool:
        """Whether one of them has died of SIGKILL."""
        return any(one.poll() == -signal.SIGKILL for one in self._processes)

    def kill(self, chance: random.Random) -> None:
        """SIGKILL for any of those that are alive."""
        one = chance.choice([one for one in self._processes if one.poll() is None])
        one.kill()
        one.wait(10.0)

    def signal(self, pid: int, number: int) -> None:
        """Sends a signal to one of them."""
        (one,) = (one for one in self._processes if one.pid == pid)
        one.send_signal(number)

    def logs(self) -> str:
        """What they say, for a failing test."""
        files = sorted(self._stage.directory.glob("scheduler-*.log"))
        return "\n".join(file.read_text() for file in files)

    def end(self) -> None:
        """Ends all of them."""
        for one in self._processes:
            with suppress(ProcessLookupError):
                one.kill()
            one.wait(10.0)


@contextmanager
def schedulers(stage: Stage, count: int = 1, **environment: str) -> Iterator[Schedulers]:
    """So many schedulers, while the block lasts."""
    crew = Schedulers(stage, **environment)
    try:
        crew.start(count)
        yield crew
    finally:
        crew.end()


def shown(stage: Stage, name: str) -> ShownSchedule:
    """A schedule as it is listed."""
    (one,) = (one for one in schedules.schedules(stage.app) if one.name == name)
    return one


def published(stage: Stage, task: str = "normal") -> Counter[str]:
    """How often each id stands in the topic of a priority."""
    topic = stage.app.names.tasks("tasks", task)
    records = read_to_end(stage.app.settings, topic)
    return Counter(identity_of(record.headers)[0].decode() for record in records)


def runs(stage: Stage) -> Counter[str]:
    """How often each task was started."""
    return Counter(run.id for run in stage.journal)


def expected(stage: Stage, one: Schedule, first: float, last: float) -> list[str]:
    """The ids of all firings from one instant to another."""
    found: list[str] = []
    for instant in instants(one.when, first - 0.001):
        if instant > last:
            return found
        found.append(task_id(stage.app.name, one.name, instant))
    return found


def all_ran(stage: Stage, one: Schedule, last: float) -> None:
    """Whether every firing since the schedule was made, up to that one, was run exactly once."""
    wanted = expected(stage, one, one.since + 0.001, last)
    ran = runs(stage)
    assert {task: ran[task] for task in wanted} == dict.fromkeys(wanted, 1)
    assert not {task: count for task, count in ran.items() if count > 1}


def fired_until(stage: Stage, name: str, at: float) -> float:
    """The last instant that is noted, once it is past a time."""
    last = shown(stage, name).last
    assert last is not None
    assert last > at
    return last


def test_one_of_three_fires(stage: Stage) -> None:
    """Each second has one record, not three, and each is run once."""
    stage.worker("--no-scheduler")
    with schedulers(stage, 3) as crew:
        one = schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse")
        other = schedules.add(stage.app, "add", Every(1), {"n": 2}, name="other")
        last = eventually(lambda: fired_until(stage, "pulse", one.since + 8), 60, 0.5)
        eventually(lambda: fired_until(stage, "other", one.since + 8), 60, 0.5)
        eventually(lambda: all_ran(stage, one, last), 30, 0.5)
        eventually(lambda: all_ran(stage, other, last), 30, 0.5)
        assert set(published(stage).values()) == {1}, crew.logs()
        assert schedules.schedules(stage.app)[0].last_state in (State.SUCCEEDED, State.UNKNOWN)


@pytest.mark.parametrize("point", faultpoints.FIRING_POINTS)
def test_a_kill_at_any_point_gives_each_firing_one_task(
    stage: Stage, tmp_path: Path, point: str
) -> None:
    """The one that fires dies before, between and after publishing and noting; the others go on."""
    faults = tmp_path / "faults"
    faults.mkdir()
    stage.worker("--no-scheduler")
    with schedulers(stage, 2, **{faultpoints.VARIABLE: str(faults)}) as crew:
        one = schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse")
        eventually(lambda: fired_until(stage, "pulse", one.since + 2), 60, 0.5)
        for _ in range(2):
            died_at = time.time()
            (faults / point).write_text("kill")
            eventually(lambda: not (faults / point).exists(), 30)
            eventually(crew.killed, 10)
            crew.start()
            last = eventually(lambda: fired_until(stage, "pulse", died_at + 3), 90, 0.5)  # noqa: B023
        eventually(lambda: all_ran(stage, one, last), 30, 0.5)
        copies = Counter(published(stage).values())
        assert copies[2] == (2 if point == faultpoints.AFTER_FIRE else 0), crew.logs()
        assert shown(stage, "pulse").skipped == 0


def test_a_second_copy_is_known_to_another_worker_too(stage: Stage, tmp_path: Path) -> None:
    """Between the two copies the worker was replaced: only the store tells that the task has been run."""
    faults = tmp_path / "faults"
    faults.mkdir()
    worker = stage.worker("--no-scheduler")
    with schedulers(stage, 1, **{faultpoints.VARIABLE: str(faults)}) as crew:
        one = schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse")
        eventually(lambda: fired_until(stage, "pulse", one.since + 1), 60, 0.5)
        (faults / faultpoints.AFTER_FIRE).write_text("kill")
        eventually(crew.killed, 30)
        eventually(lambda: set(published(stage)) == set(runs(stage)), 30, 0.5)
        assert worker.stop() == 0
        stage.worker("--no-scheduler")
        begun_at = time.time()
        crew.start()
        last = eventually(lambda: fired_until(stage, "pulse", begun_at), 90, 0.5)
        eventually(lambda: all_ran(stage, one, last), 60, 0.5)
        assert Counter(published(stage).values())[2] == 1, crew.logs()
        assert max(runs(stage).values()) == 1


def test_one_that_was_frozen_sets_nobody_back(stage: Stage, tmp_path: Path) -> None:
    """Halted between publishing and noting, past its session: what it says when it wakes is over."""
    faults = tmp_path / "faults"
    faults.mkdir()
    stage.worker("--no-scheduler")
    with schedulers(stage, 2, **{faultpoints.VARIABLE: str(faults)}) as crew:
        one = schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse")
        eventually(lambda: fired_until(stage, "pulse", one.since + 2), 60, 0.5)
        (faults / faultpoints.AFTER_FIRE).write_text("stop")
        (left,) = eventually(lambda: list(faults.glob(f"{faultpoints.AFTER_FIRE}.*")), 30)
        frozen, frozen_at = int(left.suffix[1:]), time.time()
        eventually(lambda: fired_until(stage, "pulse", frozen_at + 3), 90, 0.5)
        crew.signal(frozen, signal.SIGCONT)
        woken_at = time.time()
        last = eventually(lambda: fired_until(stage, "pulse", woken_at + 3), 90, 0.5)
        eventually(lambda: all_ran(stage, one, last), 30, 0.5)
        # What remains of the key is the newer word, though the older one came after it.
        book = Book()
        book.hear(Records(), read_to_end(stage.app.settings, stage.app.names.schedules))
        assert book.firings["pulse"].seen >= last


def write(stage: Stage, *records: Schedule | Firings) -> None:
    """Puts records of the past into the schedules topic."""
    stage.app.orders().schedule([record_of(Records(), one) for one in records])


def missed(stage: Stage, catch_up: str, **how: object) -> tuple[Schedule, list[float]]:
    """A schedule that nobody was there to fire for an hour, and the three instants that were missed."""
    now = time.time()
    minutes = sorted(datetime.fromtimestamp(now - 600 * back, UTC).minute for back in (1, 2, 3))
    added = schedules.add(
        stage.app, "add", f"{','.join(map(str, minutes))} * * * *", {"n": 1},
        name=f"late-{catch_up}", catch_up=catch_up, **how,  # type: ignore[arg-type]
    )  # fmt: skip
    old = replace(added, since=now - 3600)
    write(stage, old, Firings(name=old.name, seen=now - 3500.0 - now % 1))
    due = list(_until(old, now - 3500, now))
    assert len(due) == 3
    return old, due


def _until(one: Schedule, after: float, now: float) -> Iterator[float]:
    for instant in instants(one.when, after):
        if instant > now:
            return
        yield instant


def test_after_a_stop_the_policy_decides(stage: Stage) -> None:
    """Of three that were missed `all` fires each, `once` the last, `skip` none, and the list says so."""
    plans = {policy: missed(stage, policy) for policy in ("all", "once", "skip")}
    stage.worker("--no-scheduler")
    wanted = {
        "all": plans["all"][1],
        "once": plans["once"][1][-1:],
        "skip": [],
    }
    ids = {
        policy: {task_id(stage.app.name, plans[policy][0].name, one) for one in wanted[policy]}
        for policy in plans
    }
    with schedulers(stage):

        def look() -> None:
            ran = runs(stage)
            assert ran == Counter(dict.fromkeys(set().union(*ids.values()), 1))
            skipped = {one.name: one.skipped for one in schedules.schedules(stage.app)}
            assert skipped == {"late-all": 0, "late-once": 2, "late-skip": 3}

        eventually(look, 60, 0.5)
        # A second one that starts makes up for nothing again.
        with schedulers(stage):
            before = schedules.add(stage.app, "add", Every(1), {"n": 2}, name="pulse")
            eventually(lambda: fired_until(stage, "pulse", before.since + 5), 60, 0.5)
        assert {task for task in runs(stage) if task in set().union(*ids.values())} == set().union(
            *ids.values()
        )
        assert max(runs(stage).values()) == 1


def test_skip_waits_for_the_end_of_the_last_one(stage: Stage, tmp_path: Path) -> None:
    """While its task runs no other comes; the first instant after its end fires again."""
    gate = tmp_path / "gate"
    stage.worker("--no-scheduler")
    with schedulers(stage):
        schedules.add(
            stage.app, "waits_for", Every(1), {"path": str(gate)}, name="slow", overlap="skip"
        )

        def passed_over() -> ShownSchedule:
            one = shown(stage, "slow")
            assert one.skipped >= 3
            return one

        one = eventually(passed_over, 60, 0.5)
        assert one.skipped_why == "the last one had not ended"
        assert len(runs(stage)) == 1
        gate.touch()
        eventually(lambda: len(runs(stage)) >= 3, 60, 0.5)
        assert max(runs(stage).values()) == 1


def test_queue_runs_one_after_the_other(stage: Stage, tmp_path: Path) -> None:
    """What comes due while a task runs waits, is listed, outlives the scheduler, and loses nothing."""
    gate = tmp_path / "gate"
    stage.worker("--no-scheduler")
    with schedulers(stage) as crew:
        one = schedules.add(
            stage.app, "waits_for", Every(2), {"path": str(gate)}, name="slow", overlap="queue"
        )
        eventually(lambda: len(shown(stage, "slow").pending) >= 3, 60, 0.5)
        assert len(runs(stage)) == 1
        crew.end()
    with schedulers(stage):
        gate.touch()
        last = eventually(lambda: fired_until(stage, "slow", one.since + 8), 60, 0.5)
        eventually(lambda: all_ran(stage, one, last), 60, 0.5)
    assert shown(stage, "slow").skipped == 0


def test_a_pause_holds_within_a_second_and_a_resume_makes_up_for_nothing(stage: Stage) -> None:
    """What would have come in the pause is no firing; `run` publishes one beside."""
    stage.worker("--no-scheduler")
    with schedulers(stage):
        one = schedules.add(stage.app, "add", Every(1), {"n": 1}, name="pulse", catch_up="all")
        eventually(lambda: fired_until(stage, "pulse", one.since + 1), 60, 0.5)
        paused = schedules.pause(stage.app, "pulse", reason="a test")
        task = schedules.run(stage.app, "pulse")
        assert stage.app.handle(task).result(30) == 2
        other = schedules.add(stage.app, "add", Every(1), {"n": 2}, name="other")
        eventually(lambda: fired_until(stage, "other", other.since + 4), 60, 0.5)
        held = shown(stage, "pulse")
        assert held.last is not None
        assert held.last <= paused.at + 1
        assert (held.paused, held.next) == (True, None)
        resumed = schedules.resume(stage.app, "pulse")
        last = eventually(lambda: fired_until(stage, "pulse", resumed.since + 2), 60, 0.5)
        wanted = set(expected(stage, one, resumed.since, last))
        known = set(expected(stage, one, one.since, held.last))
        ours = set(expected(stage, one, one.since, last))
        eventually(lambda: wanted <= set(runs(stage)), 30, 0.5)
        assert set(runs(stage)) & ours == wanted | known
        schedules.remove(stage.app, "pulse")
        assert [left.name for left in schedules.schedules(stage.app)] == ["other"]
    verbs = [(one.verb, one.target, one.reason) for one in audit.actions(stage.app)]
    assert verbs == [
        ("schedule", "schedule:pulse", ""), ("pause", "schedule:pulse", "a test"),
        ("run", "schedule:pulse", ""), ("schedule", "schedule:other", ""),
        ("resume", "schedule:pulse", ""), ("unschedule", "schedule:pulse", ""),
    ]  # fmt: skip


def test_what_can_not_be_is_refused_at_run_time(stage: Stage) -> None:
    """A bad line, an unknown task, wrong arguments, a name that is taken, an unknown name: nothing is written."""
    with pytest.raises(ConfigError, match="Bad minute"):
        schedules.add(stage.app, "add", "61 * * * *", {"n": 1})
    with pytest.raises(UnknownTask, match="nobody"):
        schedules.add(stage.app, "nobody", "@daily", {})
    with pytest.raises(BadArguments, match="argument n"):
        schedules.add(stage.app, "add", "@daily", {"n": "x"})
    with pytest.raises(BadArguments, match="no queue 'gpu'"):
        schedules.add(stage.app, "add", "@daily", {"n": 1}, queue="gpu")
    with pytest.raises(TaskstreamError, match="no schedule 'nightly'"):
        schedules.pause(stage.app, "nightly")
    assert schedules.schedules(stage.app) == []
    schedules.add(stage.app, "keyed", "@daily", {"customer": "c", "n": 1}, name="nightly")
    with pytest.raises(ConfigError, match="there is a schedule nightly already"):
        schedules.add(stage.app, "add", "@daily", {"n": 1}, name="nightly")
    nightly = shown(stage, "nightly")
    assert (nightly.key, nightly.arguments) == ("c", {"customer": "c", "n": 1})
    assert nightly.next is not None
    assert nightly.next % 86400 == 0


def test_a_firing_has_the_place_key_and_end_that_its_schedule_says(stage: Stage) -> None:
    """Priority, key and expiry are those of the definition; a late one that is too old expires."""
    old, due = missed(stage, "all", priority="low", key="k", expires=60.0)
    stage.worker("--no-scheduler")
    with schedulers(stage):
        ids = [task_id(stage.app.name, old.name, instant) for instant in due]
        store = stage.app.result_store()
        assert store is not None

        def look() -> None:
            rows = [rows[-1] for rows in store.read_many(ids).values() if rows]
            assert [(row.state, row.key, row.priority) for row in rows] == [
                (State.EXPIRED, "k", "low")
            ] * 3

        eventually(look, 60, 0.5)
    assert set(published(stage, "low")) == set(ids)
    assert not runs(stage)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_kills_at_random_moments_cost_and_double_nothing(stage: Stage) -> None:
    """Twenty schedules of a second, three schedulers, and eight times a kill -9 of any of them."""
    stage.worker("--no-scheduler")
    chance = random.Random(17)
    with schedulers(stage, 3) as crew:
        ones = [
            schedules.add(stage.app, "add", Every(1), {"n": n}, name=f"pulse-{n}")
            for n in range(20)
        ]
        last = eventually(lambda: fired_until(stage, "pulse-0", ones[0].since + 3), 60, 0.5)
        for _ in range(8):
            pause = last + chance.uniform(1.0, 12.0)
            last = eventually(lambda: fired_until(stage, "pulse-0", pause), 90, 0.05)  # noqa: B023
            crew.kill(chance)
            crew.start()
        ends = [
            eventually(lambda: fired_until(stage, one.name, last + 20), 120, 0.5)  # noqa: B023
            for one in ones
        ]
        for one, end in zip(ones, ends, strict=True):
            eventually(lambda: all_ran(stage, one, end), 60, 1.0)  # noqa: B023
        wanted = sum(
            len(expected(stage, one, one.since + 0.001, end))
            for one, end in zip(ones, ends, strict=True)
        )
        copies = Counter(published(stage).values())
        print(f"{wanted} firings, each run once; records by their number of copies: {dict(copies)}")  # noqa: T201 - shown by pytest -s
