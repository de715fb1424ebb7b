"""Writes the boards for Grafana, infra/grafana/boards/*.json, from the table of metrics.

`make docs` runs it; with `--check` it writes nothing and fails where a board is not what this file says. Names
come from the table, so a metric that is renamed takes its panels along, and each panel says what its metrics mean.

Boards tell apps apart by Prometheus' label `job` (`infra/prometheus/prometheus.yaml`).
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as of
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from taskstream.observability import table as seen
from taskstream.observability.table import Kind, Metric

BOARDS = Path(__file__).parents[1] / "infra" / "grafana" / "boards"

SOURCE = model.DataSourceRef("prometheus", "${datasource}")
APP = 'job="$app"'
LANE = f'{APP}, queue=~"$queue", priority=~"$priority"'
TOPIC = f'{APP}, topic=~".+[.]($queue)[.]($priority)"'
PROCESS = f'{APP}, instance=~"$instance"'
WINDOW = "[$__rate_interval]"
BY_LANE = "{{queue}}.{{priority}}"
QUANTILES = ((0.5, "half"), (0.95, "95 of 100"), (0.99, "99 of 100"))
STATE_COLORS = {"succeeded": "green", "retrying": "orange", "dead": "red", "cancelled": "purple", "expired": "blue"}  # fmt: skip

Panel = Any
"""A builder of any kind of panel; they share no class."""


# --- PromQL


@dataclass(frozen=True, slots=True)
class Query:
    """A question to Prometheus.

    Args:
        expr: in PromQL.
        legend: how its lines are called.
        about: the metrics in it.
        exemplars: whether its points lead to traces.
    """

    expr: str
    legend: str
    about: tuple[Metric, ...]
    exemplars: bool = False


def rate(metric: Metric, by: str = "", *, where: str = APP, legend: str = "") -> Query:
    """How much a counter, or the number of values of a histogram, grows a second."""
    inner = f"rate({metric.sample_name}{{{where}}}{WINDOW})"
    return Query(_summed("sum", by, inner), legend or _legend(by, metric), (metric,))


def value(metric: Metric, by: str = "", *, how: str = "sum", where: str = APP, legend: str = "") -> Query:  # fmt: skip
    """A gauge, of all processes together."""
    assert metric.kind is Kind.GAUGE, metric.name
    inner = f"{metric.prometheus_name}{{{where}}}"
    return Query(_summed(how, by, inner), legend or _legend(by, metric), (metric,))


def seen_by(metric: Metric, by: str = "", *, largest: bool = False, where: str = APP, legend: str = "") -> Query:  # fmt: skip
    """What dashboards tell: each of them the same, so of several the largest value counts.

    Then the sum over what `by` leaves out, or where `largest` the largest value.
    """
    labels = ", ".join(metric.label_names)
    once = f"max by ({labels}) ({metric.prometheus_name}{{{where}}})"
    expr = _summed("max" if largest else "sum", by, once)
    return Query(expr, legend or _legend(by, metric), (metric,))


def of_process(name: str, *, grows: bool = False) -> Query:
    """What each process tells of itself, by the name that it has at /metrics."""
    inner = f"{name}{{{PROCESS}}}"
    expr = f"rate({inner}{WINDOW})" if grows else inner
    return Query(expr, "{{instance}}", (dict(seen.PROCESS_METRICS)[name],))


def grown(metric: Metric, by: str = "", *, where: str = APP, legend: str = "") -> Query:
    """How much a counter grew over the whole time that is shown."""
    inner = f"increase({metric.sample_name}{{{where}}}[$__range])"
    return Query(_summed("sum", by, inner), legend or _legend(by, metric), (metric,))


def quantile(share: float, metric: Metric, by: str = "", *, where: str = APP, legend: str = "") -> Query:  # fmt: skip
    """What this share of a histogram's values is no larger than."""
    assert metric.kind is Kind.HISTOGRAM, metric.name
    labels = ", ".join(part for part in (by, "le") if part)
    buckets = f"sum by ({labels}) (rate({metric.prometheus_name}_bucket{{{where}}}{WINDOW}))"
    return Query(
        f"histogram_quantile({share:g}, {buckets})", legend or _legend(by, metric), (metric,), True
    )


