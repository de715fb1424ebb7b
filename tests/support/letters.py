"""Dead letters written by hand, as a worker would have: for what needs no worker to show."""

from dataclasses import replace
from typing import Any

from taskstream.admin.payloads import Payloads
from taskstream.broker.sender import Sender, unheard
from taskstream.core.envelope import Death, Envelope, Header, bury, write
from taskstream.core.states import State
from taskstream.results.batching import Batcher
from taskstream.results.row import Row
from tests.support.stage import Stage


def value_of(stage: Stage, task: str, **arguments: Any) -> bytes:
    """The value of a record for a task."""
    return Payloads(stage.app).encode(task, arguments)


def bury_by_hand(stage: Stage, envelope: Envelope, value: bytes | None, **of_death: Any) -> None:
    """Writes one letter, without any row: `reason`, `message`, `origin` and `at` of its death as given."""
    headers: list[Header] = write(envelope)
    death = replace(
        Death("Fatal", "by hand", f"{stage.app.name}.tasks.normal/1/7", 1.0), **of_death
    )
    sender = Sender(stage.app.settings, client_id="by-hand")
    sender.send(
        stage.app.names.dead, value,
        key=envelope.id.encode(), headers=bury(headers, death, ()), on_done=unheard,
    )  # fmt: skip
    assert sender.close(10.0) == 0


def store_by_hand(stage: Stage, *rows: Row) -> None:
    """Writes rows."""
    store = stage.app.result_store()
    assert store is not None
    batcher: Batcher[Row] = Batcher(store, stored=lambda _: None, refused=lambda _, error: None)
    batcher.add([(row, row) for row in rows])
    assert batcher.close(10.0) == 0


def dead_row(task_id: str, task: str = "pays", run: int = 0, attempt: int = 1) -> Row:
    """The row of a run that died."""
    return Row(task_id, run, attempt, State.DEAD, task, 1, error_type="Fatal", error="by hand")
