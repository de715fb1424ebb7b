"""From a function's signature to the Avro schemas of its arguments and of its result.

The table of types is in DESIGN.md, under "What users type". Everything that has no Avro form is
refused here, when the task is defined, by the name of the task and of the parameter, and never
guessed at: what is published today is read in years, by other languages.
"""

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, Flag
from typing import Any, NoReturn
from uuid import UUID

from taskstream.core.errors import DefinitionError
from taskstream.schemas import forms
from taskstream.schemas.forms import Field, Form, Mismatch
from taskstream.schemas.scale import Scale
from taskstream.schemas.schema import PRIMITIVES, Schema

_AVRO_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

_PLAIN: dict[Any, Callable[[], Form]] = {
    bool: forms.boolean,
    int: forms.integer,
    float: forms.double,
    str: forms.text,
    bytes: forms.octets,
    UUID: forms.uuid,
    date: forms.day,
    datetime: forms.moment,
}

_NO_RESULT = (None, types.NoneType, typing.NoReturn, typing.Never, inspect.Signature.empty)

_WHAT_TO_USE = (
    "use bool, int, float, str, bytes, UUID, date, datetime, Annotated[Decimal, Scale(2)], an Enum, a "
    "Literal of str, a dataclass, a TypedDict, list[...], tuple[X, ...], dict[str, ...] or X | None"
)


@dataclass(frozen=True, slots=True)
class TaskSchema:
    """What goes over the wire for one task.

    Args:
        task: the task's name.
        parameters: its parameters in order, each a field of the arguments' record.
        positional: the names of those that may be given by position.
        arguments: the record of its arguments, named after the task.
        outcome: the form of its result; that of None where the function has no return hint.
        result: the record of its result, `{task}_result` with the one field `value`.
    """

    task: str
    parameters: tuple[Field, ...]
    positional: tuple[str, ...]
    arguments: Schema
    outcome: Form
    result: Schema


def derive(function: Callable[..., Any], *, task: str) -> TaskSchema:
    """The schemas of a function that is to be a task of that name.

    A result is kept only as far as the return hint says: without one the task may return None and
    nothing else.

    Raises:
        DefinitionError: the name is no Avro name, or a parameter, a default or the result has no
            Avro form; names the task and the parameter.
    """
    if not _AVRO_NAME.match(task) or task in PRIMITIVES:
        raise DefinitionError(
            f"task name {task!r} is not allowed: it names an Avro record, so use letters, digits and "
            "'_', not starting with a digit, and none of Avro's own type names"
        )
    function = inspect.unwrap(function)
    hints = _hints(function, f"task {task}")
    arguments = _Derivation(f"task {task}: parameter ", record=task)
    fields, positional = [], []
    for parameter in inspect.signature(function).parameters.values():
        fields.append(arguments.parameter(parameter, hints.get(parameter.name)))
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            positional.append(parameter.name)
    record = f"{task}_result"
    outcome = _outcome(hints, _Derivation(f"task {task}: the ", record=record))
    return TaskSchema(
        task=task,
        parameters=tuple(fields),
        positional=tuple(positional),
        arguments=Schema(forms.record_avro(task, fields)),
        outcome=outcome,
        result=Schema(forms.record_avro(record, [Field("value", outcome)])),
    )


def _outcome(hints: dict[str, Any], derivation: "_Derivation") -> Form:
    hint = hints.get("return")
    return forms.null() if hint in _NO_RESULT else derivation.form(hint, "result")


def _hints(owner: Any, what: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner, include_extras=True)
    # A hint is any expression, and evaluating it may fail in any way.
    except Exception as error:
        raise DefinitionError(
            f"{what}: a type hint can't be read ({type(error).__name__}: {error}); its names must be "
            "importable where it stands, not only under TYPE_CHECKING or inside a function"
        ) from error


