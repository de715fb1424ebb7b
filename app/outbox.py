"""From a call's arguments to a record on its way: joins codecs, schema store and publisher.

Invariants: a task's schema is stored before its first record is sent, so that whoever reads a record
finds its schema; and of many publishes together, all are checked before the first is sent.

Pure steps (see `app.steps`): what may block is a `Call`, a `Send` or an `Arrive`.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from taskstream.app.connections import Connections, Lifeline
from taskstream.app.current import Context, running
from taskstream.app.definition import key_text
from taskstream.app.handle import Handle
from taskstream.app.hooks import BeforePublish
from taskstream.app.options import PLAIN, Options
from taskstream.app.outcomes import Outcomes
from taskstream.app.publishing import Target
from taskstream.app.queues import Queues
from taskstream.app.steps import Arrive, Call, Pause, Send, SendMany, Steps
from taskstream.app.task import StoredTask
from taskstream.core.clock import Clock
from taskstream.core.envelope import TRACE_HEADERS, Envelope, Header, Place, Stamp
from taskstream.core.errors import BadArguments, BrokerError, PublishError, TooLarge, UnknownTask
from taskstream.core.ids import new_id
from taskstream.producer.routing import PublishRequest
from taskstream.schemas.store import find_latest

if TYPE_CHECKING:
    from taskstream.producer.delivery import Delivery
    from taskstream.producer.producer import Publisher

R = TypeVar("R")

TURN = 100
"""How many records of one `publish_many_async` are made before others get a turn on the loop."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What this process knows of one task once its schema is stored.

    Args:
        publisher: takes its records.
        frame: what stands before the body of its arguments.
        reply_to: where its final states are to be sent.
        plain: what its publishes without options have in common, outside of tasks.
    """

    publisher: "Publisher"
    frame: bytes
    reply_to: Place
    plain: "Mould"


class Mould(NamedTuple):
    """What publishes of one task have in common, where only arguments, id and time differ.

    Args:
        topic: where they go.
        stamp: their envelopes and headers.
    """

    topic: str
    stamp: Stamp

    def request(self, draft: "Draft") -> PublishRequest:
        """The record-to-be of one of them."""
        value, key, task_id, now = draft
        envelope, headers = self.stamp.envelope(task_id, now), self.stamp.headers(task_id, now)
        return PublishRequest(self.topic, value, envelope, key, headers)


Draft = tuple[bytes, str | None, str, float]
"""What is a publish's own: value, key, id, and its time. A bare tuple, which the garbage collector lets be."""


