"""In which protocol a member joins, and which refusals it waits out."""

import pytest

from taskstream.broker.cluster import Cluster
from taskstream.broker.failures import TimedOut
from taskstream.broker.joining import ASK_AGAIN, NAME_PATIENCE, Joining
from taskstream.core.clock import ManualClock
from taskstream.core.settings import Settings

AUTOMATIC = Settings(bootstrap_servers="k:9092")


def joining(settings: Settings, *protocols: str, clock: ManualClock | None = None) -> Joining:
    """On the way into a group of a cluster that says it speaks these."""
    cluster = Cluster(("k:9092",), protocols)
    return Joining(
        settings, group="g", clock=clock or ManualClock(), look=lambda _settings, _wait: cluster
    )


@pytest.mark.parametrize(
    ("spoken", "protocol"),
    [
        (("classic", "consumer", "streams"), "consumer"),
        (("classic",), "classic"),
        ((), "classic"),
    ],
)
def test_what_the_brokers_speak_decides(spoken: tuple[str, ...], protocol: str) -> None:
    """The new protocol where they say they have it; one that they hide is not relied on."""
    one = joining(AUTOMATIC, *spoken)

    assert one.ready()
    assert one.protocol == protocol


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_protocol_that_was_asked_for_is_never_changed(protocol: str) -> None:
    """Neither by what the brokers say nor by a refusal."""
    one = joining(Settings(kafka={"group.protocol": protocol}))

    assert one.ready()
    assert one.protocol == protocol
    assert not one.again("UNSUPPORTED_VERSION")


def test_the_embedded_broker_is_not_asked() -> None:
    """It does not say what it speaks, and speaks the new protocol."""
    one = joining(Settings(bootstrap_servers="embedded"))

    assert one.ready()
    assert one.protocol == "consumer"


def test_brokers_that_do_not_answer_are_asked_again_after_a_pause() -> None:
    """Nothing is decided by a silence."""
    clock = ManualClock()
    silent = True

    def look(_settings: Settings, _wait: float) -> Cluster:
        if silent:
            raise TimedOut("no answer")
        return Cluster(("k:9092",), ("consumer",))

    one = Joining(AUTOMATIC, group="g", clock=clock, look=look)

    with pytest.raises(TimedOut):
        one.ready()
    assert not one.ready()
    silent = False
    clock.advance(ASK_AGAIN)
    assert one.ready()
    assert one.protocol == "consumer"


def test_a_coordinator_that_refuses_the_new_protocol_gets_the_old_one() -> None:
    """Brokers list it, and have it switched off by a feature level: once, then that is final."""
    one = joining(AUTOMATIC, "classic", "consumer")
    assert one.ready()

    assert one.again("UNSUPPORTED_VERSION")
    assert one.protocol == "classic"
    assert one.ready()
    assert not one.again("UNSUPPORTED_VERSION")


def test_a_held_name_is_waited_for_as_long_as_a_session_can_last() -> None:
    """Its bearer may have crashed; one that lives longer than that is alive."""
    clock = ManualClock()
    one = joining(AUTOMATIC, "classic", "consumer", clock=clock)
    tries = 0
    while one.ready() and one.again("UNRELEASED_INSTANCE_ID"):
        assert not one.ready()
        clock.advance(ASK_AGAIN)
        tries += 1

    assert tries == NAME_PATIENCE / ASK_AGAIN


def test_any_other_refusal_is_final() -> None:
    """A member that may not join is told so at once."""
    one = joining(AUTOMATIC, "consumer")

    assert not one.again("GROUP_AUTHORIZATION_FAILED")


def test_brokers_that_have_spoken_are_not_asked_again() -> None:
    """Who has their answer passes it on, and the protocol is known from the start."""

    def look(_settings: Settings, _wait: float) -> Cluster:
        raise AssertionError("asked")

    one = Joining(
        AUTOMATIC, group="g", clock=ManualClock(), cluster=Cluster((), ("classic",)), look=look
    )
    assert one.protocol == "classic"
    assert one.ready()
