"""The bench's document and its page: whole, sealed, and written from samples alone."""

import copy
import json
from typing import Any

import pytest
from benchmarks.contenders import CONTENDERS, chosen, order
from benchmarks.document import NEEDED, empty, problems, sealed
from benchmarks.figures import changes
from benchmarks.growth import points
from benchmarks.pages import DOCS, LATEST
from benchmarks.plots import names
from benchmarks.report import comparison, number, page

ABOUT: dict[str, Any] = {
    "taken": "2026-01-02 03:04 UTC",
    "commit": "abc1234",
    "plan": {"scale": 1.0, "repeats": 2, "short": False},
    "machine": {"processor": "p", "cores": 2, "memory_gib": 8.0, "system": "Linux 6", "python": "3.11"},
    "versions": {"taskstream": {"taskstream": "0.1.0"}, "servers": {}, "peers": {}},
}  # fmt: skip


def document(**extra: float) -> dict[str, Any]:
    """A whole one with two repeats of what is needed, one peer measured, the others missing."""
    found = empty(ABOUT, CONTENDERS, [next(points())])
    for name, measures in NEEDED.items():
        found["contenders"][name]["samples"] = [
            dict.fromkeys(measures, 100.0),
            dict.fromkeys(measures, 120.0),
        ]
    for name, one in found["contenders"].items():
        if name not in NEEDED:
            one["missing"] = "not installed"
    huey = found["contenders"]["huey"]
    huey["missing"], huey["samples"] = "", [{"drain_per_s": 55.0, **extra}]
    return sealed(found)


def test_a_sealed_document_has_medians_ratios_and_targets() -> None:
    """All of them from the samples."""
    found = document()
    assert found["contenders"]["taskstream"]["figures"]["drain_per_s"]["median"] == 110.0
    assert found["ratios"]["huey"] == {"drain_per_s": 2.0}
    assert {one["what"]: one["reached"] for one in found["targets"]}["drain, to the bare loop's"]


def test_a_whole_document_has_no_problems() -> None:
    """Peers that are missing say so, and are none."""
    assert problems(document()) == []


def test_what_a_document_lacks_is_named() -> None:
    """A key, a measure that everybody needs, a peer that vanished without a word."""
    found = document()
    without = copy.deepcopy(found)
    del without["targets"]
    assert problems(without) == ["there is no 'targets'"]

    without = copy.deepcopy(found)
    del without["contenders"]["bare"]["figures"]["read_p99_ms"]
    assert problems(without) == ["bare lacks read_p99_ms: no reason is given"]

    without = copy.deepcopy(found)
    without["contenders"]["dramatiq"]["missing"] = ""
    assert problems(without) == ["dramatiq has no samples and does not say why"]


def test_a_figure_that_is_none_is_a_problem() -> None:
    """A measure nobody knows, or a number that can't be."""
    assert problems(document(nonsense=1.0)) == ["huey has nonsense, which is no measure"]
    assert problems(document(publish_per_s=float("nan"))) == ["huey: publish_per_s is nan"]


def test_the_page_tells_figures_targets_and_who_is_missing() -> None:
    """Nothing on it is typed by hand."""
    written = page(document(), ["throughput.svg"])
    assert "| drain, to the bare loop's | ≥ 0.8 times | 1.00 times | yes |" in written
    assert "| Huey, Redis |" in written
    assert "110 ±9%" in written
    assert "**missing**: not installed" in written
    assert "![throughput](benchmarks/throughput.svg)" in written


def test_the_page_in_docs_is_that_of_the_newest_run() -> None:
    """Written from its document by `make bench-page`, and not changed since."""
    if not LATEST.exists():
        pytest.skip("no full run is kept yet")
    newest = json.loads(LATEST.read_text("utf-8"))
    assert (DOCS / "benchmarks.md").read_text("utf-8") == page(newest, names(newest))
    assert all((DOCS / "benchmarks" / plot).exists() for plot in names(newest))
    assert problems(newest) == []


def test_a_short_run_says_so() -> None:
    """Nobody is to take its figures for more than they are."""
    found = document()
    found["plan"]["short"] = True
    assert "**short run**" in page(found)


def test_numbers_keep_three_digits() -> None:
    """Whatever their size."""
    assert [number(n) for n in (12_345.6, 99.44, 3.14159, 0.01234, 0.0)] == [
        "12,346", "99.4", "3.14", "0.012", "0",
    ]  # fmt: skip


def test_a_comparison_tells_noise_from_change() -> None:
    """In words."""
    figures = {"huey": {"drain_per_s": _figure(100)}}
    rows = comparison(changes({"huey": {"drain_per_s": _figure(150)}}, figures))
    assert rows == [("huey", "drain with results", "100", "150", "1.50", "better")]
    assert comparison(changes(figures, figures))[0][-1] == "within the spread"


def test_contenders_are_chosen_by_name_or_project() -> None:
    """An unknown one is refused, with those that exist."""
    assert [one.name for one in chosen(["taskiq"], peers=True)] == ["taskiq-redis", "taskiq-kafka"]
    assert [one.name for one in chosen([], peers=False)] == ["taskstream", "bare"]
    assert chosen([], peers=True) == CONTENDERS
    with pytest.raises(ValueError, match="no contender 'sidekiq'"):
        chosen(["sidekiq"], peers=True)


def test_rounds_have_everybody_once_and_begin_elsewhere() -> None:
    """So that nobody always comes first, or always after the same one."""
    rounds = [order(CONTENDERS, number) for number in range(4)]
    assert all(sorted(o.name for o in one) == sorted(o.name for o in CONTENDERS) for one in rounds)
    assert len({one[0].name for one in rounds}) > 2
    assert order((), 3) == ()


def _figure(value: float) -> Any:
    from benchmarks.figures import Figure

    return Figure(value, value, value, 1)
