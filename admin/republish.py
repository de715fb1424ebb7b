"""Publishing what a replay's plan selects: from records that stand in a topic to records on their way.

Invariant: an offset is committed only after Kafka has acknowledged what was published of the records
before it. What a kill repeats has the same identity (an id derived from the replay's name and the old id,
or a run announced in the result store) and the same partition, where it is recognised and dropped.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from taskstream.admin.choosing import Chooser, Chosen
from taskstream.admin.payloads import Payloads
from taskstream.admin.rerun import Asker, Further, announce
from taskstream.admin.resend import Resender, trace_resent
from taskstream.admin.shadow import beside
from taskstream.admin.stores import store_of
from taskstream.admin.walk import TAKE, Chunk, walk
from taskstream.broker.records import Record
from taskstream.broker.topics import Topics
from taskstream.core.clock import Clock
from taskstream.core.envelope import Place, write
from taskstream.core.errors import Undecodable, UnknownSchema
from taskstream.core.faultpoints import (
    AFTER_REPLAY_COMMIT,
    AFTER_REPLAY_ROWS,
    AFTER_REPLAY_SEND,
    BEFORE_REPLAY_COMMIT,
    fault_point,
)
from taskstream.core.replay import (
    Notice,
    Plan,
    ReplayProgress,
    Stretch,
    advanced,
    lane_of,
    new_id,
    repeated,
)
from taskstream.core.states import State
from taskstream.observability import tracing
from taskstream.schemas.framing import Reference, parse

if TYPE_CHECKING:
    from taskstream.app.app import App

COMMIT_EVERY = 1.0
"""Seconds between two commits: what was published since the last one is published again after a kill."""

TELL_EVERY = 0.1
"""Seconds between two words on how far it is."""

_NO_OUTCOMES = "how tasks have ended is not known"

Tell = Callable[[ReplayProgress], None]
"""Hears how far it is, in the calling thread."""


class Republisher:
    """One replay on its way. For one thread.

    Attributes:
        chooser: judges the records, from the plan's first on, so that what was published before an
            interruption is known, and not published again as a copy of it.
        count: how many tasks were published, by this or before.
    """

    def __init__(
        self,
        app: "App",
        notice: Notice,
        positions: Mapping[Place, int],
        stack: ExitStack,
        *,
        heard: "Heard",
        clock: Clock,
    ) -> None:
        plan = notice.plan
        self.chooser = chooser_of(app, plan)
        self.count = 0
        self._app = app
        self._plan = plan
        self._notes = notice.notes()
        why = f"replay {plan.name}: {notice.reason}" if notice.reason else f"replay {plan.name}"
        self._asker = Asker(plan.marker, notice.who, why)
        # With a rate, not much more is announced ahead than goes out in a second.
        self._at_once = TAKE if plan.rate is None else max(1, min(TAKE, int(plan.rate)))
        self._clock = clock
        self._heard = heard
        self._behind = dict(positions)
        self._positions = dict(positions)
        self._group = app.names.replay_group(plan.name)
        self._topics = destinations(app, plan)
        self._save_at = time.monotonic() + COMMIT_EVERY
        self._target = app
        if plan.shadow:
            self._target = beside(app, plan.shadow)
            stack.callback(self._target.close)
        self._lanes = {topic: lane_of(self._target.name, to) for topic, to in self._topics.items()}
        self._stored: set[Reference] = set()
        self._broker = stack.enter_context(Topics(app.settings, client_id="taskstream-replay"))
        self._resender: Resender[None] = stack.enter_context(
            Resender(app, rate=plan.rate, client_id="taskstream-replay")
        )
        trace_resent(app)

    def run(self) -> None:
        """Publishes all that is left, and commits the end."""
        for chunk in walk(self._app.settings, self._from(), client_id="taskstream-replay"):
            self._take(chunk)
        self.save()

    def save(self) -> None:
        """Waits for Kafka to acknowledge what was published, then commits how far that is."""
        self._resender.flush()
        self._resender.acknowledged()
        fault_point(BEFORE_REPLAY_COMMIT)
        # All of them each time, so that none grows so old that the brokers forget it.
        self._broker.commit(self._group, self._positions, self._notes)
        fault_point(AFTER_REPLAY_COMMIT)
        self._save_at = time.monotonic() + COMMIT_EVERY
        self._heard.tell(self._positions, self.count, now=True)

    def _from(self) -> list[Stretch]:
        """The stretches from their first record that is still there, and not behind what is left."""
        lows: dict[Place, int] = {}
        for topic in self._topics:
            lows |= self._broker.begin_offsets(topic)
        return [
            one._replace(first=max(one.first, min(lows[one.place], self._behind[one.place])))
            for one in self._plan.stretches
        ]

    def _take(self, chunk: Chunk) -> None:
        judged = list(zip(chunk.records, self.chooser.choose(chunk.records), strict=True))
        ahead = [
            chosen
            for record, chosen in judged
            if chosen is not None and record.offset >= self._behind[_place(record)]
        ]
        runs: Mapping[str, int] = {}
        for record, chosen in judged:
            place = _place(record)
            is_left = record.offset >= self._behind[place]
            if chosen is not None and is_left:
                if self._plan.keeps_ids and chosen.envelope.id not in runs:
                    some, ahead = ahead[: self._at_once], ahead[self._at_once :]
                    runs = self._announce(some)
                    fault_point(AFTER_REPLAY_ROWS)
                self._send(chosen, runs)
                fault_point(AFTER_REPLAY_SEND)
            self.count += chosen is not None
            if is_left:
                self._positions[place] = record.offset + 1
            if time.monotonic() > self._save_at:
                self.save()
        for place, offset in chunk.positions.items():
            self._positions[place] = max(self._positions[place], offset)
        self._heard.tell(self._positions, self.count)

    def _announce(self, chosen: Sequence[Chosen]) -> Mapping[str, int]:
        """Puts on record which run each of these tasks begins."""
        store = self._target.result_store()
        assert store is not None
        further = [self._further(one) for one in chosen]
        return announce(store, further, asker=self._asker, now=self._clock.now())

    def _further(self, chosen: Chosen) -> Further:
        record, envelope = chosen
        queue, priority = self._lanes[record.topic] or ("", envelope.priority or "")
        return Further(
            id=envelope.id,
            task=envelope.task,
            # A shadow has seen nothing of what the app has run.
            run=-1 if self._plan.shadow else envelope.run,
            queue=queue,
            priority=priority,
            key=None if _is_keyless(chosen) else (record.key or b"").decode(errors="replace"),
            published=envelope.published or record.timestamp,
        )

    def _send(self, chosen: Chosen, runs: Mapping[str, int]) -> None:
        record, envelope = chosen
        topic, same = self._topics[record.topic], self._plan.keeps_ids
        task_id = (
            envelope.id if same else new_id(self._plan, envelope, _place(record), record.timestamp)
        )
        lane = self._lanes[record.topic]
        again = repeated(
            envelope,
            task_id=task_id,
            run=runs[task_id] if same else 0,
            priority=envelope.priority if lane is None else lane[1],
            written=record.timestamp,
            now=self._clock.now(),
        )
        key = task_id.encode() if _is_keyless(chosen) else record.key
        if self._plan.shadow:
            self._store_schema(record.value)
        span = tracing.publish_span(
            topic,
            task=envelope.task,
            task_id=task_id,
            key=None if _is_keyless(chosen) else (record.key or b"").decode(errors="replace"),
            link=envelope.trace,
            name="replay",
            about=partial(tracing.task_attributes, State.WAITING, run=again.run),
        )
        self._resender.send(
            topic,
            # A further run goes where the task's other records are, however many partitions there are.
            record.partition if same and topic == record.topic else None,
            key=key,
            value=record.value,
            headers=[*write(again), *span.headers],
            ticket=None,
            span=span,
        )

    def _store_schema(self, value: bytes | None) -> None:
        """Brings a schema to the shadow's store before the first record that it wrote."""
        with suppress(Undecodable, UnknownSchema):  # then that is what its task dies of, there too
            reference = parse(value).reference
            if reference not in self._stored:
                schema = self._app.schema_store().get(reference)
                self._target.schema_store().put(schema)
                self._stored.add(reference)


