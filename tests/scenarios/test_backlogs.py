"""What waits too long is said: the task at a partition's head that holds it, and a queue that nobody reads."""

from dataclasses import asdict

from tests.support.eventually import eventually
from tests.support.jobs import build
from tests.support.pages import Pages
from tests.support.stage import Stage

from taskstream import App, State
from taskstream.admin.doctor import Finding, Health, examine
from taskstream.consumer.parent.partitions import WINDOW_FULL
from taskstream.producer.routing import partition_for


def test_the_task_that_holds_its_partition_is_named(stage: Stage) -> None:
    """With a full window behind a running key: one warning with the head, and other partitions go on."""
    gate = stage.directory / "gate"
    pages = Pages.of(stage)
    (worker,) = stage.workers
    head = stage.task("waits_for").options(key="one", unordered=True).publish(str(gate))
    eventually(lambda: len(stage.journal) == 1, timeout=60)
    add = stage.task("add").options(key="one", unordered=True)
    behind = add.publish_many({"n": n} for n in range(WINDOW_FULL + 100))
    eventually(lambda: "takes in no more" in worker.log.read_text(), timeout=60)
    (line,) = [line for line in worker.log.read_text().splitlines() if "takes in no more" in line]
    assert f"task=waits_for task_id={head.id}" in line
    assert "running_s=" in line
    assert pages.metric("taskstream_paused") == 1
    assert pages.metric("taskstream_oldest_age_seconds") >= 5
    others = stage.task("add").publish_many({"n": n} for n in range(40))
    held = partition_for(b"one", stage.app.settings.partitions)
    elsewhere = [
        handle
        for handle in others
        if partition_for(handle.id.encode(), stage.app.settings.partitions) != held
    ]
    stage.wait_for(elsewhere, {State.SUCCEEDED: len(elsewhere)})
    assert pages.problems("ready") == []

    gate.touch()
    stage.wait_for([head, *behind, *others], {State.SUCCEEDED: 1 + len(behind) + 40}, timeout=90)
    eventually(lambda: "takes in again" in worker.log.read_text(), timeout=15)
    eventually(lambda: pages.metric("taskstream_paused") == 0, timeout=15)


def test_doctor_tells_of_a_queue_that_nobody_reads(stage: Stage) -> None:
    """A task that has waited for half of the retention is a failure that names its topic."""
    handle = stage.task("add").publish(1)
    settings = asdict(stage.app.settings)
    with build(stage.app.name, **settings) as patient:
        assert _backlog(patient).health is Health.OK
    with build(stage.app.name, **{**settings, "retention": 4.0}) as impatient:
        eventually(lambda: _backlog(impatient).health is Health.FAIL, timeout=30)
        assert f"{stage.app.name}.tasks.normal (1 tasks" in _backlog(impatient).detail
        stage.worker()
        handle.result(timeout=60)
        eventually(lambda: _backlog(impatient).health is Health.OK, timeout=30)


def _backlog(app: App) -> Finding:
    (found,) = [one for one in examine(lambda: app) if one.check == "backlog"]
    return found
