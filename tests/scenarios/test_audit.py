"""What people did is on record in the events topic.

Broken on purpose once, and seen to fail: `admin.tasks.cancel` without its record.
"""

import getpass

from tests.support.eventually import eventually
from tests.support.stage import Stage

from taskstream import Handle, State
from taskstream.admin import audit, tasks


def _ended(handle: Handle[object]) -> None:
    assert handle.state() is State.CANCELLED


def test_an_action_is_on_record_with_who_did_what_to_what_and_why(stage: Stage) -> None:
    """A cancel that was asked for is on record once; one that came too late is not."""
    handle = stage.task("add").publish(1)
    done = tasks.cancel(stage.app, handle.id, reason="sent twice")
    assert (done.requested, done.state) == (True, State.UNKNOWN)
    stage.worker()
    eventually(lambda: _ended(handle))
    assert not tasks.cancel(stage.app, handle.id).requested
    (action,) = audit.actions(stage.app)
    assert (action.verb, action.target, action.reason) == ("cancel", handle.id, "sent twice")
    assert action.who.split("@")[0] == getpass.getuser()


def test_what_else_was_said_is_kept_as_text_and_the_oldest_action_comes_first(stage: Stage) -> None:
    """Details, counts and order survive the way through the topic."""
    audit.record(stage.app, "purge", "queue:tasks", count=7, details={"where": "n > 1"})
    audit.record(stage.app, "pause", "task:add")
    first, second = audit.actions(stage.app)
    assert (first.verb, first.count, dict(first.details)) == ("purge", 7, {"where": "n > 1"})
    assert (second.verb, second.count, second.reason) == ("pause", None, "")
    assert first.at <= second.at