class Heard:
    """Tells now and then how far it is."""

    def __init__(self, plan: Plan, tell: Tell | None) -> None:
        self._plan = plan
        self._tell = tell
        self._at = 0.0

    def tell(self, positions: Mapping[Place, int], count: int, *, now: bool = False) -> None:
        """Tells it, unless it has just been told; `now` tells it in any case."""
        if self._tell is None or (not now and time.monotonic() < self._at):
            return
        self._at = time.monotonic() + TELL_EVERY
        self._tell(ReplayProgress(advanced(self._plan, positions), self._plan.total, count))

    def mute(self) -> None:
        """Tells nothing more: who listened has ended it, and would do so in the middle of its end."""
        self._tell = None


def _place(record: Record) -> Place:
    return Place(record.topic, record.partition)


def _is_keyless(chosen: Chosen) -> bool:
    """Whether the task has no ordering key: its record is keyed by its id, or not at all."""
    return chosen.record.key is None or chosen.record.key == chosen.envelope.id.encode()


def destinations(app: "App", plan: Plan) -> dict[str, str]:
    """By topic that is read, the one that is written."""
    topics = dict.fromkeys(one.topic for one in plan.stretches)
    return {topic: plan.destination(app.name, topic) for topic in topics}


def chooser_of(app: "App", plan: Plan) -> Chooser:
    """What judges the records of a plan, with the app's schemas, tasks and outcomes.

    Raises:
        ConfigError: the condition is no expression, or outcomes are wanted that nobody keeps.
    """

    def shadowed(task: str) -> bool:
        known = app.find(task)
        return known is not None and known.shadow is not None

    return Chooser(
        plan,
        Payloads(app).decode,
        shadowed=shadowed,
        rows=store_of(app, _NO_OUTCOMES).read_many if plan.by_outcome else None,
    )
