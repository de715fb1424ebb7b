"""What `init` plans: pure, from names, queues and settings."""

import pytest

from taskstream import App, Queue
from taskstream.admin.provision import check, check_limits, groups, plan, specs_of
from taskstream.core.errors import ConfigError
from taskstream.core.names import Names
from taskstream.core.settings import Settings
from taskstream.core.tiers import DAY

NAMES = Names("shop")
QUEUES = {"tasks": {"high": 6, "low": 1}}


def planned(**settings: object) -> dict[str, dict[str, str]]:
    return {
        spec.name: dict(spec.config)
        for spec in plan(NAMES, QUEUES, Settings(**settings))  # type: ignore[arg-type]
    }


def test_every_topic_of_the_design_is_planned() -> None:
    """One per priority, one per delay tier, and the seven of the app itself."""
    assert set(planned()) == {
        "shop.tasks.high", "shop.tasks.low", *NAMES.delays,
        "shop.dead", "shop.events", "shop.replies",
        "shop.workers", "shop.control", "shop.schedules", "shop.schemas",
    }  # fmt: skip


def test_a_queue_of_few_partitions_is_planned_so() -> None:
    """Its topics have what it asks for, all others what the settings say."""
    app = App(
        "shop",
        queues={"tasks": {"normal": 1}, "one": Queue({"normal": 1}, partitions=1)},
        bootstrap_servers="nowhere:1",
        partitions=6,
    )
    counts = {spec.name: spec.partitions for spec in specs_of(app)}
    assert counts["shop.one.normal"] == 1
    assert counts["shop.tasks.normal"] == counts["shop.dead"] == 6


def test_a_limit_that_its_partitions_can_not_share_is_refused() -> None:
    """The error says which task, and what to do; on a queue of few partitions it is welcome."""
    app = App(
        "shop",
        queues={"tasks": {"normal": 1}, "one": Queue({"normal": 1}, partitions=1)},
        bootstrap_servers="nowhere:1",
    )

    @app.task(queue="one", concurrency=1)
    def rebuild() -> None: ...

    check_limits(app)

    @app.task(rate=3)
    def charge() -> None: ...

    with pytest.raises(ConfigError, match=r"task charge: Rate\(limit=3.* 8 partitions"):
        check_limits(app)


def test_times_that_decide_are_the_brokers() -> None:
    """A publisher's clock decides nothing; nor does that of whoever gives an order, or holds a task."""
    for name, config in planned().items():
        is_timed = name.startswith(("shop.tasks.", "shop.delay.", "shop.control", "shop.workers"))
        assert (config.get("message.timestamp.type") == "LogAppendTime") is is_timed


def test_a_delay_topic_keeps_records_for_its_span_and_the_retention() -> None:
    """A task that waits a month in the largest tier outlives a week without a scheduler."""
    config = planned(retention=7 * DAY)
    assert int(config["shop.delay.30d"]["retention.ms"]) == 37 * DAY * 1000


def test_handoff_topics_take_larger_records_than_task_topics() -> None:
    """64 KiB more, for the headers of hand-offs, also where records may be large."""
    for limit in (1_000_000, 5_000_000):
        config = planned(kafka={"message.max.bytes": limit})
        home = int(config["shop.tasks.high"]["max.message.bytes"])
        assert home > limit
        for name in ("shop.dead", "shop.delay.0", "shop.delay.30d"):
            assert int(config[name]["max.message.bytes"]) == home + 64 * 1024


def test_topics_of_state_are_compacted() -> None:
    """The last word on each key stays."""
    config = planned()
    for name in ("workers", "control", "schedules", "schemas"):
        assert "compact" in config[f"shop.{name}"]["cleanup.policy"]


def test_an_order_outlives_whatever_it_is_about() -> None:
    """A cancelled task may wait in the largest tier, then at home, each without anybody to read it."""
    config = planned(retention=7 * DAY)["shop.control"]
    tier = int(planned(retention=7 * DAY)["shop.delay.30d"]["retention.ms"])
    home = int(planned(retention=7 * DAY)["shop.tasks.high"]["retention.ms"])
    assert int(config["retention.ms"]) == tier + home


def test_three_replicas_ask_for_two_in_sync() -> None:
    """With one in sync, an acknowledged task could be lost with a single broker."""
    assert planned(replication=3)["shop.tasks.high"]["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in planned(replication=1)["shop.tasks.high"]


def test_every_group_is_given_its_start() -> None:
    """The queues' groups, those of another name where one is asked for, and the scheduler's."""
    wanted = groups(NAMES, QUEUES, "shadow")
    assert ("shop.tasks.high", "shop.tasks.high") in wanted
    assert ("shadow.tasks.low", "shop.tasks.low") in wanted
    assert {topic for group, topic in wanted if group == "shop.scheduler"} == set(NAMES.delays)


def test_results_must_outlive_tasks() -> None:
    """A result that goes before its task could be run a second time."""
    with pytest.raises(ConfigError, match=r"result_ttl .* is below retention"):
        check(Settings(result_ttl=DAY, retention=2 * DAY))
