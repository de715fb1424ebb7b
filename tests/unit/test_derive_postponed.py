"""Type hints as text: modules with `from __future__ import annotations` define tasks too."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import NotRequired, Required, TypedDict

from taskstream.schemas.codec import ArgumentsCodec
from taskstream.schemas.derive import derive


@dataclass
class Point:
    """A class whose hints are text."""

    x: int
    y: float | None = None


class Spot(TypedDict, total=False):
    """Here Python itself can't tell what is required."""

    at: Required[Point]
    label: str
    note: NotRequired[str]


class Place(Spot):
    """Required again."""

    name: str


def mark(place: Place, points: list[Point]) -> None: ...


def test_hints_that_are_text_are_read() -> None:
    """Also those inside the types of the parameters."""
    place = Place(name="here", at=Point(1, 2.0), label="l")
    codec = ArgumentsCodec(derive(mark, task="mark"))
    body = codec.encode((place, [Point(3)]), {})
    assert codec.decode(body) == {"place": place, "points": [Point(3)]}


def test_defining_a_task_loads_neither_the_avro_library_nor_a_client() -> None:
    """They are most of what an import would cost an app that never publishes."""
    code = (
        "import sys; from taskstream.schemas.derive import derive\n"
        "def f(x: int) -> str: ...\n"
        "derive(f, task='f')\n"
        "print([name for name in ('fastavro', 'confluent_kafka', 'httpx') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
