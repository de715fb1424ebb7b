"""The document of a run: what was found, what follows from it, and whether it is whole. Pure.

Samples are what was measured; figures, ratios and targets are computed from them when the document is
sealed, so that nobody has to compute them again, and a page can be made of an old document.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.contenders import BARE, OURS, Contender
from benchmarks.figures import BY_NAME, Figure, figures, ratio
from benchmarks.growth import Point
from benchmarks.targets import judge

FORMAT = 1

Document = dict[str, Any]

COMPARED = ("publish_per_s", "drain_per_s", "both_per_s")
"""Measures of which each contender's ratio is told."""

NEEDED = {
    OURS.name: ("publish_per_s", "drain_per_s", "cold_start_s", "body_p50_ms", "result_p99_ms",
                "drain_cpu_s", "busy_mib"),
    BARE.name: ("raw_produce_per_s", "drain_per_s", "plain_drain_per_s", "consumed_p50_ms", "read_p99_ms"),
}  # fmt: skip
"""What even a short run must have."""


def empty(
    about: Mapping[str, Any], contenders: Sequence[Contender], points: Sequence[Point]
) -> Document:
    """A document without samples.

    Args:
        about: when, what and on what: `taken`, `commit`, `plan`, `machine`, `versions`.
        contenders: who takes part.
        points: of growth.
    """
    return {
        "format": FORMAT,
        **about,
        "contenders": {
            one.name: {
                "title": one.title,
                "peer": one.peer,
                "results": one.results,
                "tuned": one.tuned,
                "samples": [],
                "failures": [],
                "missing": "",
            }
            for one in contenders
        },
        "growth": {
            one.name: {
                "axis": one.axis,
                "value": one.value,
                "samples": [],
                "failures": [],
                "missing": "",
            }
            for one in points
        },
    }


def sealed(document: Document) -> Document:
    """The document with what follows from its samples."""
    found = {**document}
    for part in ("contenders", "growth"):
        found[part] = {
            name: {
                **one,
                "figures": {
                    measure: {**asdict(value), "spread": value.spread}
                    for measure, value in figures(one["samples"]).items()
                },
            }
            for name, one in document[part].items()
        }
    medians = medians_of(found)
    ours = medians.get(OURS.name, {})
    found["ratios"] = {
        name: {
            measure: times
            for measure in COMPARED
            if (times := ratio(ours.get(measure), medians[name].get(measure))) is not None
        }
        for name in found["contenders"]
        if name != OURS.name
    }
    found["targets"] = [asdict(judged) for judged in judge(medians)]
    return found


def figures_of(document: Document) -> dict[str, dict[str, Figure]]:
    """The figures of a sealed document, by contender or point of growth."""
    return {
        name: {
            measure: Figure(value["median"], value["lowest"], value["highest"], value["repeats"])
            for measure, value in one["figures"].items()
        }
        for part in ("contenders", "growth")
        for name, one in document[part].items()
    }


def medians_of(document: Document) -> dict[str, dict[str, float]]:
    """Their medians alone."""
    return {
        name: {measure: value.median for measure, value in measures.items()}
        for name, measures in figures_of(document).items()
    }


def problems(document: Document) -> list[str]:
    """What a document lacks, a sentence each; none where it is whole.

    A peer may be missing, if it says why; taskstream and the bare loop, where they take part, may not.
    """
    keys = ("taken", "plan", "machine", "versions", "contenders", "growth", "ratios", "targets")
    found = [f"there is no {key!r}" for key in keys if key not in document]
    if found:
        return found
    if document["format"] != FORMAT:
        found.append(f"format {document['format']} is not {FORMAT}")
    for name, one in document["contenders"].items():
        measures = one["figures"]
        if not measures and not one["missing"] and not one["failures"]:
            found.append(f"{name} has no samples and does not say why")
        lacking = [measure for measure in NEEDED.get(name, ()) if measure not in measures]
        if lacking:
            said = one["missing"] or "; ".join(one["failures"]) or "no reason is given"
            found.append(f"{name} lacks {', '.join(lacking)}: {said}")
        found += [
            f"{name} has {measure}, which is no measure"
            for measure in measures
            if measure not in BY_NAME
        ]
        found += [
            f"{name}: {measure} is {value['median']}"
            for measure, value in measures.items()
            if not value["median"] >= 0
        ]
    return found
