"""The boards for Grafana and the alert rules for Prometheus, against the table of metrics and the docs.

Broken on purpose once, and seen to fail: a misspelt metric, a label that its metric does not have, `rate` of a
gauge, a counter as it is, a quantile without `le`, a runbook without its section, two panels on one place, a
metric without a panel, a rule that no story shows.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from tests.support.promql import FOREIGN, SAMPLES, labels, parse, selected

from taskstream.core.settings import Settings
from taskstream.observability.table import METRICS, PROCESS_METRICS

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
BOARDS = sorted((INFRA / "grafana" / "boards").glob("*.json"))
RULES = INFRA / "prometheus" / "taskstream.rules.yaml"
STORIES = INFRA / "prometheus" / "tests.yaml"

VALUES_IN_MEANING = frozenset({"state", "change", "to", "role", "operation", "kind", "verb"})
"""Labels whose values the table tells in words."""


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def board(path: Path) -> dict[str, Any]:
    """A board as it is stored."""
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def panels(path: Path) -> list[dict[str, Any]]:
    """The panels of a board, rows among them."""
    listed: list[dict[str, Any]] = board(path)["panels"]
    return listed


def questions() -> Iterator[tuple[str, str, str]]:
    """Every question of boards and rules: where it stands, it, and how its lines are called."""
    for path in BOARDS:
        for panel in panels(path):
            for target in panel.get("targets", ()):
                yield (
                    f"{path.stem}: {panel['title']}",
                    target["expr"],
                    target.get("legendFormat", ""),
                )
        for note in board(path)["annotations"]["list"]:
            yield f"{path.stem}: {note['name']}", note["expr"], ""
    for rule in rules():
        yield rule["alert"], rule["expr"], ""


ASKED = [pytest.param(question, legend, id=where) for where, question, legend in questions()]


@pytest.mark.parametrize(("question", "legend"), ASKED)
def test_questions_ask_for_what_is_there(question: str, legend: str) -> None:
    """Each metric and label is one of the table, values too where it names them, and lines are called by labels."""
    tree = parse(question)
    for one in selected(tree):
        known = FOREIGN.get(one.name)
        sample = SAMPLES.get(one.name)
        assert known is not None or sample is not None, f"{one.name} is none of our metrics"
        there = known if sample is None else sample.labels
        assert one.matched <= (there or frozenset()), f"{one.name} has no {sorted(one.matched)}"
        meanings = {label.name: label.meaning for label in sample.metric.labels} if sample else {}
        for name in VALUES_IN_MEANING & set(one.equal) & set(meanings):
            assert re.search(rf"\b{one.equal[name]}\b", meanings[name]), (
                f"{name} is never {one.equal[name]}"
            )
    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels(tree)


@pytest.mark.parametrize(("question", "legend"), ASKED)
def test_functions_fit_the_kind_of_metric(question: str, legend: str) -> None:
    """Rates of what only grows, and of nothing else; what only grows is never shown as it is."""
    for one in selected(parse(question)):
        if one.name in FOREIGN:
            continue
        counts = SAMPLES[one.name].counts
        assert one.counted == counts or (counts and one.compared), one.name


def test_every_metric_has_a_panel() -> None:
    """What is worth counting is worth seeing."""
    shown = {
        one.name
        for path in BOARDS
        for question in _of_board(path)
        for one in selected(parse(question))
    }
    missing = [
        metric.name
        for metric in (*METRICS, *(one for _, one in PROCESS_METRICS))
        if not any(name in shown for name in _samples_of(metric.name))
    ]
    assert not missing


def _of_board(path: Path) -> Iterator[str]:
    return (target["expr"] for panel in panels(path) for target in panel.get("targets", ()))


def _samples_of(metric: str) -> list[str]:
    return [name for name, sample in SAMPLES.items() if sample.metric.name == metric]


# Rules


def test_each_alert_says_how_grave_it_is_and_what_to_do() -> None:
    """A name of its own, a severity, a sentence with the app, and a section of the docs that is there."""
    sections = _sections(ROOT / "docs" / "monitoring.md")
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        name, notes = rule["alert"], rule["annotations"]
        assert re.fullmatch(r"Taskstream[A-Z]\w+", name)
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
        assert notes["summary"].startswith("{{ $labels.job }}: "), name
        assert set(re.findall(r"\$labels\.(\w+)", notes["summary"])) <= labels(
            parse(rule["expr"])
        ), name
        assert notes["runbook_url"] == f"docs/monitoring.md#{name.lower()}"
        assert name.lower() in sections, f"docs/monitoring.md says nothing of {name}"
    told = {
        section
        for section in sections
        if section.startswith("taskstream") and section != "taskstream-top"
    }
    assert told == {name.lower() for name in names}


def _sections(page: Path) -> set[str]:
    """The anchors that Markdown's renderers give to a page's titles."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_alert_has_its_story() -> None:
    """`promtool` plays them (`tests/unit/test_promtool.py`); one that is in none would never be seen to fire."""
    played = STORIES.read_text()
    assert [rule["alert"] for rule in rules() if f'alertname="{rule["alert"]}"' not in played] == []


