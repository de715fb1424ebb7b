"""What becomes of tasks that fail, hang, die, or can't be read."""

from collections import Counter

import pytest
from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import State, TaskExpired, TaskFailed
from taskstream.broker.sender import Sender
from taskstream.core import envelope
from taskstream.core.envelope import Envelope, Header
from taskstream.producer.routing import partition_for


def test_a_task_that_fails_twice_works_in_the_end(stage: Stage) -> None:
    """Two failures go through the delay topics, the third attempt succeeds; each has its row."""
    stage.worker()
    handle = stage.task("fails_twice").publish(7)
    assert handle.result(timeout=30) == "7 at last"
    assert [(row.attempt, row.state, row.error_type) for row in stage.rows(handle)] == [
        (1, State.RETRYING, "ConnectionError"),
        (2, State.RETRYING, "ConnectionError"),
        (3, State.SUCCEEDED, None),
    ]


def test_a_task_that_never_works_is_a_dead_letter(stage: Stage) -> None:
    """After its last attempt the record lies in the dead topic byte for byte, with the reason."""
    stage.worker()
    handle = stage.task("never_works").publish(7)
    with pytest.raises(TaskFailed) as failed:
        handle.result(timeout=30)
    assert (failed.value.type, failed.value.message, failed.value.attempts) == (
        "ValueError",
        "no 7 will do",
        3,
    )
    assert 'raise ValueError(f"no {n} will do")' in failed.value.traceback

    (letter,) = eventually(stage.dead_letters)
    read = envelope.read(letter.headers)
    assert (read.id, read.task, read.attempt) == (handle.id, "never_works", 3)
    assert read.death is not None
    assert (read.death.reason, read.death.message) == ("ValueError", "no 7 will do")
    assert read.death.origin.startswith(f"{stage.app.name}.tasks.normal/")
    assert letter.value is not None
    assert letter.value.startswith(b"\xc3\x01")


def test_a_death_is_told_to_its_on_dead_task(stage: Stage) -> None:
    """The `on_dead` task is published once, with the id, the reason and the message."""
    stage.worker()
    handle = stage.task("dies_loudly").publish()
    with pytest.raises(TaskFailed):
        handle.result(timeout=30)
    heard = eventually(
        lambda: [run for run in stage.journal if run.task == "hears_of_it"], timeout=30
    )
    assert [run.more["about"] for run in heard] == [handle.id]
    told = stage.app.handle(heard[0].id).result(timeout=30)
    assert told == f"dies_loudly {handle.id}: ValueError, listen"


def test_fatal_and_bad_results_are_not_tried_again(stage: Stage) -> None:
    """`Fatal` and a result that can't be encoded end a task at its first attempt."""
    stage.worker()
    handles = [stage.task("gives_up").publish(1), stage.task("returns_nonsense").publish()]
    stage.wait_for(handles, {State.DEAD: 2})
    assert [[row.error_type for row in stage.rows(handle)] for handle in handles] == [
        ["Fatal"],
        ["ResultError"],
    ]


def test_snooze_costs_no_attempt_and_retry_after_waits(stage: Stage) -> None:
    """A task of one attempt may snooze twice; RetryAfter is never early."""
    stage.worker()
    snoozer = stage.task("comes_back").publish(2)
    obeyer = stage.task("obeys_retry_after").publish()
    assert snoozer.result(timeout=30) == 3
    assert obeyer.result(timeout=30) == 2
    first, second = [run.at for run in stage.journal if run.task == "obeys_retry_after"]
    assert second - first >= 0.3


