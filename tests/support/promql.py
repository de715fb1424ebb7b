"""What a question in PromQL asks of which metrics: read by a real parser, judged by the table of metrics."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser

from taskstream.observability.table import METRICS, PROCESS_METRICS, Kind, Metric

TARGET = frozenset({"job", "instance"})
"""Labels that Prometheus puts on everything it fetches."""

FOREIGN = {"up": TARGET, "ALERTS": TARGET | {"alertname", "alertstate", "severity"}}
"""Series that Prometheus makes itself, and their labels."""

COUNTING = frozenset({"rate", "increase", "irate", "resets"})
"""Functions that make sense of counters alone."""

_FUNCTIONS_OF_ANYTHING = frozenset({"changes", "last_over_time", "max_over_time"})


@dataclass(frozen=True, slots=True)
class Sample:
    """A kind of sample at /metrics.

    Args:
        metric: which metric it belongs to.
        labels: its labels, those of Prometheus among them.
        counts: whether it only grows.
    """

    metric: Metric
    labels: frozenset[str]
    counts: bool


def samples() -> dict[str, Sample]:
    """Every kind of sample that the table's metrics have, by name."""
    found = {}
    for metric in METRICS:
        labels = frozenset(metric.label_names) | TARGET
        if metric.kind is Kind.HISTOGRAM:
            for ending in ("_sum", "_count"):
                found[metric.prometheus_name + ending] = Sample(metric, labels, counts=True)
            found[f"{metric.prometheus_name}_bucket"] = Sample(metric, labels | {"le"}, counts=True)
        else:
            found[metric.sample_name] = Sample(metric, labels, counts=metric.kind is Kind.COUNTER)
    for name, metric in PROCESS_METRICS:
        found[name] = Sample(metric, TARGET, counts=metric.kind is Kind.COUNTER)
    return found


SAMPLES = samples()


@dataclass(frozen=True, slots=True)
class Selected:
    """One selector in a question.

    Args:
        name: of the samples.
        equal: labels that must have a value, and that value.
        matched: all labels that it looks at.
        counted: whether it stands in a function of counters.
        compared: whether it is asked for what was not there before (`x unless x offset …`).
    """

    name: str
    equal: dict[str, str]
    matched: frozenset[str]
    counted: bool
    compared: bool


def parse(question: str) -> Any:
    """The question's tree, with Grafana's variables filled in. Raises ValueError where it is none."""
    plain = re.sub(r"\$__rate_interval|\$__range|\$__interval", "5m", question)
    return promql_parser.parse(re.sub(r"\$\{?\w+\}?", "x", plain))


def selected(tree: Any, function: str = "", *, compared: bool = False) -> Iterator[Selected]:
    """Every selector in a tree."""
    kind = type(tree).__name__
    if kind == "VectorSelector":
        matchers = tree.matchers.matchers
        yield Selected(
            name=tree.name,
            equal={one.name: one.value for one in matchers if str(one.op) == "MatchOp.Equal"},
            matched=frozenset(one.name for one in matchers),
            counted=function in COUNTING,
            compared=compared,
        )  # fmt: skip
    elif kind == "MatrixSelector":
        yield from selected(tree.vector_selector, function, compared=compared)
    elif kind == "Call":
        for argument in tree.args:
            yield from selected(argument, tree.func.name, compared=compared)
    elif kind == "BinaryExpr":
        newborn = newborn_only(tree)
        for side in (tree.lhs, tree.rhs):
            yield from selected(side, function, compared=compared or newborn)
    elif kind in ("AggregateExpr", "ParenExpr", "UnaryExpr", "SubqueryExpr"):
        yield from selected(tree.expr, function, compared=compared)
    else:
        assert kind in ("NumberLiteral", "StringLiteral"), kind


def newborn_only(tree: Any) -> bool:
    """Whether it is `x unless x offset …`: what is there now, and was not before."""
    return (
        type(tree.lhs).__name__ == "VectorSelector"
        and type(tree.rhs).__name__ == "VectorSelector"
        and tree.lhs.name == tree.rhs.name
        and tree.rhs.offset is not None
    )


def labels(tree: Any) -> frozenset[str]:
    """The labels that an answer's lines may have.

    Raises:
        AssertionError: it groups by a label that is not there, or takes a quantile of no buckets.
    """
    kind = type(tree).__name__
    if kind == "VectorSelector":
        return FOREIGN.get(tree.name) or SAMPLES[tree.name].labels
    if kind == "MatrixSelector":
        return labels(tree.vector_selector)
    if kind == "AggregateExpr":
        inner = labels(tree.expr)
        if tree.modifier is None:
            return frozenset()
        grouped = frozenset(tree.modifier.labels)
        assert str(tree.modifier.type).endswith("By"), tree.modifier.type
        assert grouped <= inner, f"grouped by {sorted(grouped - inner)}, which is not there"
        return grouped
    if kind == "Call":
        vectors = [one for one in tree.args if not type(one).__name__.endswith("Literal")]
        inner = labels(vectors[-1]) if vectors else frozenset()
        if tree.func.name == "histogram_quantile":
            assert "le" in inner, "a quantile needs buckets, and their `le`"
            assert all(one.name.endswith("_bucket") for one in selected(tree.args[1]))
            return inner - {"le"}
        assert tree.func.name in COUNTING | _FUNCTIONS_OF_ANYTHING, tree.func.name
        return inner
    if kind == "BinaryExpr":
        left, right = labels(tree.lhs), labels(tree.rhs)
        return left or right
    if kind in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        return labels(tree.expr)
    return frozenset()
