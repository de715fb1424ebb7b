"""A Kafka without the new group protocol: workers use the classic one, unless told not to.

Broken on purpose once, to see each of these fail: the question to the brokers left out (the first
test hangs in its assignments), and the second try after a refusal left out (the second one ends with
the refusal).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.brokers import PARTITIONS, fresh
from tests.support.listening import Member
from tests.support.servers import needs_program, settings_on_free_ports
from tests.support.stage import staged

from taskstream import State
from taskstream.broker.cluster import Cluster
from taskstream.core.errors import BrokerError
from taskstream.core.settings import Settings
from taskstream.infra.catalogue import Server
from taskstream.infra.lifecycle import down, up


@pytest.fixture(scope="module")
def classic_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka that knows only the classic protocol."""
    settings = settings_on_free_ports(
        tmp_path_factory.mktemp("classic"),
        way="processes",
        kafka_properties="group.coordinator.rebalance.protocols=classic",
    )
    needs_program(Server.KAFKA, settings)
    up(settings, [Server.KAFKA])
    yield settings.address(Server.KAFKA)
    down(settings, wipe=True)


def test_a_worker_falls_back_by_itself(classic_kafka: str, cassandra: str, tmp_path: Path) -> None:
    """Intakes and scheduler alike: tasks run, a retry comes back, and each group says once why."""
    with staged(tmp_path, bootstrap_servers=classic_kafka, cassandra_hosts=cassandra) as stage:
        worker = stage.worker()
        handles = [stage.task("add").publish(number) for number in range(20)]
        handles += [stage.task("fails_twice").publish(1)]
        stage.wait_for(handles, {State.SUCCEEDED: 21})
        assert worker.stop() == 0, stage.logs()
        assert stage.left_over() == 0
        log = worker.log.read_text()
        assert log.count("joining by the classic group protocol") == 4, log


def test_a_member_that_is_refused_joins_by_the_other_protocol(classic_kafka: str) -> None:
    """The brokers list the new protocol, and refuse it all the same: a feature level switches it off."""
    both = Cluster((classic_kafka,), ("classic", "consumer"))
    with (
        fresh(Settings(bootstrap_servers=classic_kafka)) as broker,
        Member(broker) as member,
    ):
        member.consumer._joining._look = lambda _settings, _wait: both
        member.until(lambda: len(member.heard.assignments) == PARTITIONS)

    assert member.heard.failures == []


def test_a_protocol_that_was_asked_for_stays(classic_kafka: str) -> None:
    """The member ends with an error that says what to do instead."""
    settings = Settings(bootstrap_servers=classic_kafka, kafka={"group.protocol": "consumer"})
    with fresh(settings) as broker, Member(broker) as member:
        with pytest.raises(BrokerError, match=r'set kafka=\{"group.protocol": "classic"\}'):
            member.until(lambda: bool(member.heard.assignments))

        ((error, fatal),) = member.heard.failures

    assert fatal
    assert "UNSUPPORTED_VERSION" in str(error)