class _Derivation:
    """The forms of one record, and the named types met so far: Avro wants each defined once.

    Args:
        prefix: how error messages start, up to the path of the parameter.
        record: the record's own name, which no type in it may have.
    """

    def __init__(self, prefix: str, *, record: str) -> None:
        self._prefix = prefix
        self._record = record
        self._named: dict[str, tuple[type, Form | None]] = {}

    def parameter(self, parameter: inspect.Parameter, hint: Any) -> Field:
        """The field of a function's parameter."""
        name, kind = parameter.name, parameter.kind
        if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            star = "*" if kind is inspect.Parameter.VAR_POSITIONAL else "**"
            self._refuse(name, f"({star}{name}) takes what no schema can tell: name each one")
        if kind is inspect.Parameter.POSITIONAL_ONLY:
            self._refuse(name, "is positional-only, but arguments travel by name: drop the '/'")
        if hint is None and parameter.annotation is parameter.empty:
            self._refuse(name, f"has no type hint: {_WHAT_TO_USE}")
        default = () if parameter.default is parameter.empty else (parameter.default,)
        return self._field(name, hint, default, name)

    def form(self, hint: Any, path: str) -> Form:
        """The form of a type hint; `path` is where it stands."""
        if isinstance(hint, type) and hint in _PLAIN:
            return _PLAIN[hint]()
        if isinstance(hint, typing.NewType):
            return self.form(hint.__supertype__, path)
        if type(hint).__name__ == "TypeAliasType":  # typing's, from Python 3.12 on
            return self.form(hint.__value__, path)
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self._annotated(inner[0], inner[1:], path)
        if origin in (typing.Union, types.UnionType):
            return self._optional(inner, path)
        if origin is typing.Literal:
            return self._literal(inner, path)
        if origin is list:
            return forms.array(self.form(inner[0], f"{path}[]"))
        if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
            return forms.array(self.form(inner[0], f"{path}[]"), tuple)
        if origin is dict:
            if inner[0] is not str:
                self._refuse(
                    path, f"has keys of type {_words(inner[0])}: only str keys have an Avro form"
                )
            return forms.mapping(self.form(inner[1], f"{path}[]"))
        if isinstance(hint, type) and origin is None:
            return self._class(hint, path)
        return self._refuse_type(hint, path)

    def _class(self, kind: type, path: str) -> Form:
        if kind is Decimal:
            self._refuse(
                path, "is a bare Decimal: say how many digits: Annotated[Decimal, Scale(2)]"
            )
        if issubclass(kind, Enum):
            return self._enum(kind, path)
        if typing.is_typeddict(kind):
            return self._record_type(kind, path, self._keys, forms.keyed)
        if dataclasses.is_dataclass(kind):
            return self._record_type(kind, path, self._attributes, forms.instance)
        return self._refuse_type(kind, path)

    def _annotated(self, base: Any, notes: tuple[Any, ...], path: str) -> Form:
        scales = [note for note in notes if isinstance(note, Scale)]
        if not scales:
            return self.form(base, path)
        if base is not Decimal:
            self._refuse(path, f"has a Scale on {_words(base)}: it belongs on Decimal itself")
        return forms.decimal(scales[-1].digits)

    def _optional(self, branches: tuple[Any, ...], path: str) -> Form:
        some = [branch for branch in branches if branch is not types.NoneType]
        if len(some) != 1 or len(some) == len(branches):
            kinds = " | ".join(_words(branch) for branch in branches)
            self._refuse(
                path, f"is a union ({kinds}): only X | None has a form every language reads"
            )
        inner = self.form(some[0], path)
        # An alias may bring an Optional of its own.
        return inner if isinstance(inner.avro, list) else forms.optional(inner)

    def _literal(self, options: tuple[Any, ...], path: str) -> Form:
        for option in options:
            if type(option) is not str:
                self._refuse(path, f"is a Literal with {option!r}: only texts; use | None for None")
        return forms.choice(options)

    def _enum(self, kind: type[Enum], path: str) -> Form:
        if issubclass(kind, Flag):
            self._refuse(
                path, f"is a flag ({kind.__name__}), whose combinations have no name: use int"
            )
        for name in kind.__members__:
            if not _AVRO_NAME.match(name):
                self._refuse(
                    path, f"has a member {name!r} that is no Avro name: letters, digits, '_'"
                )
        if not kind.__members__:
            self._refuse(path, f"is an enum without members ({kind.__name__})")
        return self._once(kind, path, lambda: forms.members(kind))

    def _record_type(
        self,
        kind: type,
        path: str,
        fields_of: Callable[[type, str], Iterator[Field]],
        make: Callable[[type, list[Field]], Form],
    ) -> Form:
        def build() -> Form:
            fields = list(fields_of(kind, path))
            if not fields:
                self._refuse(path, f"is {kind.__name__}, which has no fields to write")
            return make(kind, fields)

        return self._once(kind, path, build)

    def _attributes(self, kind: type, path: str) -> Iterator[Field]:
        """The fields of a dataclass."""
        hints = _hints(kind, f"{self._prefix}{path} is a {kind.__name__}")
        fields = [field for field in dataclasses.fields(kind) if field.init]
        if set(inspect.signature(kind).parameters) != {field.name for field in fields}:
            self._refuse(path, f"is a {kind.__name__}, which is not built from its fields alone")
        for field in fields:
            default: tuple[Any, ...] = ()
            if field.default is not dataclasses.MISSING:
                default = (field.default,)
            # Any other factory may give another value each time: an id, the time.
            elif field.default_factory in (list, dict):
                default = (field.default_factory(),)
            yield self._field(field.name, hints[field.name], default, f"{path}.{field.name}")

    def _keys(self, kind: type, path: str) -> Iterator[Field]:
        """The fields of a TypedDict."""
        hints = _hints(kind, f"{self._prefix}{path} is a {kind.__name__}")
        for name, hint in hints.items():
            origin = typing.get_origin(hint)
            wrapped = origin in (typing.Required, typing.NotRequired)
            bare = typing.get_args(hint)[0] if wrapped else hint
            field = self._field(name, bare, (), f"{path}.{name}")
            # The class attribute is wrong where the module has `from __future__ import annotations`.
            required = origin is typing.Required or (
                origin is not typing.NotRequired and name in kind.__required_keys__  # type: ignore[attr-defined]
            )
            yield field if required else self._absent(field, f"{path}.{name}")

    def _absent(self, field: Field, path: str) -> Field:
        """The field of a key that may be absent, which is written as null."""
        if isinstance(field.form.avro, list):
            self._refuse(path, "may be absent and may be None, and Avro can't tell them apart")
        either = forms.optional(field.form)
        # What is present must be what the hint says: None is not.
        form = dataclasses.replace(either, words=field.form.words, dump=field.form.dump)
        return Field(field.name, form, (None,), optional=True)

    def _field(self, name: str, hint: Any, default: tuple[Any, ...], path: str) -> Field:
        if not _AVRO_NAME.match(name):
            self._refuse(path, "has a name that is no Avro name: use letters, digits and '_'")
        form = self.form(hint, path)
        if not default:
            return Field(name, form)
        if isinstance(form.avro, list) and default[0] is not None:
            # Avro takes a default for the first branch of a union only.
            form = dataclasses.replace(form, avro=form.avro[::-1])
        try:
            field = Field(name, form, (form.dump(default[0]),))
            json.dumps(field.avro, allow_nan=False)
        except (Mismatch, ValueError) as error:
            inside = error.path if isinstance(error, Mismatch) else ""
            self._refuse(path, f"has a default that has no Avro form: it{inside} {error}")
        return field

    def _once(self, kind: type, path: str, build: Callable[[], Form]) -> Form:
        """The form of a named type: its definition where it is met first, then its name."""
        name = kind.__name__
        if not _AVRO_NAME.match(name) or name in PRIMITIVES or name == self._record:
            self._refuse(
                path, f"is a {name}, a name that Avro, or the task, has for something else"
            )
        known, form = self._named.get(name, (kind, None))
        if known is not kind:
            self._refuse(path, f"is a {name}, and so is another type in it: rename one of them")
        if form is not None:
            return dataclasses.replace(form, avro=name)
        if name in self._named:
            self._refuse(
                path, f"is a {name} inside a {name}: types that hold themselves are not supported"
            )
        self._named[name] = (kind, None)
        form = build()
        self._named[name] = (kind, form)
        return form

    def _refuse_type(self, hint: Any, path: str) -> NoReturn:
        self._refuse(path, f"is {_words(hint)}, which has no Avro form: {_WHAT_TO_USE}")

    def _refuse(self, path: str, problem: str) -> NoReturn:
        raise DefinitionError(f"{self._prefix}{path} {problem}")


def _words(hint: Any) -> str:
    if hint is None or hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