def test_broken_bytes_die_at_once_and_the_line_moves_on(stage: Stage) -> None:
    """Undecodable values and headers become dead letters unchanged; their partition goes on."""
    topic = stage.app.names.tasks("tasks", "normal")
    sender = Sender(stage.app.settings, client_id="another-producer")
    broken: list[tuple[bytes, list[Header]]] = [
        (b"no avro at all", envelope.write(Envelope("add", id="broken-1"))),
        (b"\xc3\x01short", envelope.write(Envelope("add", id="broken-2"))),
        (b"anything", [("ts-task", b"add"), ("ts-run", b"many")]),
        (b"anything", [("something", b"else")]),
    ]
    for value, headers in broken:
        sender.send(
            topic, value, key=b"k", headers=headers, on_done=lambda _ack, _error: None, partition=0
        )
    assert sender.close(10.0) == 0
    handles = stage.task("add").publish_many({"n": n} for n in range(40))
    stage.worker()

    stage.wait_for(handles, {State.SUCCEEDED: 40})
    letters = eventually(
        lambda: letters if len(letters := stage.dead_letters()) == len(broken) else []
    )
    assert sorted(letter.value or b"" for letter in letters) == sorted(value for value, _ in broken)
    reasons = [dict(letter.headers)["ts-dead-reason"] for letter in letters]
    assert Counter(reasons) == {b"Undecodable": 4}
    assert {("ts-run", b"many"), ("something", b"else")} <= {
        header for letter in letters for header in letter.headers
    }


def test_an_expired_task_does_not_run(stage: Stage) -> None:
    """A task that a worker reaches after its `expires` ends as expired, unrun."""
    handle = stage.task("add").options(expires=0.001).publish(1)
    stage.worker()
    with pytest.raises(TaskExpired):
        handle.result(timeout=30)
    assert stage.journal == []


def test_no_error_silences_a_child(stage: Stage) -> None:
    """SystemExit in a coroutine and an error of no UTF-8 text are outcomes like any other."""
    stage.worker("--children", "1")
    handles = [stage.task("exits").publish(), stage.task("says_the_unsayable").publish()]
    stage.wait_for(handles, {State.DEAD: 2})
    assert [[row.error_type for row in stage.rows(handle)] for handle in handles] == [
        ["SystemExit"],
        ["FileNotFoundError"],
    ]
    others = stage.task("add").publish_many({"n": n} for n in range(20))
    stage.wait_for(others, {State.SUCCEEDED: 20})
    eventually(lambda: len(stage.dead_letters()) == 2, timeout=30)


def test_headers_out_of_range_are_dead_letters(stage: Stage) -> None:
    """Numbers that no store or client could take end where they enter; the worker goes on."""
    topic = stage.app.names.tasks("tasks", "normal")
    sender = Sender(stage.app.settings, client_id="another-producer")
    for name, value in [
        ("ts-run", b"1180591620717411303424"),
        ("ts-reply-to", b"x/1099511627776"),
        ("ts-home", b"x/1099511627776"),
        ("ts-published", b"inf"),
    ]:
        headers: list[Header] = [("ts-task", b"add"), (name, value)]
        sender.send(topic, b"x", key=b"k", headers=headers, on_done=lambda _ack, _error: None)
    assert sender.close(10.0) == 0
    stage.worker()
    handles = stage.task("add").publish_many({"n": n} for n in range(20))
    stage.wait_for(handles, {State.SUCCEEDED: 20})
    eventually(lambda: len(stage.dead_letters()) == 4, timeout=30)


def test_a_hot_key_holds_up_no_other(stage: Stage) -> None:
    """With one key's first task running and hundreds behind it, other keys of the priority go on."""
    gate = stage.directory / "gate"
    hot = stage.task("waits_for").options(key="hot", unordered=True)
    handles = hot.publish_many({"path": str(gate)} for _ in range(700))
    stage.worker()
    eventually(lambda: len(stage.journal) == 1, timeout=30)
    others = stage.task("add").publish_many({"n": n} for n in range(100))
    elsewhere = [one for one in others if _partition(one.id, 4) != _partition("hot", 4)]
    stage.wait_for(elsewhere, {State.SUCCEEDED: len(elsewhere)})
    gate.touch()
    stage.wait_for(handles, {State.SUCCEEDED: 700})


def _partition(key: str, count: int) -> int:
    return partition_for(key.encode(), count)


def test_an_unknown_task_gets_its_grace(stage: Stage) -> None:
    """Publishers are rolled out before workers, and no dead letter comes of it."""
    old = stage.worker(without="add")
    handles = stage.task("add").publish_many({"n": n} for n in range(20))
    stage.wait_for(handles, {State.RETRYING: 20})
    assert old.stop() == 0
    stage.worker()
    stage.wait_for(handles, {State.SUCCEEDED: 20})
    assert stage.dead_letters() == []
    assert {run.attempt for run in stage.journal} == {1}, (
        "waiting for the deploy counts as no attempt"
    )
