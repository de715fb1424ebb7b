"""From a call's arguments to a record on its way: joins codecs, schema store and publisher.

Invariants: a task's schema is stored before its first record is sent, so that whoever reads a record
finds its schema; and of many publishes together, all are checked before the first is sent.

Pure steps (see `app.steps`): what may block is a `Call`, a `Send` or an `Arrive`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from taskstream.app.connections import Connections, Lifeline
from taskstream.app.current import running
from taskstream.app.definition import key_text
from taskstream.app.handle import Handle
from taskstream.app.hooks import BeforePublish
from taskstream.app.options import Options
from taskstream.app.outcomes import Outcomes
from taskstream.app.publishing import Target
from taskstream.app.queues import Queues
from taskstream.app.steps import Arrive, Call, Pause, Send, SendMany, Steps
from taskstream.app.task import StoredTask
from taskstream.core.clock import Clock
from taskstream.core.envelope import TRACE_HEADERS, Envelope, Header, Place
from taskstream.core.errors import BadArguments, BrokerError, PublishError, TooLarge, UnknownTask
from taskstream.core.ids import new_id
from taskstream.producer.routing import PublishRequest

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
    """

    publisher: "Publisher"
    frame: bytes
    reply_to: Place


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
        request = self._pack(target, options, ready, args, kwargs)
        return (yield from self._send(target, ready, request))

    def publish_many(
        self, target: Target[..., R], options: Options, arguments: Iterable[Mapping[str, Any]]
    ) -> Steps[list[Handle[R]]]:
        """Publishes one task per mapping of arguments and waits for Kafka's answers to all."""
        if options.id is not None:
            raise BadArguments(f"task {target.name}: options(id=...) names one task, not many")
        ready = yield from self._prepared(target)
        requests = []
        for kwargs in arguments:
            requests.append(self._pack(target, options, ready, (), kwargs))
            if len(requests) % TURN == 0:
                yield Pause()
        handles: list[Handle[R]] = []
        for start in range(0, len(requests), TURN):
            some = requests[start : start + TURN]
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
            ready[target] = yield Call(lambda: _prepare(target, connections))
        return ready[target]

    def stored_task(self, name: str, options: Options) -> StoredTask:
        """The task whose schema is stored under that name; may block.

        Raises:
            UnknownTask: there is none.
            BadArguments: the options name a queue or priority that doesn't exist.
        """
        schemas = self._lifeline.connections().schemas
        schema = schemas.latest(name)
        if schema is None:
            schemas.refresh()
            schema = schemas.latest(name)
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

    def _pack(
        self,
        target: Target[..., Any],
        options: Options,
        ready: Ready,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> PublishRequest:
        """The record-to-be of one publish. Raises BadArguments and TooLarge."""
        now = self._clock.now()
        value = ready.frame + target.encode(args, kwargs)
        limit_bytes = ready.publisher.limit_bytes
        if len(value) > limit_bytes:
            raise TooLarge(
                f"task {target.name}: {len(value):,} bytes of arguments, and a record may have "
                f"{limit_bytes:,}: store large data elsewhere and publish where it is"
            )
        publisher_task = running()
        priority = options.priority or target.priority
        envelope = Envelope(
            task=target.name,
            id=options.id or new_id(),
            priority=priority,
            due=options.due(now),
            expires=options.expiry(now),
            published=now,
            lookup=options.id is not None,
            reply_to=ready.reply_to,
            parent=None if publisher_task is None else publisher_task.id,
            root=None if publisher_task is None else publisher_task.root,
        )
        if self._hooks:
            envelope = envelope._replace(others=self._hooked(envelope))
        return PublishRequest(
            topic=self._lifeline.names.tasks(options.queue or target.queue, priority),
            value=value,
            envelope=envelope,
            key=_key(target, options, args, kwargs),
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
            try:
                yield Arrive(handle.delivery)
            except PublishError as error:
                failures.append(error)
        if failures:
            raise PublishError(
                f"task {target.name}: {len(failures)} of {len(handles)} were not acknowledged, the "
                f"first because: {failures[0]}"
            ) from failures[0]


def _prepare(target: Target[..., Any], connections: Connections) -> Ready:
    frame = connections.schemas.put(target.arguments_schema)
    return Ready(connections.publisher, frame, connections.replies.place)


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
