"""A shadow: the same app under another name for all that it writes. Pure.

A shadow's workers run the functions that tasks name as `shadow=`, on old traffic that a replay brings
them. Nothing in a worker knows of it: topics, groups and the keyspace are those of an app of another
name, so no result, reply, retry or dead letter of a shadow can reach the app's own.
"""

import re
from dataclasses import replace

from taskstream.core.errors import ConfigError
from taskstream.core.names import check_part
from taskstream.core.settings import Settings

MARK = "@"
"""Between an app and the name of its shadow where both are typed as one: `shop.main:app@nightly`."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,19}")
_LONGEST_KEYSPACE = 48
"""Characters; Cassandra's own limit."""


def shadow_app(app: str, shadow: str) -> str:
    """The name of an app's shadow.

    Raises:
        ConfigError: the shadow's name is not allowed, or too long beside the app's.
    """
    if not _NAME.fullmatch(shadow):
        raise ConfigError(
            f"shadow name {shadow!r} is not allowed: use 1 to 20 small letters, digits or '_', a "
            "letter first (it is part of a keyspace's name)"
        )
    return check_part("app", f"{app}-shadow-{shadow}")


def shadow_settings(settings: Settings, shadow: str) -> Settings:
    """The settings of an app's shadow: the same servers, and a keyspace of its own.

    Raises:
        ConfigError: the broker is the embedded one, or the keyspace's name gets too long.
    """
    if settings.embedded:
        raise ConfigError(
            f"shadow {shadow}: the embedded broker has one result file for all; a shadow needs real "
            "servers (`taskstream up`)"
        )
    keyspace = f"{settings.keyspace}_shadow_{shadow}"
    if len(keyspace) > _LONGEST_KEYSPACE:
        raise ConfigError(
            f"shadow {shadow}: keyspace {keyspace} would have more than {_LONGEST_KEYSPACE} "
            "characters: choose a shorter name"
        )
    return replace(settings, keyspace=keyspace)
