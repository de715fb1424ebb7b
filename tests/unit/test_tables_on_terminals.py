"""Tables of the command line: what a narrow terminal cuts, and what it never does.

Broken on purpose once, and seen to fail: with `WHOLE` at 30 an id was cut, and with the terminal's width as the
table's rich cut all columns.
"""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.admin.cli.arguments import WHOLE, fitted, new_table, print_table

ID = "0190a5b0-7c1f-7000-8000-000000000000"


class Screen(io.StringIO):
    """What is written to a terminal."""

    def isatty(self) -> bool:
        return True


@given(st.lists(st.integers(0, 300), max_size=12), st.integers(0, 400))
def test_columns_fit_or_are_as_narrow_as_they_may_be(natural: list[int], room: int) -> None:
    """No column grows, none is cut below an id's length, and none is cut for nothing."""
    widths = fitted(natural, room)
    assert all(min(was, WHOLE) <= now <= was for was, now in zip(natural, widths, strict=True))
    assert sum(widths) <= room or max(widths, default=0) <= WHOLE
    if sum(natural) <= room:
        assert widths == natural


@pytest.mark.parametrize("columns", ["20", "60", "200"])
def test_an_id_is_never_cut(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    """It can be copied from a terminal of any width, where a long error gives way."""
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", columns)
    _print("declined " * 40)
    assert ID in screen.getvalue()
    assert "…" in screen.getvalue()
    assert len(screen.getvalue().splitlines()) == 2


def test_a_pipe_gets_all(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is cut where a program reads, and each row is a line."""
    _print("declined " * 40)
    printed = capsys.readouterr().out
    assert ("declined " * 40).strip() in printed
    assert len(printed.splitlines()) == 2


def _print(error: str) -> None:
    table = new_table(("id", "task"), ("run",))
    table.add_column("error")
    table.add_row(ID, "charge", "0", error)
    print_table(table)
