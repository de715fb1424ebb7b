"""The publish methods: what a task, and a task with options, can be told.

The blocking methods and their twins run the same steps of the outbox, one by waiting, the other by
awaiting.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from taskstream.app.blocking import refuse_on_loop
from taskstream.app.definition import KeyReader
from taskstream.app.options import PLAIN, OptionArguments, Options
from taskstream.app.steps import run, run_async
from taskstream.core.errors import BadArguments

if TYPE_CHECKING:
    from taskstream.app.handle import Handle
    from taskstream.app.outbox import Outbox
    from taskstream.schemas.schema import Schema

P = ParamSpec("P")
R = TypeVar("R")


class Publishing(Generic[P, R]):
    """Publishes one task, type-checked like a call of it.

    Every method raises, beside what it names:
        BadArguments: the arguments don't fit the task's schema; nothing was sent.
        TooLarge: the record would not fit the topic; nothing was sent.
        PublishTimeout: Kafka did not acknowledge in time; publishing again with the same
            `options(id=...)` is safe.
        PublishError: Kafka refused the record, or can't be reached.
        SchemaConflict: another schema of the same fingerprint is stored already.
        SchemaError: the schema store can't be asked.
    """

    __slots__ = ()

    _outbox: "Outbox"
    _target: "Target[P, R]"
    _options: Options

    def publish(self, /, *args: P.args, **kwargs: P.kwargs) -> "Handle[R]":
        """Publishes a task with these arguments; back when Kafka has acknowledged it.

        Raises:
            BlockingCall: called on a running event loop; use `publish_async`.
        """
        refuse_on_loop(f"{self._target.name}.publish")
        return run(self._outbox.publish(self._target, self._options, args, kwargs))

    async def publish_async(self, /, *args: P.args, **kwargs: P.kwargs) -> "Handle[R]":
        """`publish` for a running event loop, which goes on meanwhile."""
        return await run_async(self._outbox.publish(self._target, self._options, args, kwargs))

    def publish_nowait(self, /, *args: P.args, **kwargs: P.kwargs) -> "Handle[R]":
        """Publishes without waiting: the handle at once, its `acknowledged()` tells the outcome.

        The first publish of a task in a process stores its schema, and a full local queue makes
        room first: both wait for Kafka, at most `publish_timeout`. `app.connect()` does the former
        ahead. Exit, `app.flush()` and `app.close()` wait for what is under way.
        """
        return run(self._outbox.post(self._target, self._options, args, kwargs))

    def publish_many(self, arguments: Iterable[Mapping[str, Any]], /) -> "list[Handle[R]]":
        """Publishes one task per dict of arguments; back when Kafka has acknowledged all.

        All are checked before the first is sent. The handles are in the order of the arguments.

        Raises:
            PublishError: some were not acknowledged; says how many, and chains the first reason.
            BlockingCall: called on a running event loop; use `publish_many_async`.
        """
        refuse_on_loop(f"{self._target.name}.publish_many")
        return run(self._outbox.publish_many(self._target, self._options, arguments))

    async def publish_many_async(
        self, arguments: Iterable[Mapping[str, Any]], /
    ) -> "list[Handle[R]]":
        """`publish_many` for a running event loop, which goes on meanwhile."""
        steps = self._outbox.publish_many(self._target, self._options, arguments)
        return await run_async(steps)


class Target(Publishing[P, R]):
    """What can be published: a name, a place and a schema. A `Task`, or a stored schema alone.

    Attributes:
        name: its name on the wire.
        queue: the queue it is published to.
        priority: the priority it is published with.
        keyed: whether its definition gives it an ordering key.
        read_key: the ordering key of a call's arguments, once they are checked.
        arguments_schema: the Avro record of its arguments.
    """

    name: str
    queue: str
    priority: str
    keyed: bool
    read_key: KeyReader
    arguments_schema: "Schema"

    def __init__(self, outbox: "Outbox") -> None:
        self._outbox = outbox
        self._target = self
        self._options = PLAIN

    def options(self, **options: Unpack[OptionArguments]) -> "Bound[P, R]":
        """The same task with other choices for its publishes, told in `Options`.

        Raises:
            BadArguments: a value that can't be meant, or another queue or priority for a keyed
                task, which would lose its order, without `unordered=True`.
        """
        try:
            chosen = Options(**options)
        except BadArguments as error:
            raise BadArguments(f"task {self.name}: {error}") from error
        queue, priority = chosen.queue or self.queue, chosen.priority or self.priority
        self._outbox.queues.check(queue, priority, task=self.name)
        elsewhere = (queue, priority) != (self.queue, self.priority)
        if elsewhere and self.keyed and not chosen.unordered:
            raise BadArguments(
                f"task {self.name} has a key, and order holds within {self.queue}.{self.priority} "
                f"only: to publish it to {queue}.{priority}, say unordered=True as well"
            )
        return Bound(self._outbox, self, chosen)

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
        """The Avro body of a call's arguments. Raises BadArguments."""
        raise NotImplementedError

    def decode_result(self, body: bytes, writer: "Schema") -> R:
        """The result in an Avro body that `writer` wrote. Raises Undecodable."""
        raise NotImplementedError


class Bound(Publishing[P, R]):
    """A task with options: the same publish methods, to be kept and used again.

    An `id` and an `at` are meant for one publish; the others may serve for many.
    """

    __slots__ = ("_options", "_outbox", "_target")

    def __init__(self, outbox: "Outbox", target: Target[P, R], options: Options) -> None:
        self._outbox = outbox
        self._target = target
        self._options = options

    def __repr__(self) -> str:
        return f"<{self._target.name} with {self._options}>"