def quantiles(metric: Metric, *, where: str = APP) -> list[Query]:
    """Half, 95 and 99 of 100."""
    return [quantile(share, metric, where=where, legend=name) for share, name in QUANTILES]


def mean(metric: Metric, *, where: str = APP, legend: str = "mean") -> Query:
    """The mean of a histogram's values."""
    total, number = (f"sum(rate({metric.prometheus_name}_{end}{{{where}}}{WINDOW}))" for end in ("sum", "count"))  # fmt: skip
    return Query(f"{total} / {number}", legend, (metric,))


def part(some: Query, whole: Query, legend: str = "") -> Query:
    """One question's answer as a share of another's."""
    return Query(f"{some.expr} / {whole.expr}", legend or some.legend, some.about)


def _summed(how: str, by: str, inner: str) -> str:
    return f"{how} by ({by}) ({inner})" if by else f"{how}({inner})"


def _legend(by: str, metric: Metric) -> str:
    labels = [label.strip() for label in by.split(",") if label.strip()]
    return ".".join(f"{{{{{label}}}}}" for label in labels) or metric.name


# --- panels


def chart(
    title: str, queries: Query | Sequence[Query], unit: str = "short", *, span: int = 8, stacked: bool = False,
    limit: float | None = None, most: float | None = None, note: str = "",
) -> Panel:  # fmt: skip
    """Lines over time; with a limit the part above it is red."""
    asked = [queries] if isinstance(queries, Query) else list(queries)
    made = (
        timeseries.Panel()
        .title(title).description(_about(asked, note)).datasource(SOURCE).span(span).height(8).unit(unit).min(0)
        .line_width(1).fill_opacity(25 if stacked else 8).show_points(of.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().show_legend(True).display_mode(of.LegendDisplayMode.LIST)
                .placement(of.LegendPlacement.BOTTOM).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(of.TooltipDisplayMode.MULTI).sort(of.SortOrder.DESCENDING))
        .targets(_targets(asked))
    )  # fmt: skip
    if stacked:
        made = made.stacking(common.StackingConfig().group("A").mode(of.StackingMode.NORMAL))
    if most is not None:
        made = made.max(most)
    if limit is not None:
        made = made.thresholds(_thresholds([(None, "green"), (limit, "red")])).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(of.GraphThresholdsStyleMode.LINE)
        )
    for state, color in STATE_COLORS.items():
        fixed = model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
        if any("{{state}}" in query.legend for query in asked):
            made = made.override_by_name(state, [fixed])
    return made


def figure(
    title: str, query: Query, unit: str = "short", *, warn: float | None = None, bad: float | None = None,
    low: bool = False, span: int = 3, note: str = "",
) -> Panel:  # fmt: skip
    """One number, coloured from `warn` and `bad` on, or, where `low`, below them."""
    steps: list[tuple[float | None, str]] = [(None, "green")]
    if low:
        steps = [(None, "red"), (warn, "green")]
    else:
        steps += [(at, color) for at, color in ((warn, "orange"), (bad, "red")) if at is not None]
    return (
        stat.Panel()
        .title(title).description(_about([query], note)).datasource(SOURCE).span(span).height(4).unit(unit)
        .color_mode(of.BigValueColorMode.VALUE).graph_mode(of.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
        .thresholds(_thresholds(steps)).no_value("-").targets(_targets([query]))
    )  # fmt: skip


def listing(title: str, query: Query, columns: dict[str, str], unit: str = "short", *, span: int = 12, note: str = "") -> Panel:  # fmt: skip
    """A table of what is so now: the label and the title of each column, and `Value` for the number."""
    others = {name: True for name in ("Time", "__name__", "job", "instance", "alertstate") if name not in columns}  # fmt: skip
    order = {name: number for number, name in enumerate(columns)}
    return (
        table.Panel()
        .title(title).description(_about([query], note)).datasource(SOURCE).span(span).height(8).unit(unit)
        .no_value("none")
        .with_transformation(model.DataTransformerConfig(id_val="organize", options={"excludeByName": others, "indexByName": order, "renameByName": columns}))
        .targets([_target(query).instant().format(PromQueryFormat.TABLE).ref_id("A")])
    )  # fmt: skip


def words(title: str, markdown: str, *, span: int = 24, height: int = 3) -> Panel:
    """A text."""
    return text.Panel().title(title).mode(TextMode.MARKDOWN).content(markdown).span(span).height(height)  # fmt: skip


def _about(queries: Iterable[Query], note: str) -> str:
    """What a panel shows, in the words of the table."""
    known = dict.fromkeys(metric for query in queries for metric in query.about)
    told = [f"`{metric.name}`: {metric.meaning}." for metric in known]
    return "\n\n".join([note, *told] if note else told)


def _targets(queries: Sequence[Query]) -> list[Any]:
    return [_target(query).ref_id(chr(ord("A") + number)) for number, query in enumerate(queries)]


def _target(query: Query) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).datasource(SOURCE)
    return made.exemplar(True) if query.exemplars else made


