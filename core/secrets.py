"""What must never be shown: passwords and tokens, wherever settings may carry them.

Two guards. What shows settings shows them through `shown`, and errors about them through `without`. And
whatever slips past, in an error of a library, say, `Veil` takes out of every log line.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"

SHORTEST = 4
"""Characters: what is shorter is no secret, and would be found in the midst of other words."""

_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|credential|jaas|private|\.key\b|key\.pem|api[._-]?key|auth\.user\.info",
    re.IGNORECASE,
)
_PLAIN_NAME = re.compile(r"endpoint|\.url$|location$|username|\.id$|\.method$|scope", re.IGNORECASE)
# To the last @ before the path, for a password that nobody has quoted may hold one.
_USER_INFO = re.compile(r"(?<=://)[^\s/'\"]+(?=@)")
_IN_OBJECT = ("password", "secret", "token", "passwords")


def hides(name: str) -> bool:
    """Whether an option of that name holds a secret."""
    return bool(_SECRET_NAME.search(name)) and not _PLAIN_NAME.search(name)


def shown(value: Any, name: str = "") -> Any:
    """A setting as it may be shown: tables without their secrets, addresses without user and password.

    Args:
        value: the setting's value, of whatever type.
        name: the setting's name, or the option's in a table.
    """
    if isinstance(value, Mapping):
        return {key: shown(one, str(key)) for key, one in value.items()}
    if name and hides(name):
        return HIDDEN
    if isinstance(value, str):
        return without_user(value)
    if isinstance(value, list | tuple):
        return [shown(one) for one in value]
    plain = value is None or isinstance(value, bool | int | float)
    return value if plain else f"<{type(value).__name__}>"


def without_user(text: str) -> str:
    """A text in which no address has a user or a password any more."""
    return _USER_INFO.sub(HIDDEN, text) if "://" in text else text


def secrets_in(values: Mapping[str, Any]) -> frozenset[str]:
    """All secrets in settings, by name, as they are and as they stand in an address."""
    return frozenset(one for one in _found(values, "") if len(one) >= SHORTEST)


def without(text: str, values: Mapping[str, Any]) -> str:
    """A text in which none of these settings' secrets stands any more."""
    return Veil(secrets_in(values)).over(text)


class Veil:
    """Takes known secrets, and users of addresses, out of texts.

    Args:
        secrets: what is hidden.
    """

    __slots__ = ("_known",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # The longest first: one may stand in another.
        words = sorted(
            {form for secret in secrets for form in _forms(secret)}, key=len, reverse=True
        )
        self._known = re.compile("|".join(map(re.escape, words))) if words else None

    def over(self, text: str) -> str:
        """The text without them."""
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return without_user(text)


def _forms(secret: str) -> set[str]:
    """How it may be written: as it is, and quoted once or twice, as values in a table in a line are."""
    forms = {secret}
    for _ in range(2):
        forms |= {
            quoted(form)[1:-1]
            for form in forms
            for quoted in (repr, json.dumps, partial(json.dumps, ensure_ascii=False))
        }
    return forms


def _found(value: Any, name: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _found(one, str(key))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _found(one, name)
    elif isinstance(value, str | bytes):
        yield from _in_text(
            value if isinstance(value, str) else value.decode(errors="replace"), name
        )
    else:
        for inner in _IN_OBJECT:  # an authenticator of the Cassandra driver, say
            word = getattr(value, inner, None)
            if isinstance(word, str):
                yield word


def _in_text(text: str, name: str) -> Iterator[str]:
    if name and hides(name):
        yield text
        # A key in PEM is shown line by line where it is shown at all.
        yield from (line.strip() for line in text.splitlines() if not line.startswith("-----"))
    for user in _USER_INFO.findall(text):
        _, colon, password = user.partition(":")
        for one in (user, password if colon else ""):
            yield one
            yield unquote(one)