def test_half_of_the_retention_is_what_the_worker_alarms_at() -> None:
    """The rule has the number of the default retention; the log line of a worker follows the real one."""
    (rule,) = [rule for rule in rules() if rule["alert"] == "TaskstreamRetentionNear"]
    assert set(re.findall(r"> (\d+)", rule["expr"])) == {f"{Settings().alarming_age:.0f}"}


# Boards


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_is_what_grafana_expects(path: Path) -> None:
    """Read and written by the types that Grafana publishes, it stays the same."""
    stored = board(path)
    read = Dashboard.from_json(json.loads(path.read_text()))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == stored
    assert stored["uid"] == path.stem
    assert len(stored["uid"]) <= 40


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_have_places_of_their_own(path: Path) -> None:
    """No two lie on each other or beyond the edge, and each has its number."""
    listed = panels(path)
    numbers = [panel["id"] for panel in listed]
    assert len(set(numbers)) == len(numbers)
    taken: dict[tuple[int, int], str] = {}
    for panel in listed:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_panels_ask_the_chosen_source_and_say_what_they_show(path: Path) -> None:
    """Every panel with a question follows the choice of the data source, and explains itself."""
    for panel in panels(path):
        if not panel.get("targets"):
            continue
        for source in (panel["datasource"], *(target["datasource"] for target in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        named = {one.name for target in panel["targets"] for one in selected(parse(target["expr"]))}
        assert panel["description"] or named <= set(FOREIGN), panel["title"]


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_variables_are_there_before_they_are_asked_for(path: Path) -> None:
    """What a question names is a variable of the board; what a variable names stands above it."""
    known: set[str] = set()
    for variable in board(path)["templating"]["list"]:
        asked = (
            str(variable.get("query", {}).get("query", ""))
            if isinstance(variable.get("query"), dict)
            else ""
        )
        assert set(re.findall(r"\$(\w+)", asked)) <= known
        if asked:
            series = re.fullmatch(r"label_values\((.+), (\w+)\)", asked)
            assert series is not None
            assert series[2] in labels(parse(series[1]))
        known.add(variable["name"])
    named = {name for question in _of_board(path) for name in re.findall(r"\$(\w+)", question)}
    assert named - {"__rate_interval", "__range"} <= known


def test_boards_have_names_of_their_own() -> None:
    """Six of them, for six questions, each reached from the others by their tag."""
    stored = [board(path) for path in BOARDS]
    assert len({one["title"] for one in stored}) == len(stored) == 6
    assert all(one["tags"] == ["taskstream"] for one in stored)


# What holds them together


def test_the_containers_find_their_files() -> None:
    """Each folder that the compose file gives to Prometheus and Grafana is there, and holds what they look for."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    mounted = {}
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["observability"]
        for volume in services[name]["volumes"]:
            source, target = volume.split(":")[:2]
            if source.startswith("./"):
                assert (INFRA / source).is_dir(), source
                mounted[target] = INFRA / source
    (provider,) = yaml.safe_load(
        (mounted["/etc/grafana/provisioning"] / "dashboards" / "taskstream.yaml").read_text()
    )["providers"]
    assert sorted(mounted[provider["options"]["path"]].glob("*.json")) == BOARDS
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounted[str(home.parent)] / home.name).is_file()
    config = yaml.safe_load((mounted["/etc/prometheus"] / "prometheus.yaml").read_text())
    assert config["rule_files"] == [RULES.name]
    (job,) = config["scrape_configs"]
    (files,) = job["file_sd_configs"]
    for entry in yaml.safe_load((mounted["/etc/prometheus"] / files["files"][0]).read_text()):
        assert entry["labels"]["job"], "boards and rules tell apps apart by it"


def test_grafana_asks_the_prometheus_beside_it() -> None:
    """The ports in its data sources are variables that the compose file hands on."""
    services = yaml.safe_load((INFRA / "compose.yaml").read_text())["services"]
    sources = yaml.safe_load(
        (INFRA / "grafana" / "provisioning" / "datasources" / "taskstream.yaml").read_text()
    )["datasources"]
    assert {source["type"] for source in sources} == {"prometheus", "jaeger"}
    for source in sources:
        (variable,) = re.findall(r"\$(\w+)$", source["url"])
        assert variable in services["grafana"]["environment"]
    (prometheus,) = [source for source in sources if source.get("isDefault")]
    destination = prometheus["jsonData"]["exemplarTraceIdDestinations"][0]
    assert destination["datasourceUid"] in {source["uid"] for source in sources}
