"""Promise 5: tasks of one key run one at a time, in publish order; others run beside them.

Broken on purpose once, and seen to fail: `Lanes.push` without the lock on the key; a strict retry that
is handed off; `recall` that takes a strict task's first row for its last.
"""

from collections import defaultdict

from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State
from taskstream.core import envelope

HOWS = ["third", "works", "dies", "works", "snoozes", "works", "later", "works"]
ATTEMPTS = [(0, 1), (0, 2), (0, 3), (1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1), (4, 1), (5, 1),
            (6, 1), (6, 2), (7, 1)]  # fmt: skip
"""What `HOWS` come to under strict order: each task's number, and its attempts as it counts them."""


def strict_starts(stage: Stage, key: str) -> list[tuple[int, int]]:
    """The starts of a key's strict tasks: their numbers and attempts, as they happened."""
    runs = [run for run in stage.journal if run.more.get("key") == key]
    return [(int(run.more["n"]), int(run.more["counted"])) for run in runs]


def test_a_key_keeps_its_order_and_only_its_own(stage: Stage) -> None:
    """Forty keys, two workers of two children: each key's tasks start in the order of publish."""
    handles = stage.task("keyed").publish_many(
        {"customer": f"c{n % 40}", "n": n} for n in range(2_000)
    )
    for _ in range(2):
        stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 2_000})
    starts: dict[str, list[int]] = defaultdict(list)
    for run in sorted(stage.journal, key=lambda run: run.at):
        starts[run.more["key"]].append(int(run.more["n"]))
    assert len(starts) == 40
    assert all(numbers == sorted(numbers) for numbers in starts.values())
    assert len({run.pid for run in stage.journal}) > 1


def test_a_strict_retry_holds_its_key_and_no_other(stage: Stage) -> None:
    """Failures, a death, a snooze, a RetryAfter: the key waits for each, other keys don't."""
    strict = stage.task("in_strict_order")
    gate = stage.directory / "gate"
    held = strict.publish_many(
        {"customer": "held", "n": n, "how": how} for n, how in enumerate([str(gate), "works"])
    )
    handles = strict.publish_many(
        {"customer": "c", "n": n, "how": how} for n, how in enumerate(HOWS)
    )
    stage.worker("--no-scheduler")
    stage.wait_for(handles, {State.SUCCEEDED: 7, State.DEAD: 1})
    assert strict_starts(stage, "c") == ATTEMPTS
    assert {n for n, _ in strict_starts(stage, "held")} == {0}
    gate.touch()
    stage.wait_for(held, {State.SUCCEEDED: 2})
    (letter,) = eventually(stage.dead_letters)
    read = envelope.read(letter.headers)
    assert (read.id, read.attempt) == (handles[2].id, 3)
    assert [row.attempt for row in stage.rows(handles[4])] == [1, 2]


def test_a_strict_retry_survives_its_worker(stage: Stage) -> None:
    """Kill -9 while a retry waits in memory: its next owner goes on with the next attempt, in order."""
    handles = stage.task("in_strict_order").publish_many(
        {"customer": "c", "n": n, "how": how} for n, how in enumerate(["later", "third", "works"])
    )
    worker = stage.worker("--no-scheduler")
    stage.wait_for(handles[:1], {State.RETRYING: 1})
    worker.kill()
    stage.worker("--no-scheduler")
    stage.wait_for(handles, {State.SUCCEEDED: 3}, timeout=90)
    assert strict_starts(stage, "c") == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert [row.attempt for row in stage.rows(handles[0])] == [1, 2]