class Outbox:
    """Publishes for the tasks of one app.

    Args:
        lifeline: gives the clients of this process.
        queues: where tasks may go.
        outcomes: what the handles will ask.
        hooks: called with each envelope before it is sent; may grow later.
        clock: the time.

    Attributes:
        queues: as given.
    """

    def __init__(
        self,
        lifeline: Lifeline,
        queues: Queues,
        outcomes: Outcomes,
        hooks: Sequence[BeforePublish],
        clock: Clock,
    ) -> None:
        self.queues = queues
        self._lifeline = lifeline
        self._outcomes = outcomes
        self._hooks = hooks
        self._clock = clock
        # By the connections too: a forked child, or an app that was closed, starts anew.
        self._ready: tuple[Connections | None, dict[Target[..., Any], Ready]] = (None, {})

    def publish(
        self,
        target: Target[..., R],
        options: Options,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Steps[Handle[R]]:
        """Publishes one task and waits for Kafka's answer."""
        handle = yield from self.post(target, options, args, kwargs)
        yield Arrive(handle.delivery)
        return handle

    def post(
        self,
        target: Target[..., R],
        options: Options,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Steps[Handle[R]]:
        """Publishes one task without waiting for Kafka's answer."""
        ready = yield from self._prepared(target)
        draft = self._draft(target, options, ready, args, kwargs)
        if options is PLAIN and running() is None and not self._hooks:
            request = ready.plain.request(draft)
        else:
            request = self._request(target, options, ready, draft)
        return (yield from self._send(target, ready, request))

    def publish_many(
        self, target: Target[..., R], options: Options, arguments: Iterable[Mapping[str, Any]]
    ) -> Steps[list[Handle[R]]]:
        """Publishes one task per mapping of arguments and waits for Kafka's answers to all."""
        if options.id is not None:
            raise BadArguments(f"task {target.name}: options(id=...) names one task, not many")
        ready = yield from self._prepared(target)
        mould = self._mould(target, options, ready)
        packed: deque[Draft | PublishRequest] = deque()
        for kwargs in arguments:
            draft = self._draft(target, options, ready, (), kwargs)
            # A draft is all that is kept of one for now, and nothing of it once it is sent: of so many at
            # once, each object more is visited by the garbage collector again and again.
            packed.append(draft if mould else self._request(target, options, ready, draft))
            if len(packed) % TURN == 0:
                yield Pause()
        handles: list[Handle[R]] = []
        while packed:
            some = [_finish(packed.popleft(), mould) for _ in range(min(TURN, len(packed)))]
            deliveries = yield SendMany(ready.publisher, some)
            handles += map(partial(self._handle, target), some, deliveries)
            yield Pause()
        yield from self._settle(target, handles)
        return handles

    def prepare(self, target: Target[..., Any]) -> Steps[Ready]:
        """Stores the task's schema, once in each process."""
        connections: Connections = self._lifeline.opened or (yield Call(self._lifeline.connections))
        known, ready = self._ready
        if known is not connections:
            ready = {}
            self._ready = (connections, ready)
        if target not in ready:
            ready[target] = yield Call(lambda: self._open(target, connections))
        return ready[target]

    def stored_task(self, name: str, options: Options) -> StoredTask:
        """The task whose schema is stored under that name; may block.

        Raises:
            UnknownTask: there is none.
            BadArguments: the options name a queue or priority that doesn't exist.
        """
        schema = find_latest(self._lifeline.connections().schemas, name)
        if schema is None:
            raise UnknownTask(
                f"no task {name!r} is defined here, and no schema of that name is stored: check the "
                "name, declare its signature with @app.remote, or start a worker that has it"
            )
        queue, priority = self.queues.place(name, options.queue, options.priority)
        return StoredTask(self, schema, queue, priority)

    def _prepared(self, target: Target[..., Any]) -> Steps[Ready]:
        """`prepare` for a publish, whose errors are those of publishing."""
        try:
            return (yield from self.prepare(target))
        except BrokerError as error:
            raise PublishError(
                f"task {target.name}: nothing was sent, Kafka can't be asked: {error}"
            ) from error

    def _open(self, target: Target[..., Any], connections: Connections) -> Ready:
        frame = connections.schemas.put(target.arguments_schema)
        reply_to = connections.replies.place
        plain = self._envelope(target, PLAIN, reply_to, None, 0.0)
        topic = self._topic(target, PLAIN)
        return Ready(connections.publisher, frame, reply_to, Mould(topic, Stamp(plain)))

    def _mould(self, target: Target[..., Any], options: Options, ready: Ready) -> Mould | None:
        """What many publishes here and now have in common; None where it is less than a mould is for."""
        if self._hooks or options.differs:
            return None
        common = self._envelope(target, options, ready.reply_to, running(), 0.0)
        return Mould(self._topic(target, options), Stamp(common))

    def _draft(
        self,
        target: Target[..., Any],
        options: Options,
        ready: Ready,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> "Draft":
        """What is a publish's own. Raises BadArguments and TooLarge."""
        value = ready.frame + target.encode(args, kwargs)
        limit_bytes = ready.publisher.limit_bytes
        if len(value) > limit_bytes:
            raise TooLarge(
                f"task {target.name}: {len(value):,} bytes of arguments, and a record may have "
                f"{limit_bytes:,}: store large data elsewhere and publish where it is"
            )
        key = _key(target, options, args, kwargs)
        return value, key, options.id or new_id(), self._clock.now()

    def _request(
        self, target: Target[..., Any], options: Options, ready: Ready, draft: "Draft"
    ) -> PublishRequest:
        """The record-to-be of a publish that no mould fits. Raises BadArguments and what hooks raise."""
        value, key, task_id, now = draft
        envelope = self._envelope(target, options, ready.reply_to, running(), now)
        envelope = envelope._replace(id=task_id, lookup=options.id is not None)
        if self._hooks:
            envelope = envelope._replace(others=self._hooked(envelope))
        return PublishRequest(self._topic(target, options), value, envelope, key)

    def _envelope(
        self,
        target: Target[..., Any],
        options: Options,
        reply_to: Place,
        publisher_task: Context | None,
        now: float,
    ) -> Envelope:
        try:
            due, expires = options.due(now), options.expiry(now)
        except BadArguments as error:
            raise BadArguments(f"task {target.name}: {error}") from error
        return Envelope(
            task=target.name,
            priority=options.priority or target.priority,
            due=due,
            expires=expires,
            published=now,
            reply_to=reply_to,
            parent=None if publisher_task is None else publisher_task.id,
            root=None if publisher_task is None else publisher_task.root,
            retry=options.policy,
        )

    def _topic(self, target: Target[..., Any], options: Options) -> str:
        return self._lifeline.names.tasks(
            options.queue or target.queue, options.priority or target.priority
        )

    def _hooked(self, envelope: Envelope) -> tuple[Header, ...]:
        """The headers that hooks add."""
        added: dict[str, str] = {}
        for hook in self._hooks:
            added |= hook(envelope) or {}
        for name in added:
            if name.startswith("ts-") or name in TRACE_HEADERS:
                raise PublishError(
                    f"task {envelope.task}: an @app.before_publish hook adds header {name!r}, which is "
                    "taskstream's own; choose another name"
                )
        return tuple((name, value.encode()) for name, value in added.items())

    def _send(
        self, target: Target[..., R], ready: Ready, request: PublishRequest
    ) -> Steps[Handle[R]]:
        delivery = yield Send(ready.publisher, request)
        return self._handle(target, request, delivery)

    def _handle(
        self, target: Target[..., R], request: PublishRequest, delivery: "Delivery"
    ) -> Handle[R]:
        envelope = request.envelope
        return Handle(
            envelope.id,
            self._outcomes,
            target=target,
            delivery=delivery,
            published=envelope.published,
            due=envelope.due,
        )

    def _settle(self, target: Target[..., R], handles: Sequence[Handle[R]]) -> Steps[None]:
        failures: list[PublishError] = []
        for handle in handles:
            if handle.delivery.arrived:
                continue
            try:
                yield Arrive(handle.delivery)
            except PublishError as error:
                failures.append(error)
        if failures:
            raise PublishError(
                f"task {target.name}: {len(failures)} of {len(handles)} were not acknowledged, the "
                f"first because: {failures[0]}"
            ) from failures[0]


def _finish(packed: Draft | PublishRequest, mould: Mould | None) -> PublishRequest:
    if isinstance(packed, PublishRequest):
        return packed
    assert mould is not None
    return mould.request(packed)


def _key(
    target: Target[..., Any],
    options: Options,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> str | None:
    if options.key is None:
        return target.read_key(args, kwargs)
    key = options.key(*args, **kwargs) if callable(options.key) else options.key
    return key_text(key, task=target.name)
