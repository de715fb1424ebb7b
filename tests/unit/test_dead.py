"""Dead letters in the embedded mode: one is listed, shown, redriven as corrected, and another one purged."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskstream import App, State
from taskstream.admin import audit, dead
from taskstream.admin.letters import letters
from taskstream.admin.payloads import Payloads
from taskstream.admin.redrive import redrive
from taskstream.admin.selection import Selection
from taskstream.broker.sender import Sender, unheard
from taskstream.broker.tail import read_to_end
from taskstream.core.envelope import Death, Envelope, bury, read, write

TOPIC = "shop.tasks.normal"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """An app with a task, its topic, and two dead letters."""
    app = App("shop", bootstrap_servers="embedded", embedded_directory=str(tmp_path))

    @app.task
    def pays(order_id: str, cents: int) -> int:
        return cents

    value = Payloads(app).encode("pays", {"order_id": "o", "cents": -1})
    assert read_to_end(app.settings, TOPIC) == []
    sender = Sender(app.settings, client_id="by-hand")
    for number, reason in ((1, "ValueError"), (2, "Fatal")):
        death = Death(reason, "no", f"{TOPIC}/1/{number}", float(number))
        headers = bury(write(Envelope("pays", id=f"o-{number}")), death, ())
        key = f"o-{number}".encode()
        sender.send(app.names.dead, value, key=key, headers=headers, on_done=unheard)
    assert sender.close(10.0) == 0
    yield app
    app.close()


def test_without_any_server(app: App) -> None:
    """The same functions, on the broker and the store of the embedded mode."""
    assert [one.id for one in letters(app).letters] == ["o-2", "o-1"]
    shown = dead.show(app, "o-1")
    assert shown.arguments == {"order_id": "o", "cents": -1}
    assert (shown.state, shown.home, shown.tries) == (State.UNKNOWN, "shop.tasks.normal/1", ())

    done = redrive(
        app, Selection(where="cents < 0", reason="V*"), changes={"cents": 3}, reason="why"
    )
    assert (done.selected, done.redriven) == (1, 1)
    (record,) = read_to_end(app.settings, TOPIC)
    assert (record.partition, read(record.headers).run) == (1, 1)
    assert Payloads(app).decode(record.value) == {"order_id": "o", "cents": 3}
    assert app.handle("o-1").state() is State.WAITING
    (asked,) = dead.show(app, "o-1").tries
    assert (asked.run, asked.attempt, asked.error) == (1, 0, "why")

    assert dead.purge(app).purged == 1
    assert letters(app).letters == ()
    hows = {one.id: one.closed.how for one in letters(app, closed=True).letters if one.closed}
    assert hows == {"o-1": "redriven", "o-2": "purged"}
    assert [one.verb for one in audit.actions(app)] == ["redrive", "purge"]


def test_progress_is_told_and_a_stop_is_obeyed(app: App) -> None:
    """Before the first batch nothing has been done; what is left is counted."""
    told: list[tuple[int, int]] = []
    done = redrive(app, stop=lambda: True, progress=lambda *steps: told.append(steps))
    assert (done.redriven, done.left, told) == (0, 2, [(0, 2)])
    done = redrive(app, rate=1000.0, progress=lambda *steps: told.append(steps))
    assert (done.redriven, done.left, told[-1]) == (2, 0, (2, 2))


def test_what_was_interrupted_is_on_record(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redrive that ends in an error tells in the audit log how far it came."""

    def interrupt(_through: int, _total: int) -> None:
        if _through:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        redrive(app, rate=1.0, progress=interrupt)
    (action,) = audit.actions(app)
    assert (action.verb, action.count) == ("redrive", 1)
    assert len(letters(app).letters) == 1
