"""Conditions over a task's decoded arguments, as people type them: `cents > 100 and city == "Berlin"`.

The language is Python's expressions, evaluated by simpleeval, which knows neither imports nor private
attributes and bounds what an expression can cost. Names are arguments; `args` is all of them as a dict.
"""

import ast
from collections.abc import Mapping
from typing import Any

from simpleeval import EvalWithCompoundTypes, InvalidExpression, NameNotDefined

from taskstream.core.errors import ConfigError, TaskstreamError

_FUNCTIONS = {"abs": abs, "bool": bool, "float": float, "int": int, "len": len, "str": str}


class WhereFailed(TaskstreamError):
    """A condition can't be told for these arguments: names what is missing or does not fit."""


class Where:
    """A condition, read once and asked often. For one thread.

    Args:
        text: the expression.

    Raises:
        ConfigError: it is no expression; shows where.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self._parsed = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            at = f", at character {error.offset}" if error.offset else ""
            raise ConfigError(
                f'where {text!r}: {error.msg}{at}; write a condition over arguments, like "cents > 100"'
            ) from error
        except ValueError as error:
            raise ConfigError(f"where {text!r}: {error}") from error
        self._evaluator = EvalWithCompoundTypes(functions=_FUNCTIONS)

    def matches(self, arguments: Mapping[str, Any]) -> bool:
        """Whether it holds for a task's arguments, as `schemas.generic` shows them.

        Raises:
            WhereFailed: an argument is missing, or of a type that does not fit.
        """
        self._evaluator.names = {"args": dict(arguments), **arguments}
        try:
            return bool(self._evaluator.eval(self.text, previously_parsed=self._parsed))
        except NameNotDefined as error:
            there = ", ".join(arguments) or "none"
            raise WhereFailed(
                f"where {self.text!r}: there is no argument {error.name!r}; there are: {there}"
            ) from error
        except (InvalidExpression, ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise WhereFailed(f"where {self.text!r}: {error}") from error

    def __str__(self) -> str:
        return self.text