def _thresholds(steps: Iterable[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    made = [model.Threshold(value=at, color=color) for at, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(made)


# --- boards

Rows = Sequence[tuple[str, Sequence[Panel]]]


def board(uid: str, title: str, about: str, rows: Rows, variables: Sequence[Any] = ()) -> model.Dashboard:  # fmt: skip
    """A board of rows, each with a title and its panels."""
    made = (
        dashboard.Dashboard(f"taskstream: {title}")
        .uid(f"taskstream-{uid}").description(about).tags(["taskstream"]).time("now-1h", "now").refresh("30s")
        .timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR).editable()
        .link(
            dashboard.DashboardLink("taskstream").type(model.DashboardLinkType.DASHBOARDS).tags(["taskstream"])
            .as_dropdown(False).include_vars(True).keep_time(True)
        )
        .annotation(
            dashboard.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color("red")
            .expr(f'ALERTS{{{APP}, alertstate="firing", alertname=~"Taskstream.*"}}')
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(_variable("app", "App", f"{seen.INFO.prometheus_name}", "job", several=False))
    )  # fmt: skip
    for variable in variables:
        made = made.with_variable(variable)
    for title_of_row, panels in rows:
        made = made.with_row(dashboard.Row(title_of_row))
        for panel in panels:
            made = made.with_panel(panel)
    built = made.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return built


def _variable(name: str, label: str, series: str, of_label: str, *, several: bool = True) -> dashboard.QueryVariable:  # fmt: skip
    made = (
        dashboard.QueryVariable(name).label(label).datasource(SOURCE)
        .query({"query": f"label_values({series}, {of_label})", "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(model.VariableSort.ALPHABETICAL_ASC)
    )  # fmt: skip
    return made.multi(True).include_all(True).all_value(".+") if several else made


def _of_lane() -> list[Any]:
    name = seen.WAITING.prometheus_name
    return [
        _variable("queue", "Queue", f"{name}{{{APP}}}", "queue"),
        _variable("priority", "Priority", f'{name}{{{APP}, queue=~"$queue"}}', "priority"),
    ]


def _of_process() -> list[Any]:
    return [_variable("instance", "Process", f"{seen.INFO.prometheus_name}{{{APP}}}", "instance")]


def _state(state: str, where: str = APP) -> Query:
    return rate(seen.ATTEMPTS, where=f'{where}, state="{state}"', legend=state)


def overview() -> model.Dashboard:
    """What a person on call looks at first."""
    failing = part(rate(seen.ATTEMPTS, where=f'{APP}, state=~"dead|retrying"'), rate(seen.ATTEMPTS))
    workers = Query(f'count({seen.INFO.prometheus_name}{{{APP}, role="worker"}})', "workers", (seen.INFO,))  # fmt: skip
    firing = Query(f'ALERTS{{{APP}, alertstate="firing", alertname=~"Taskstream.*"}}', "", ())
    rows: Rows = [
        ("Now", [
            figure("Finished a second", rate(seen.ATTEMPTS), "cps"),
            figure("Failing", failing, "percentunit", warn=0.05, bad=0.2, note="Attempts that died or are tried again, of all that ended."),
            figure("Died", grown(seen.DEAD), warn=1, bad=10, note="Over the time that is shown."),
            figure("Waited (95 of 100)", quantile(0.95, seen.WAIT_DURATION), "s", warn=10, bad=60),
            figure("Not finished", value(seen.LAG), note="Records behind the commits, of all partitions that have an owner."),
            figure("Oldest", value(seen.OLDEST_AGE, how="max"), "s", warn=300, bad=900),
            figure("Workers", workers, warn=1, low=True),
            figure("Children", value(seen.CHILDREN), warn=1, low=True),
        ]),
        ("With or without workers, as a dashboard sees it", [
            figure("Not finished", seen_by(seen.QUEUE_LAG), span=6),
            figure("Oldest", seen_by(seen.QUEUE_AGE, largest=True), "s", warn=300, bad=900, span=6),
            figure("Open dead letters", seen_by(seen.DEAD_OPEN), warn=1, span=6),
            figure("Seen", value(seen.LOOK_AGE, how="min"), "s", warn=60, bad=120, span=6, note="By the dashboard that looked last."),
            chart("Not finished, by queue and priority", seen_by(seen.QUEUE_LAG, "queue, priority")),
            chart("Age of the oldest, by queue and priority", seen_by(seen.QUEUE_AGE, "queue, priority"), "s"),
            chart("Workers alive, by queue", seen_by(seen.WORKERS, "queue")),
        ]),
        ("Alerts", [
            listing("Firing", firing, {"alertname": "alert", "severity": "severity", "queue": "queue", "priority": "priority", "instance": "process"}, span=24,
                    note="What each of them means, and what to do: docs/monitoring.md."),
        ]),
        ("Work", [
            chart("Attempts by how they ended", rate(seen.ATTEMPTS, "state"), "cps", stacked=True),
            chart("Waiting time, from append or due time to start", quantiles(seen.WAIT_DURATION), "s"),
            chart("Running time (95 of 100) by task", quantile(0.95, seen.PROCESS_DURATION, "task"), "s"),
            chart("Attempts by queue", rate(seen.ATTEMPTS, "queue, priority"), "cps"),
            chart("Tried again, by task and reason", rate(seen.RETRIES, "task, reason"), "cps"),
            chart("Dead letters, by queue and reason", rate(seen.DEAD, "queue, reason"), "cps"),
        ]),
        ("Backlog", [
            chart("Not finished, by topic", value(seen.LAG, "topic")),
            chart("Age of the oldest task that is not finished", value(seen.OLDEST_AGE, "queue, priority", how="max"), "s"),
            chart("Slots taken", part(value(seen.RUNNING), value(seen.SLOTS), "taken"), "percentunit", most=1),
            chart("Delayed tasks, by topic", value(seen.DELAYED, "topic")),
            chart("Held back by a pause or a drain", [
                value(seen.HELD_BACK, "queue, priority"), seen_by(seen.QUEUE_HELD, "queue, priority", legend=f"{BY_LANE}: an order holds"),
            ]),
            chart("Halted, fenced, full", [
                value(seen.HALTED, how="max", legend="halted"), value(seen.FENCED, how="max", legend="fenced"),
                value(seen.PAUSED, legend="full partitions"),
            ]),
        ]),
        ("Machinery", [
            chart("Time since the last commit", value(seen.COMMIT_AGE, "queue, priority", how="max"), "s", limit=30),
            chart("Result store (99 of 100)", quantile(0.99, seen.STORE_DURATION, "system"), "s", limit=1),
            chart("Kafka (99 of 100)", quantile(0.99, seen.OPERATION_DURATION, "operation"), "s", limit=1),
        ]),
    ]  # fmt: skip
    return board("overview", "overview", "What an app does now, and what is wrong with it.", rows)


def queue() -> model.Dashboard:
    """One queue, or one priority of it."""
    weight = value(
        seen.WEIGHT, "queue, priority", how="max", where=LANE, legend=f"{BY_LANE} weight"
    )
    given = rate(seen.GIVEN, "queue, priority", where=LANE, legend=f"{BY_LANE} given")
    rows: Rows = [
        ("Now", [
            figure("Finished a second", rate(seen.ATTEMPTS, where=LANE), "cps", span=4),
            figure("Failing", part(rate(seen.ATTEMPTS, where=f'{LANE}, state=~"dead|retrying"'), rate(seen.ATTEMPTS, where=LANE)), "percentunit", warn=0.05, bad=0.2, span=4),
            figure("Not finished", value(seen.LAG, where=TOPIC), span=4),
            figure("Oldest", value(seen.OLDEST_AGE, how="max", where=LANE), "s", warn=300, bad=900, span=4),
            figure("Deaths left before it is halted", value(seen.DEATH_BUDGET, how="min", where=LANE), "percentunit", warn=0.25, low=True, span=4),
            figure("Partitions with an owner", value(seen.PARTITIONS, where=LANE), warn=1, low=True, span=4),
        ]),
        ("Work", [
            chart("Attempts by how they ended", rate(seen.ATTEMPTS, "state", where=LANE), "cps", stacked=True),
            chart("Waiting time, from append or due time to start", quantiles(seen.WAIT_DURATION, where=LANE), "s"),
            chart("Dead letters by reason", rate(seen.DEAD, "reason", where=f'{APP}, queue=~"$queue"'), "cps"),
            chart("Given out, beside the weights", [given, weight], note="While all priorities have tasks, what is given out is shared as the weights say."),
            chart("Taken in from Kafka", rate(seen.CONSUMED, "topic", where=TOPIC), "cps"),
            chart("Dropped by reason", rate(seen.DROPPED, "reason", where=f'{APP}, queue=~"$queue"'), "cps"),
        ]),
        ("Where tasks are", [
            chart("Not finished, by partition", value(seen.LAG, "topic, partition", where=TOPIC)),
            chart("Finished behind an unfinished one", value(seen.WATERMARK_GAP, "topic, partition", where=TOPIC)),
            chart("Age of the oldest", value(seen.OLDEST_AGE, "queue, priority", how="max", where=LANE), "s"),
            chart("Taken in and not given out", value(seen.WAITING, "queue, priority", where=LANE)),
            chart("In children", value(seen.RUNNING, "queue, priority", where=LANE)),
            chart("Full partitions", value(seen.PAUSED, "queue, priority", where=LANE)),
        ]),
        ("Orders, limits, faults", [
            chart("Held back by a pause or a drain", value(seen.HELD_BACK, "queue, priority", where=LANE)),
            chart("Deferred through a delay topic", rate(seen.DEFERRED, "queue, priority", where=LANE), "cps"),
            chart("Halted or fenced", [value(seen.HALTED, "queue, priority", how="max", where=LANE, legend=f"{BY_LANE} halted"), value(seen.FENCED, "queue, priority", how="max", where=LANE, legend=f"{BY_LANE} fenced")]),
            chart("Deaths left before it is halted", value(seen.DEATH_BUDGET, "queue, priority", how="min", where=LANE), "percentunit", most=1),
            chart("Abandoned: another worker's by now", rate(seen.ABANDONED, "queue, priority", where=LANE), "cps"),
            chart("Time since the last commit", value(seen.COMMIT_AGE, "queue, priority", how="max", where=LANE), "s", limit=30),
        ]),
    ]  # fmt: skip
    return board("queue", "queue", "One queue or one priority: what waits, what runs, and what holds it up.", rows, _of_lane())  # fmt: skip


def workers() -> model.Dashboard:
    """Processes and their children."""
    info = Query(f"{seen.INFO.prometheus_name}{{{PROCESS}}}", "", (seen.INFO,))
    up = Query(f"up{{{PROCESS}}}", "{{instance}}", ())
    rows: Rows = [
        ("Processes", [
            listing("Alive", info, {"instance": "process", "role": "role", "version": "version"}, span=8),
            chart("Answers Prometheus", up, most=1),
            chart("Partitions owned", value(seen.PARTITIONS, "instance", where=PROCESS)),
        ]),
        ("Children", [
            chart("Children by kind", value(seen.CHILDREN, "instance, kind", where=PROCESS)),
            chart("Slots taken", part(value(seen.RUNNING, "instance", where=PROCESS), value(seen.SLOTS, "instance", where=PROCESS)), "percentunit", most=1),
            chart("Children that died, by reason", rate(seen.CHILD_DEATHS, "instance, reason", where=PROCESS), "cps"),
            chart("Processor time of the children", rate(seen.CHILD_CPU, "instance", where=PROCESS), "s", note="Seconds a second: 1 is a whole core."),
            chart("Memory of the children", value(seen.CHILD_MEMORY, "instance", where=PROCESS), "bytes"),
            chart("Children without a result store", value(seen.STORELESS, "instance", where=PROCESS)),
        ]),
        ("Parents", [
            chart("Processor time", of_process("process_cpu_seconds_total", grows=True), "s", note="Seconds a second: 1 is a whole core."),
            chart("Memory", of_process("process_resident_memory_bytes"), "bytes"),
            chart("Open files", of_process("process_open_fds")),
        ]),
        ("What they run", [
            chart("Attempts a second", rate(seen.ATTEMPTS, "instance", where=PROCESS), "cps"),
            chart("Running time (half) by task", quantile(0.5, seen.PROCESS_DURATION, "task", where=PROCESS), "s"),
            chart("Running time (99 of 100) by task", quantile(0.99, seen.PROCESS_DURATION, "task", where=PROCESS), "s"),
            chart("Attempts by task", rate(seen.PROCESS_DURATION, "task", where=PROCESS), "cps"),
            chart("Not succeeded, by task", rate(seen.PROCESS_DURATION, "task, state", where=f'{PROCESS}, state!="succeeded"'), "cps"),
            chart("Abandoned: another worker's by now", rate(seen.ABANDONED, "instance", where=PROCESS), "cps"),
        ]),
        ("Sharing the work", [
            chart("Rebalances", rate(seen.REBALANCES, "instance, change", where=PROCESS), "cps"),
            chart("How long a rebalance took (95 of 100)", quantile(0.95, seen.REBALANCE_DURATION, "queue, priority", where=PROCESS), "s"),
            chart("Orders in force", value(seen.ORDERS, "verb", how="max", where=PROCESS)),
        ]),
    ]  # fmt: skip
    return board("workers", "workers", "Processes, their children, and how they share the work.", rows, _of_process())  # fmt: skip


def servers() -> model.Dashboard:
    """Kafka and the result store, as the workers see them."""
    rows: Rows = [
        ("Result store", [
            chart("How long a batch took", quantiles(seen.STORE_DURATION, where=PROCESS), "s"),
            chart("Batches a second, by error", rate(seen.STORE_DURATION, "system, error_type", where=PROCESS), "cps"),
            chart("Rows in a batch", [mean(seen.ROWS_PER_BATCH, where=PROCESS), quantile(0.95, seen.ROWS_PER_BATCH, where=PROCESS, legend="95 of 100")]),
            chart("Rows that wait", value(seen.ROWS_PENDING, "instance", where=PROCESS)),
            chart("Batches that were not taken, by reason", rate(seen.STORE_FAILURES, "system, reason", where=PROCESS), "cps"),
            chart("Children without a result store", value(seen.STORELESS, "instance", where=PROCESS)),
        ]),
        ("Kafka: commits and records", [
            chart("How long an acknowledgement took (99 of 100)", quantile(0.99, seen.OPERATION_DURATION, "operation", where=PROCESS), "s", limit=1),
            chart("Records sent, by topic", rate(seen.SENT, "topic", where=f'{PROCESS}, error_type=""'), "cps"),
            chart("Records that were not taken", rate(seen.SENT, "topic, error_type", where=f'{PROCESS}, error_type!=""'), "cps"),
            chart("Records consumed, by topic", rate(seen.CONSUMED, "topic", where=PROCESS), "cps"),
            chart("Time since the last commit", value(seen.COMMIT_AGE, "instance", how="max", where=PROCESS), "s", limit=30),
            chart("Commits that failed", rate(seen.COMMIT_FAILURES, "queue, priority", where=PROCESS), "cps"),
        ]),
        ("Kafka: the client library", [
            chart("Round trip to the slowest broker", value(seen.KAFKA_RTT, "client, quantile", how="max", where=PROCESS), "s"),
            chart("Requests that wait for an answer", value(seen.KAFKA_WAITING, "client", where=PROCESS)),
            chart("Requests without an answer in time, failed, sent again", [
                rate(seen.KAFKA_TIMEOUTS, "client", where=PROCESS, legend="{{client}} no answer"),
                rate(seen.KAFKA_ERRORS, "client", where=PROCESS, legend="{{client}} failed"),
                rate(seen.KAFKA_RETRIES, "client", where=PROCESS, legend="{{client}} again"),
            ], "cps"),
            chart("Sent to brokers", rate(seen.KAFKA_TX_BYTES, "client", where=PROCESS), "Bps"),
            chart("Received from brokers", rate(seen.KAFKA_RX_BYTES, "client", where=PROCESS), "Bps"),
            chart("Requests", rate(seen.KAFKA_TX, "client", where=PROCESS), "cps"),
            chart("In producers' queues", [value(seen.KAFKA_QUEUED, "client", where=PROCESS)]),
            chart("In producers' queues, bytes", value(seen.KAFKA_QUEUED_BYTES, "client", where=PROCESS), "bytes"),
            chart("Connections made and ended", [
                rate(seen.KAFKA_CONNECTS, where=PROCESS, legend="made"), rate(seen.KAFKA_DISCONNECTS, where=PROCESS, legend="ended"),
                rate(seen.CLIENTS_REPLACED, where=PROCESS, legend="clients made anew"),
            ], "cps"),
            chart("Fetched ahead", value(seen.KAFKA_FETCHED, "client", where=PROCESS)),
            chart("Fetched ahead, bytes", value(seen.KAFKA_FETCHED_BYTES, "client", where=PROCESS), "bytes"),
        ]),
    ]  # fmt: skip
    return board("servers", "Kafka and the result store", "The servers, as workers and schedulers see them.", rows, _of_process())  # fmt: skip


def delays() -> model.Dashboard:
    """What waits for its time."""
    rows: Rows = [
        ("Delays and retries", [
            figure("Waiting for their time", value(seen.DELAYED), span=6),
            figure("Late by (99 of 100)", quantile(0.99, seen.DELAY_LATENESS), "s", warn=1, bad=5, span=6),
            figure("Home a second", rate(seen.MOVED, where=f'{APP}, to="home"'), "cps", span=6),
            figure("Buried", grown(seen.MOVED, where=f'{APP}, to="dead"'), bad=1, span=6, note="Over the time that is shown."),
            chart("Waiting, by topic", value(seen.DELAYED, "topic"), stacked=True),
            chart("How late they came home", quantiles(seen.DELAY_LATENESS), "s", limit=5),
            chart("Moved, by where to", rate(seen.MOVED, "to"), "cps"),
            chart("Waiting, by scheduler", value(seen.DELAYED, "instance")),
            chart("Deferred by a pause or a drain", rate(seen.DEFERRED, "queue, priority"), "cps"),
            chart("Tried again, by task and reason", rate(seen.RETRIES, "task, reason"), "cps"),
        ]),
        ("Schedules", [
            chart("Firings, by schedule", rate(seen.SCHEDULES_FIRED, "schedule"), "cps"),
            chart("How late they fired", quantiles(seen.SCHEDULE_LATENESS), "s", limit=5),
            chart("Passed over, by reason", rate(seen.SCHEDULES_SKIPPED, "schedule, reason"), "cps"),
            listing("Fired over the time that is shown", grown(seen.SCHEDULES_FIRED, "schedule"), {"schedule": "schedule", "Value": "firings"}),
            chart("Not taken by Kafka", rate(seen.SCHEDULE_FAILURES, "schedule"), "cps", span=12),
        ]),
    ]  # fmt: skip
    return board("delays", "delays and schedules", "What waits for its time, and how late it comes.", rows)  # fmt: skip


def dead() -> model.Dashboard:
    """What has died, and of what."""
    died = rate(seen.ATTEMPTS, "queue, priority", where=f'{APP}, state="dead"')
    rows: Rows = [
        ("", [
            words("Looking at them", "The letters themselves, with arguments and tracebacks: `taskstream dead list`, or *Dead letters* in the dashboard. From there they are corrected and run again."),
        ]),
        ("Deaths", [
            figure("Died", grown(seen.DEAD), warn=1, bad=10, span=6, note="Over the time that is shown."),
            figure("Of all attempts", part(_state("dead"), rate(seen.ATTEMPTS)), "percentunit", warn=0.01, bad=0.1, span=6),
            figure("Least budget of deaths", value(seen.DEATH_BUDGET, how="min"), "percentunit", warn=0.25, low=True, span=6),
            figure("Halted priorities", value(seen.HALTED), bad=1, span=6),
            listing("Open now, as a dashboard sees it", seen_by(seen.DEAD_OPEN, "queue, reason"), {"queue": "queue", "reason": "reason", "Value": "dead letters"}),
            chart("Open dead letters, by queue", seen_by(seen.DEAD_OPEN, "queue"), span=12, stacked=True),
            chart("Dead letters, by queue and reason", rate(seen.DEAD, "queue, reason"), "cps", span=12, stacked=True),
            chart("Share of attempts that die", part(died, rate(seen.ATTEMPTS, "queue, priority")), "percentunit", span=12, limit=0.1),
            listing("By reason, over the time that is shown", grown(seen.DEAD, "queue, reason"), {"queue": "queue", "reason": "reason", "Value": "dead letters"}),
            listing("Tried again, over the time that is shown", grown(seen.RETRIES, "task, reason"), {"task": "task", "reason": "reason", "Value": "retries"}),
        ]),
        ("What leads there", [
            chart("Tried again, by task and reason", rate(seen.RETRIES, "task, reason"), "cps"),
            chart("Failed attempts, by task", rate(seen.PROCESS_DURATION, "task, state", where=f'{APP}, state=~"dead|retrying"'), "cps"),
            chart("Children that died, by reason", rate(seen.CHILD_DEATHS, "reason"), "cps"),
            chart("Deaths left before a priority is halted", value(seen.DEATH_BUDGET, "queue, priority", how="min"), "percentunit", most=1),
            chart("Halted", value(seen.HALTED, "queue, priority", how="max")),
            chart("Buried by the scheduler", rate(seen.MOVED, where=f'{APP}, to="dead"', legend="dead"), "cps"),
        ]),
    ]  # fmt: skip
    return board("dead", "dead letters", "What has died, of what, and what leads there.", rows)


def boards() -> dict[str, str]:
    """All boards as JSON, by file name."""
    made = (overview(), queue(), workers(), servers(), delays(), dead())
    return {
        f"{one.uid}.json": json.dumps(one, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for one in made
    }


def main(arguments: Sequence[str]) -> int:
    """Writes the boards, or with `--check` names those that are not current; returns the exit code."""
    made = boards()
    BOARDS.mkdir(exist_ok=True)
    known = {path.name: path.read_text(encoding="utf-8") for path in BOARDS.glob("*.json")}
    stale = sorted(name for name in {**known, **made} if known.get(name) != made.get(name))
    if "--check" in arguments:
        for name in stale:
            print(f"infra/grafana/boards/{name} is not what the code says: run `make docs`", file=sys.stderr)  # fmt: skip
        return 1 if stale else 0
    for name in stale:
        if name in made:
            (BOARDS / name).write_text(made[name], encoding="utf-8")
        else:
            (BOARDS / name).unlink()
        print(f"wrote infra/grafana/boards/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
