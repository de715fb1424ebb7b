"""All that a worker's parent works with once it knows the app: opened together, closed together."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from taskstream.broker.cluster import Cluster, look_at, session_timeout
from taskstream.broker.sender import Sender
from taskstream.consumer.parent import gauges, heartbeat
from taskstream.consumer.parent.alarms import Alarms
from taskstream.consumer.parent.breaker import Breakers
from taskstream.consumer.parent.children import Children
from taskstream.consumer.parent.dispatch import Dispatch
from taskstream.consumer.parent.fence import Fence
from taskstream.consumer.parent.handoff import HandedOff, Handoff
from taskstream.consumer.parent.handover import Handover
from taskstream.consumer.parent.heartbeat import Heartbeat
from taskstream.consumer.parent.holders import Holders, HoldersHeard
from taskstream.consumer.parent.intake import Event, Intake
from taskstream.consumer.parent.journal import Journal, Written
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.limits import without_shares
from taskstream.consumer.parent.options import ParentOptions, served
from taskstream.consumer.parent.orders import Orders
from taskstream.consumer.parent.ownership import Ownership
from taskstream.consumer.parent.settling import Settling
from taskstream.consumer.pipe import Hello
from taskstream.core.clock import Clock
from taskstream.core.envelope import HEADER_ROOM_BYTES
from taskstream.core.errors import BrokerError, ConfigError
from taskstream.core.garbage import settle_in
from taskstream.core.names import Names
from taskstream.core.queue_orders import HOLDING
from taskstream.core.settings import Settings
from taskstream.observability import logs, meters, table, tracing
from taskstream.observability.metrics import Metrics
from taskstream.schemas.control import Heard
from taskstream.schemas.records import Records

Told = Event | HandedOff | Written | HoldersHeard | Heard
"""What other threads tell the loop."""

_log = logs.logger(__name__)

LOOK_TIMEOUT = 10.0
"""Seconds that the brokers have to answer each question at the start; then the worker goes on alone."""

LEAST_PATIENCE = 2.0
"""Seconds: the least `stuck_after`, for a child that is well gives a sign of life once a second."""


@dataclass(frozen=True, slots=True)
class Work:
    """What there is once the first child has told what the app is. It belongs to the loop.

    Args:
        intakes: who reads, one for each priority of each queue.
        ownership: which partitions are ours.
        children: who runs tasks.
        dispatch: what waits to be given out.
        settling: what follows a verdict.
        handover: the partitions that are being given up.
        holders: who goes on running what of our partitions.
        fence: how long all this may go on without a word from Kafka.
        breakers: which lanes are halted, because their tasks only die.
        alarms: what is said of partitions.
        orders: what people have ordered.
        sender: the worker's producer.
        heartbeat: tells others of this worker.
        tell_workers: sends a heartbeat now; returns when it was written, microseconds since 1970.
        patience: for how many seconds a part of the worker may stand still.
        flush_traces: sends the spans that are left.
        flush_metrics: sends the last numbers; for when nothing counts any more.
    """

    intakes: Sequence[Intake]
    ownership: Ownership
    children: Children
    dispatch: Dispatch
    settling: Settling
    handover: Handover
    holders: Holders
    fence: Fence
    breakers: Breakers
    alarms: Alarms
    orders: Orders
    sender: Sender
    heartbeat: Heartbeat
    tell_workers: Callable[[], int]
    patience: float
    flush_traces: Callable[[], None]
    flush_metrics: Callable[[], None]

    def join(self) -> None:
        """Joins the groups: partitions are given us, and tasks come."""
        for intake in self.intakes:
            intake.start()
        settle_in()
        _log.info(
            "worker started", worker=self.heartbeat.worker,
            lanes=",".join(intake.lane for intake in self.intakes),
        )  # fmt: skip

    def owed(self) -> list[Entry]:
        """What runs here of partitions that are given up: their next owners wait for it."""
        return _owed(self.children, self.ownership)

    def close(self, timeout: float) -> None:
        """Commits what is finished, leaves the groups and lets the clients go.

        Args:
            timeout: seconds that each step may take.
        """
        # All at once: with Kafka away each of them waits out its deadlines, which would add up.
        leaving = [
            *(partial(self._leave, intake, timeout) for intake in self.intakes),
            partial(self.holders.close, timeout),
            partial(self.orders.close, timeout),
        ]
        threads = [threading.Thread(target=leave, daemon=True) for leave in leaving]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.heartbeat.leave()
        self.sender.close(timeout)
        self.flush_traces()

    def _leave(self, intake: Intake, timeout: float) -> None:
        failure = intake.close(self.ownership.last_commits(intake), timeout)
        if failure is not None:
            _log.warning(
                "the last commit failed",
                topic=intake.topic,
                error=str(failure),
                advice="nothing: the next owner looks up what was finished since the commit before",
            )


def open_work(
    hello: Hello,
    options: ParentOptions,
    ownership: Ownership,
    children: Children,
    *,
    tell: Callable[[Told], None],
    metrics: Metrics,
    clock: Clock,
) -> Work:
    """Connects to Kafka and hears the orders; `Work.join` begins to take tasks in.

    Args:
        hello: what the first child has told of the app.
        options: how the worker runs.
        ownership: the partitions, none as yet.
        children: who runs tasks.
        tell: takes what other threads tell, without blocking.
        metrics: where things are counted.
        clock: the time.

    Raises:
        ConfigError: an option or a setting is wrong.
        BrokerError: Kafka refuses.
    """
    settings = Settings(**hello.settings)
    if settings.stuck_after < LEAST_PATIENCE:
        raise ConfigError(
            f"stuck_after is {settings.stuck_after:g}: must be {LEAST_PATIENCE:g} seconds or more, for "
            "a healthy child gives a sign of life once a second"
        )
    names, records = Names(hello.app), Records()
    lanes = list(served(hello.queues, options))
    cluster = _look(settings)
    fence = Fence(session_timeout(settings, cluster), heartbeat.EVERY)
    ownership.commit_again, ownership.sure_for = fence.commit_again, fence.stop_after
    flush_traces = tracing.setup(settings.otlp_endpoint, f"{hello.app}-worker")
    sender = Sender(
        settings,
        client_id=f"{options.name}-handoff",
        room_bytes=HEADER_ROOM_BYTES,
        metrics=metrics,
        role="handoff",
    )
    intakes = [
        Intake(
            settings,
            lane=f"{queue}.{priority}",
            topic=names.tasks(queue, priority),
            group=names.group(queue, priority, options.group),
            client_id=f"{options.name}-{queue}.{priority}",
            instance=options.instance,
            cluster=cluster,
            tell=tell,
            revoke_wait=fence.grace + fence.tell_within + 5.0,
            metrics=metrics,
            clock=clock,
        )
        for queue, priority, _ in lanes
    ]
    breakers = Breakers(
        [intake.lane for intake in intakes],
        limit=settings.dead_limit,
        share=settings.dead_share,
        clock=clock,
    )
    orders = Orders(
        settings, names, sender, tell, records=records, worker=options.name, clock=clock
    )
    dispatch = Dispatch(
        {f"{queue}.{priority}": weight for queue, priority, weight in lanes},
        {intake.lane: intake for intake in intakes},
        ownership,
        children,
        # The mock broker's topics have four partitions whatever was asked for, and one worker.
        tasks=without_shares(hello.tasks) if settings.embedded else hello.tasks,
        breakers=breakers,
        is_cancelled=orders.is_cancelled,
        metrics=metrics,
        clock=clock,
    )
    settling = Settling(
        ownership,
        dispatch,
        Handoff(sender, names, tell),
        Journal(sender, names.events, tell, clock.monotonic),
        sender,
        breakers=breakers,
        on_final=orders.settle,
        strict={name for name, facts in hello.tasks.items() if facts.strict_order},
        metrics=metrics,
        clock=clock,
    )
    beats = Heartbeat(
        sender,
        names,
        records,
        worker=options.name,
        queues=tuple(dict.fromkeys(queue for queue, _, _ in lanes)),
        clock=clock,
    )

    def tell_workers() -> int:
        return beats.beat(
            children.held(),
            _owed(children, ownership),
            children=len(children),
            pids={number: child.pid for child in children for number in list(child.held)},
            halted=breakers.halted,
            paused=[
                order.target for order in dispatch.queue_orders.orders if order.verb in HOLDING
            ],
        )

    handover = Handover(ownership, beats, tell_workers, fence, metrics=metrics, clock=clock)
    holders = Holders(settings, names, records, silence=fence.silence, tell=tell)
    gauges.of_lanes(
        metrics,
        ownership,
        intakes=intakes,
        children=children,
        dispatch=dispatch,
        breakers=breakers,
    )
    gauges.of_weights(metrics, {f"{queue}.{priority}": weight for queue, priority, weight in lanes})
    gauges.of_orders(metrics, orders)
    gauges.of_process(metrics, table.WORKER_ROLE, hello.app)
    orders.start()
    return Work(
        intakes, ownership, children, dispatch, settling, handover, holders, fence, breakers,
        Alarms(settings.alarming_age), orders, sender, beats, tell_workers, settings.stuck_after,
        flush_traces, meters.send(metrics, settings.otlp_endpoint, f"{hello.app}-worker"),
    )  # fmt: skip


def _look(settings: Settings) -> Cluster | None:
    """What the brokers say of themselves; None where they don't, for then it is asked again later."""
    try:
        return look_at(settings, LOOK_TIMEOUT)
    except BrokerError as error:
        _log.warning("Kafka does not answer yet", error=str(error), advice=logs.LOOK_AT_KAFKA)
        return None


def _owed(children: Children, ownership: Ownership) -> list[Entry]:
    return [entry for entry in children.held() if ownership.startable(entry) is None]
