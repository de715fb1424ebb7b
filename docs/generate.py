"""Writes the pages of docs/ that are tables of the code: settings.md and metrics.md.

`make docs` runs it; with `--check` it writes nothing and fails where a page is not what the code
says, so that a setting can't be added without its line here.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from taskstream.core.settings import Settings
from taskstream.core.tiers import DAY, HOUR, MINUTE
from taskstream.infra.settings import ServerSettings
from taskstream.infra.settings import variable as server_variable
from taskstream.observability.table import (
    ERROR,
    LOG_FIELDS,
    METRICS,
    PROCESS_METRICS,
    SPANS,
    Attribute,
    Kind,
)

HERE = Path(__file__).parent
METRICS_HEAD = """\
**Prometheus.** `taskstream worker APP --health-port 9464` serves `/metrics`: what the worker's parent counts, its
children (which tell it once a second), and the scheduler beside it (every two seconds).
`taskstream scheduler APP --health-port 9465` serves its own. The [dashboard](dashboard.md#metrics) serves those that say
"(dashboard)" at its `/metrics`, with or without a worker, and a token where it has one. Workers and schedulers listen on 127.0.0.1, without a password;
`--health-host 0.0.0.0` lets others in, which a container needs. `curl -s localhost:9464/metrics` shows all of it, and
this scrapes it:

```yaml
scrape_configs:
  - job_name: shop  # the app: boards and alerts tell apps apart by it (docs/monitoring.md)
    static_configs: [{targets: ["localhost:9464", "localhost:9465", "localhost:8787"]}]
```

**OTLP.** With `otlp_endpoint` set, workers and schedulers also send the same numbers, under the same names and the
conventions' attributes, to that collector over gRPC: every 10 s and at their end, as `{app}-worker` and
`{app}-scheduler`, each process with a `service.instance.id`. `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` sends them elsewhere
than the spans, `OTEL_METRIC_EXPORT_INTERVAL` (milliseconds) at another pace, `OTEL_METRICS_EXPORTER=none` nowhere. A
collector that is slow or gone costs numbers and a line in the log, and slows no task; all that is sent is cumulative,
so nothing is missing once it is back. One that takes spans alone, as Jaeger does, is asked every ten
minutes.

**Programs that publish.** Where your program has set a meter provider, it is asked for
`messaging.client.sent.messages` (by topic, failures by `error.type`), `messaging.client.operation.duration` and the
`librdkafka.*` of its producer; you need not call anything. Where it has none and `otlp_endpoint` is set, they are sent
there as above, from `taskstream[otlp]` on. What a task publishes is counted by its worker.

**Exemplars.** `taskstream.wait.duration` and `messaging.process.duration` remember for each bucket the latest attempt
whose trace is recorded. Prometheus gets them where it asks for OpenMetrics (start it with
`--enable-feature=exemplar-storage`), an OTLP collector always: Grafana leads from a slow bucket to its trace.

**What it costs.** Counting is one addition for a record and two for an attempt, many at a time: 31 ns for a
counter, 67 ns for a value in a histogram, 309 ns where it has an exemplar (x86_64, 2 cores, Python 3.11;
`COUNT=0 make bench ONLY=counting`, which shows prometheus_client's own figures beside them; without `COUNT=0` it
measures a whole drain, too). librdkafka tells its statistics every ten seconds, unless
`kafka={"statistics.interval.ms": ...}` says otherwise. No label is an id or a key; a metric with more than 1,000 series
in one process counts the rest under `other`, and says so in the log.

A counter's name ends in `_total` at `/metrics`, and a histogram has `_bucket`, `_sum` and `_count`."""

NOTE = "<!-- Written by `make docs` from the code: change it there. -->"


def main(arguments: Sequence[str]) -> int:
    """Writes the pages, or with `--check` names those that are not current; returns the exit code."""
    pages = {"settings.md": settings_page(), "metrics.md": metrics_page()}
    stale = [name for name, text in pages.items() if _current(HERE / name) != text]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/{name} is not what the code says: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (HERE / name).write_text(pages[name], encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


def settings_page() -> str:
    """Every setting of an app and of the local servers, with its variable and default."""
    return "\n".join(
        [
            "# Settings",
            "",
            NOTE,
            "",
            (
                "The first place that names a setting wins: a command-line flag, `App(...)`, the environment "
                "variable, `taskstream.toml` or `[tool.taskstream]` in `pyproject.toml`, a running "
                "`taskstream up`. Times are in seconds."
            ),
            "",
            *_table(
                ("setting", "variable", "default", "what it is"),
                _setting_rows(Settings, lambda name: f"TASKSTREAM_{name.upper()}"),
            ),
            "",
            "`kafka` and `cassandra` are tables of options (JSON objects in the environment).",
            "",
            "## Local servers",
            "",
            "What `taskstream up` takes as options (`--kafka-port 9192`) or from the environment.",
            "",
            *_table(
                ("setting", "variable", "default", "what it is"),
                _setting_rows(ServerSettings, server_variable),
            ),
            "",
        ]
    )


def metrics_page() -> str:
    """Every metric, span and log field."""
    lines = [
        "# Metrics, spans and log fields",
        "",
        NOTE,
        "",
        "## Metrics",
        "",
        *METRICS_HEAD.splitlines(),
        "",
        *_table(
            ("name", "at /metrics", "kind", "unit", "labels", "what it tells"),
            (
                (
                    f"`{metric.name}`",
                    f"`{metric.prometheus_name}{'_total' * (metric.kind is Kind.COUNTER)}`",
                    metric.kind,
                    metric.unit.strip("{}"),
                    ", ".join(f"`{name}`" for name in metric.label_names),
                    metric.meaning,
                )
                for metric in METRICS
            ),
        ),
        "",
        (
            "Beside these, `/metrics` has what prometheus_client tells of any Python process: `process_*` (this "
            "one's processor time, memory and open files) and `python_gc_*`. OTLP gets of them:"
        ),
        "",
        *_table(
            ("name", "at /metrics", "what it tells"),
            ((f"`{metric.name}`", f"`{name}`", metric.meaning) for name, metric in PROCESS_METRICS),
        ),
        "",
        "### Labels",
        "",
        *_table(
            ("label", "over OTLP", "what it tells apart"),
            _unique(
                (f"`{label.name}`", f"`{label.otel_name}`", label.meaning)
                for m in METRICS
                for label in m.labels
            ),
        ),
        "",
        "## Spans",
        "",
    ]
    for span in SPANS:
        lines += [f"### `{span.name}` ({span.kind})", "", _sentence(span.meaning), ""]
        lines += [*_attributes(span.attributes), ""]
    lines += ["### What an error adds", "", *_attributes(ERROR), ""]
    lines += ["## Log fields", "", *_attributes(LOG_FIELDS), ""]
    return "\n".join(lines)


def _current(page: Path) -> str | None:
    return page.read_text(encoding="utf-8") if page.exists() else None


def _setting_rows(kind: type[Any], variable: Callable[[str], str]) -> Iterable[tuple[str, ...]]:
    meanings = _argument_meanings(kind)
    hints = get_type_hints(kind)
    for setting in fields(kind):
        default = _default(setting, hints[setting.name])
        yield (
            f"`{setting.name}`",
            f"`{variable(setting.name)}`",
            default,
            meanings[setting.name],
        )


def _argument_meanings(kind: type[Any]) -> dict[str, str]:
    """The lines below `Args:` in a class's docstring, by argument; a line that goes on is joined."""
    _, _, arguments = (inspect.getdoc(kind) or "").partition("Args:\n")
    arguments = re.split(r"\n\n", arguments, maxsplit=1)[0]
    meanings: dict[str, str] = {}
    name = ""
    for line in arguments.splitlines():
        if begin := re.match(r" {4}(\w+): (.*)", line):
            name = begin[1]
            meanings[name] = begin[2]
        else:
            meanings[name] += " " + line.strip()
    return meanings


def _default(setting: Any, hint: Any) -> str:
    if setting.default is MISSING:
        return "by the user's directories" if hint is Path else ""
    value = setting.default
    if hint is float:
        return _duration(value)
    return f"`{value}`" if value != "" else ""


def _duration(seconds: float) -> str:
    """A number of seconds, with its plain name where it has one."""
    for unit, name in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if seconds > unit and seconds % unit == 0:
            return f"`{seconds:.0f}` ({seconds / unit:g} {name})"
    return f"`{seconds:g}`"


def _attributes(attributes: Iterable[Attribute]) -> list[str]:
    return _table(("name", "what it tells"), ((f"`{a.name}`", a.meaning) for a in attributes))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _unique(rows: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(rows))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
