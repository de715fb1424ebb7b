"""The embedded broker: who owns it, who joins it, and what it does when it is full."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taskstream.broker.embedded import address, directory
from taskstream.broker.failures import QueueFull
from taskstream.broker.room import LIMIT_BYTES, group_of
from taskstream.broker.sender import Ack, Sender
from taskstream.broker.topics import Topics
from taskstream.core.envelope import Place
from taskstream.core.errors import ConfigError
from taskstream.core.settings import Settings

JOIN = """
import sys
from taskstream.broker.embedded import address
from taskstream.core.settings import Settings
print(address(Settings(bootstrap_servers="embedded", embedded_directory=sys.argv[1])))
"""

FORK = """
import os, sys
from taskstream.broker.sender import Sender
from taskstream.core.settings import Settings

settings = Settings(bootstrap_servers="embedded", embedded_directory=sys.argv[1])
sender = Sender(settings, client_id="test")

def send(heard):
    sender.send("a.tasks.high", b"", key=None, headers=[], on_done=lambda ack, _: heard(ack))
    sender.flush(10)

send(lambda ack: None)
child = os.fork()
if child:
    print(os.waitpid(child, 0)[1], flush=True)
send(lambda ack: print("sent" if ack else "lost", flush=True))
"""

OWN_AND_DIE = JOIN + "import os, signal; sys.stdout.flush(); os.kill(os.getpid(), signal.SIGKILL)"


def test_one_process_has_one_broker(embedded_settings: Settings) -> None:
    """However often it asks."""
    assert address(embedded_settings) == address(embedded_settings)


def test_a_second_process_joins(embedded_settings: Settings) -> None:
    """It finds the address beside the results."""
    first = address(embedded_settings)

    assert _run(JOIN, directory(embedded_settings)) == first


def test_a_broker_that_died_is_not_believed(tmp_path: Path) -> None:
    """Whoever comes next owns a new one, though the old address still stands there."""
    dead = _run(OWN_AND_DIE, tmp_path)
    assert json.loads((tmp_path / "cluster.json").read_text())["address"] == dead

    fresh = _run(JOIN, tmp_path)

    assert fresh != dead
    assert not (tmp_path / "cluster.json").exists()  # an owner that ends in peace cleans up


def test_nothing_configured_says_both_ways_out() -> None:
    """Servers of one's own, or none at all."""
    with pytest.raises(ConfigError, match=r"taskstream up.*embedded"):
        address(Settings())


def test_the_default_directory_is_the_users_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is set."""
    monkeypatch.setenv("XDG_STATE_HOME", "/state")

    assert directory(Settings()) == Path("/state/taskstream/embedded")
    assert directory(Settings(embedded_directory="/elsewhere")) == Path("/elsewhere")


def test_a_full_partition_waits_for_the_group_then_raises(embedded_settings: Settings) -> None:
    """Before the broker would drop records in silence; what a group has finished makes room."""
    topic = "full.tasks.high"
    sender = Sender(embedded_settings, client_id="test")
    acks: list[Ack | None] = []

    def send() -> None:
        sender.send(
            topic,
            b"x" * 100_000,
            key=b"same",
            headers=[],
            on_done=lambda ack, _: acks.append(ack),
            timeout=0.1,
        )

    fits = LIMIT_BYTES // 100_000 - 1  # what a record weighs beside its value is counted too
    for _ in range(fits):
        send()
    with pytest.raises(QueueFull, match="embedded broker is full"):
        send()
    assert sender.flush(10.0) == 0
    assert len(acks) == fits
    first = acks[0]
    assert first is not None
    with Topics(embedded_settings) as topics:
        topics.commit(topic, {Place(topic, first.partition): 10})
    for _ in range(10):
        send()
    with pytest.raises(QueueFull):
        send()

    assert sender.close(10.0) == 0


@pytest.mark.parametrize(
    ("topic", "group"),
    [
        ("shop.tasks.high", "shop.tasks.high"),
        ("shop.delay.5s", "shop.scheduler"),
        ("shop.replies", None),
        ("shop.dead", None),
        ("orders", None),
    ],
)
def test_groups_are_known_by_topic(topic: str, group: str | None) -> None:
    """Topics that no group works through aren't counted."""
    assert group_of(topic) == group


def test_looking_up_an_address_loads_no_client() -> None:
    """So a service that only publishes later starts fast."""
    code = (
        "import sys, taskstream.broker.embedded, taskstream.broker.settings, "
        "taskstream.broker.failures, taskstream.producer.producer\n"
        "print('confluent_kafka' in sys.modules, 'asyncio' in sys.modules)"
    )

    assert _run(code) == "False False"


def test_a_restart_reads_what_the_directory_says(embedded_settings: Settings) -> None:
    """The directory decides who shares a broker, not the process."""
    other = replace(
        embedded_settings, embedded_directory=embedded_settings.embedded_directory + "2"
    )

    assert address(other) != address(embedded_settings)


def test_a_forked_child_ends_like_any_process(tmp_path: Path) -> None:
    """It sends by itself and frees nothing of its parent's, which would hang or crash at exit."""
    assert _run(FORK, tmp_path) == "sent\n0\nsent"


def _run(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout.strip()
