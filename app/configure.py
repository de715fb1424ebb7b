"""Where settings come from; the first source that names one wins.

    1. command-line flags
    2. App(...)
    3. TASKSTREAM_* in the environment
    4. taskstream.toml, or [tool.taskstream] in pyproject.toml, of the working directory or the
       nearest one above it that has either
    5. a running `taskstream up`

The last one counts only where nothing above names a broker, and then as a whole: results of a
production Kafka must never end in a laptop's Cassandra because that happens to be up.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from taskstream.core.errors import ConfigError
from taskstream.core.secrets import shown
from taskstream.core.settings import NAMES, Layer, Settings, resolve

PREFIX = "TASKSTREAM_"
FILE = "taskstream.toml"
PROJECT_FILE = "pyproject.toml"

_TABLES = ("kafka", "cassandra")


class SettingArguments(TypedDict, total=False):
    """The settings as keyword arguments of `App(...)`, told in `core.settings.Settings`."""

    bootstrap_servers: str
    cassandra_hosts: str
    keyspace: str
    cassandra_datacenter: str
    otlp_endpoint: str
    schema_registry_url: str
    partitions: int
    replication: int
    result_ttl: float
    retention: float
    publish_timeout: float
    unknown_grace: float
    dead_limit: int
    dead_share: float
    events: bool
    stuck_after: float
    log_level: str
    log_format: str
    embedded_directory: str
    kafka: Mapping[str, Any]
    cassandra: Mapping[str, Any]


def configure(
    *,
    flags: Mapping[str, Any],
    arguments: Mapping[str, Any],
    environment: Mapping[str, str],
    directory: Path,
    running: Callable[[], Mapping[str, Any] | None],
    say: Callable[[str], None],
) -> Settings:
    """The settings, merged from all layers.

    Args:
        flags: from the command line, by setting name; None values are skipped.
        arguments: what `App(...)` was given.
        environment: the process environment.
        directory: where the search for a file starts.
        running: asks for the settings of a running `taskstream up`; None where there is none.
        say: told one line for people when those are used.

    Raises:
        ConfigError: a name is unknown, a value has the wrong type, or a file can't be read.
    """
    layers = [
        Layer("the command line", flags),
        Layer("App(...)", arguments),
        from_environment(environment),
    ]
    file = from_file(directory)
    if file is not None:
        layers.append(file)
    if not any(layer.values.get("bootstrap_servers") for layer in layers):
        values = _known(running())
        if values:
            layers.append(Layer("the running `taskstream up`", values))
            say(f"taskstream: using the servers of `taskstream up`: {_told(values)}")
    return resolve(layers)


def outside_settings(*names: str) -> Settings:
    """Some settings by the environment and the settings file alone, for a process that has no app yet.

    Raises:
        ConfigError: a value has the wrong type, or the file can't be read.
    """
    layers = [from_environment(os.environ), from_file(Path.cwd())]
    found = [
        Layer(layer.source, {name: layer.values[name] for name in names if name in layer.values})
        for layer in layers
        if layer is not None
    ]
    return resolve(found)


def from_environment(environment: Mapping[str, str]) -> Layer:
    """The TASKSTREAM_* variables that name a setting; `kafka` and `cassandra` hold JSON objects.

    Variables of other names are not ours to judge: other parts read TASKSTREAM_APP and the like.
    """
    values: dict[str, Any] = {}
    for name in NAMES:
        variable = PREFIX + name.upper()
        if variable in environment:
            text = environment[variable]
            values[name] = _parse_table(variable, text) if name in _TABLES else text
    return Layer(f"{PREFIX}* environment", values)


def from_file(directory: Path) -> Layer | None:
    """The settings file of the nearest directory, from `directory` upwards, that has one.

    Raises:
        ConfigError: the file is not TOML.
    """
    for place in (directory, *directory.parents):
        file = place / FILE
        if file.is_file():
            return Layer(str(file), _read_toml(file))
        project = place / PROJECT_FILE
        if project.is_file():
            table = _read_toml(project).get("tool", {}).get("taskstream")
            if table is not None:
                return Layer(f"[tool.taskstream] of {project}", table)
    return None


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - a tenth of our import time, and many a process has no file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} can't be read as TOML: {error}") from error


def _parse_table(variable: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{variable} must be a JSON object of options: {error}") from error


def _known(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """Without what only people need, the address of a web page, say."""
    return {name: value for name, value in (values or {}).items() if name in NAMES}


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in shown(values).items())
