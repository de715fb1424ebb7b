"""Publish, run, record, commit: ten thousand tasks, two workers of two children each."""

from collections import Counter

from tests.support.cql import session
from tests.support.stage import Stage

from taskstream import State


def test_ten_thousand_tasks_end_and_nothing_is_left_over(stage: Stage, cassandra: str) -> None:
    """Every task has exactly one `succeeded` row, and the offsets stand at the ends of the topics."""
    workers = [stage.worker("--exit-when-empty", "--no-scheduler") for _ in range(2)]
    handles = stage.task("add").publish_many({"n": n} for n in range(10_000))

    stage.wait_for(handles, {State.SUCCEEDED: 10_000})
    assert [worker.wait() for worker in workers] == [0, 0], stage.logs()

    with session(cassandra) as cql:
        rows = cql.execute(f'SELECT task_id, state FROM "{stage.app.settings.keyspace}".results')
        found = Counter((row.task_id, row.state) for row in rows)
    assert found == Counter((handle.id, "succeeded") for handle in handles)
    assert stage.left_over() == 0
    assert Counter(run.id for run in stage.journal) == Counter(handle.id for handle in handles)
    assert stage.dead_letters() == []


def test_results_come_back_typed(stage: Stage) -> None:
    """Coroutines, threads and processes serve one queue, and each result has its type."""
    stage.worker()
    jobs = {
        "add": ({"n": 1}, 2),
        "add_in_thread": ({"n": 2}, "2 in a thread"),
        "add_in_process": ({"n": 3}, "3 in a process"),
    }
    handles = {name: stage.task(name).publish(**arguments) for name, (arguments, _) in jobs.items()}
    assert {name: handle.result(timeout=30) for name, handle in handles.items()} == {
        name: value for name, (_, value) in jobs.items()
    }
    receipt = stage.task("receipt").publish("o-17", cents=1200).result(timeout=30)
    assert (receipt.order_id, receipt.cents) == ("o-17", 1200)
    (in_process,) = [run for run in stage.journal if run.task == "add_in_process"]
    assert in_process.more == {"main": "True"}


def test_a_task_knows_itself(stage: Stage) -> None:
    """`current()` tells name, attempt, key and what the lifespan yielded."""
    stage.worker()
    handle = stage.task("tells_itself").publish()
    assert handle.result(timeout=30) == "tells_itself 1 None resources are here"


def test_a_task_publishes_another(stage: Stage) -> None:
    """A task may publish; the child of the chain ends like any other."""
    stage.worker()
    child_id = stage.task("publishes_another").publish(41).result(timeout=30)
    assert stage.app.handle(child_id).result(timeout=30) == 42


def test_the_same_id_counts_once(stage: Stage) -> None:
    """Copies with the caller's own id run once, whether they come early or late."""
    first = [stage.task("add").options(id="inv-9").publish(1) for _ in range(3)]
    stage.worker()
    assert [handle.result(timeout=30) for handle in first] == [2, 2, 2]
    assert stage.task("add").options(id="inv-9").publish(1).result(timeout=30) == 2
    assert [run.id for run in stage.journal] == ["inv-9"]
