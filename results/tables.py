"""The Cassandra tables as text: filled in, sized to the time results are kept, and compared.

Pure: it reads `tables.cql` beside it and talks to no server.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from taskstream.core.tiers import DAY, HOUR, MINUTE

REMARK_EVERY = HOUR
"""A writer that knows a minute to be marked marks it again after this long."""

WINDOWS = 50
"""Time windows of compaction at most: each keeps a file of its own on every node."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table as it should be.

    Args:
        name: without the keyspace.
        statement: the statement that creates it where it doesn't exist.
        columns: CQL type by column name.
        ttl: whole seconds after which its rows expire.
    """

    name: str
    statement: str
    columns: Mapping[str, str]
    ttl: int


def tables(keyspace: str, result_ttl: float) -> list[Table]:
    """All tables for results that are kept for `result_ttl` seconds.

    A mark in an index may be as old as `REMARK_EVERY` when a row is written under it, and must
    outlive that row.
    """
    size, unit = window(result_ttl)
    ttl, index_ttl = math.ceil(result_ttl), math.ceil(result_ttl + REMARK_EVERY)
    text = Template(
        _without_comments(Path(__file__).with_name("tables.cql").read_text())
    ).substitute(
        keyspace=keyspace, ttl=ttl, index_ttl=index_ttl, window_size=size, window_unit=unit
    )
    return [_table(statement.strip()) for statement in text.split(";") if statement.strip()]


def window(result_ttl: float) -> tuple[int, str]:
    """The smallest compaction window that splits the time into at most `WINDOWS`: (size, unit)."""
    for unit, seconds, most in (
        ("MINUTES", MINUTE, 60),
        ("HOURS", HOUR, 24),
        ("DAYS", DAY, math.inf),
    ):
        size = max(1, math.ceil(result_ttl / WINDOWS / seconds))
        if size < most:
            return size, unit
    raise AssertionError("days have no upper end")


def drift(table: Table, columns: Mapping[str, str], ttl: int) -> list[str]:
    """In plain words, how the table that is there differs from the one that should be."""
    found = []
    for name, wanted in table.columns.items():
        if name not in columns:
            found.append(
                f"{table.name} has no column {name} {wanted} (ALTER TABLE {table.name} ADD {name} {wanted})"
            )
        elif columns[name] != wanted:
            found.append(f"{table.name}.{name} is {columns[name]}, not {wanted}")
    if ttl != table.ttl:
        found.append(f"{table.name} keeps rows for {ttl} s, result_ttl asks for {table.ttl} s")
    return found


def _without_comments(text: str) -> str:
    return re.sub(r"--.*", "", text)


def _table(statement: str) -> Table:
    name = re.search(r"EXISTS \w+\.(\w+)", statement)
    ttl = re.search(r"default_time_to_live = (\d+)", statement)
    assert name is not None
    assert ttl is not None
    columns = dict(re.findall(r"^    ([a-z_]+) ([a-z]+),$", statement, re.MULTILINE))
    return Table(name[1], statement, columns, int(ttl[1]))
