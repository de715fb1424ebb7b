"""A shadow on real servers: old traffic, other functions, and nothing of it reaches the app itself.

Broken on purpose once, and seen to fail: `Task.enter_shadow` that does nothing; `shadow_settings` with the
app's own keyspace; clients that keep the app's own names.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.cql import drop_keyspace
from tests.support.servers import Jaeger
from tests.support.stage import ROOT, Stage

from taskstream import ConfigError, State
from taskstream.admin.shadow import Match, compare
from taskstream.broker.tail import read_to_end
from taskstream.broker.topics import Topics
from taskstream.core.envelope import Place
from taskstream.core.replay import Skip

SHADOW = "nightly"
PATH = "tests.support.jobs:app"


def taskstream(stage: Stage, *words: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "taskstream", *words],
        cwd=ROOT, env={**os.environ, **stage.environment},
        check=False, capture_output=True, text=True, timeout=90,
    )  # fmt: skip


@contextmanager
def shadowed(stage: Stage) -> Iterator[str]:
    """The app's shadow, made as its users make it; gives its name in Kafka."""
    name = f"{stage.app.name}-shadow-{SHADOW}"
    try:
        made = taskstream(stage, "init", PATH, "--shadow", SHADOW)
        assert made.returncode == 0, made.stderr
        yield name
    finally:
        with Topics(stage.app.settings) as topics:
            topics.delete(topics.names(f"{name}."))
        settings = stage.app.settings
        drop_keyspace(settings.cassandra_hosts, f"{settings.keyspace}_shadow_{SHADOW}")


def ends(stage: Stage) -> dict[Place, int]:
    """The ends of all topics of the app itself, but for the audit log."""
    name = f"{stage.app.name}."
    with Topics(stage.app.settings) as topics:
        ours = topics.names(name)
        return {
            place: end
            for topic in ours
            if topic != stage.app.names.events
            for place, end in topics.end_offsets(topic).items()
        }


def test_a_shadow_runs_old_traffic_apart(stage: Stage, jaeger: Jaeger) -> None:
    """Its functions run under the same ids; the app's own functions, topics and results are untouched.

    Its traces are its own, each linked to that of the task in the app.
    """
    app = stage.app
    handles = stage.task("charges").publish_many(
        [{"order_id": f"o-{cents}", "cents": cents} for cents in (1, 2, 13, 50)]
    )
    others = stage.task("add").publish_many([{"n": n} for n in range(3)])
    assert stage.worker("--exit-when-empty").wait() == 0
    rows = [stage.rows(handle) for handle in (*handles, *others)]
    with shadowed(stage) as name:
        before = ends(stage)
        done = app.replay(since=0, shadow=SHADOW, reason="before the deploy")
        assert dict(done.tasks) == {"charges": 4}
        assert done.skipped == {Skip.NO_SHADOW: 3}
        assert compare(app, SHADOW).total(Match.MISSING) == 4

        assert stage.worker("--shadow", SHADOW, "--exit-when-empty").wait() == 0
        runs = Counter((run.task, run.more.get("shadow", "")) for run in stage.journal)
        assert runs == {("charges", ""): 4, ("add", ""): 3, ("charges", "True"): 4}
        assert {run.id for run in stage.journal if run.more} == {one.id for one in handles}
        assert [stage.rows(handle) for handle in (*handles, *others)] == rows
        assert ends(stage) == before

        found = compare(app, SHADOW)
        assert {str(how): count for how, count in found.tasks["charges"].items()} == {
            "same": 2, "different": 2,
        }  # fmt: skip
        differing = {one.id: (one.own, one.shadow) for one in found.differences}
        own, apart = differing[handles[3].id]
        assert (own.value, apart.value) == (50, 51)
        own, apart = differing[handles[2].id]
        assert (own.state, apart.state, apart.error_type) == (
            State.SUCCEEDED, State.DEAD, "ValueError",
        )  # fmt: skip

        copies = read_to_end(app.settings, f"{name}.tasks.normal")
        traced = [
            (dict(one.headers)["traceparent"] or b"").decode().split("-")[1] for one in copies
        ]
        spans = jaeger.wait_for(traced[0], lambda spans: len(spans) >= 3, timeout=30)
        assert [span.name.split()[0] for span in spans[:3]] == ["replay", "process", "INSERT"]
        ((linked, _),) = spans[0].links
        assert linked in {row.trace_id for of_one in rows for row in of_one}
        assert linked not in traced

        shown = taskstream(stage, "replay", "compare", PATH, "--shadow", SHADOW, "--json")
        assert shown.returncode == 1
        assert json.loads(shown.stdout)["tasks"]["charges"]["different"] == 2
        listed = taskstream(stage, "queues", "list", f"{PATH}@{SHADOW}", "--json")
        assert {lane["topic"] for lane in json.loads(listed.stdout)} == {
            f"{name}.tasks.{priority}" for priority in app.queues["tasks"]
        }


def test_a_second_replay_into_a_shadow_runs_again(stage: Stage) -> None:
    """After a change of its functions: as the next run there; the last one is compared."""
    (handle,) = stage.task("charges").publish_many([{"order_id": "o", "cents": 50}])
    assert stage.worker("--exit-when-empty").wait() == 0
    with shadowed(stage):
        stage.worker("--shadow", SHADOW)
        for run in range(2):
            done = taskstream(
                stage, "replay", PATH, "--from", "1h ago", "--shadow", SHADOW, "--wait", "60", "--yes",
                "--json",
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            found = json.loads(done.stdout)["comparison"]
            assert (found["missing"], found["different"]) == (0, 1)
            assert [one.run for one in stage.journal if one.more] == list(range(run + 1))
    assert [row.run for row in stage.rows(handle)] == [0]


def test_a_shadow_does_not_run_what_it_has_no_function_for(stage: Stage) -> None:
    """Even where such a task is brought to its topic by hand, its own function does not run."""
    stage.task("add").publish_many([{"n": n} for n in range(3)])
    assert stage.worker("--exit-when-empty").wait() == 0
    assert len(stage.journal) == 3
    with shadowed(stage) as name:
        stage.app.replay(since=0, to_topic=f"{name}.tasks.normal")
        assert stage.worker("--shadow", SHADOW, "--exit-when-empty", "--no-scheduler").wait() == 0
        assert len(stage.journal) == 3


def test_a_shadow_that_was_not_made_is_refused(stage: Stage) -> None:
    """Before anything is published, with what to do."""
    stage.task("charges").publish("o", 1)
    with pytest.raises(ConfigError, match=r"taskstream init APP --shadow nightly"):
        stage.app.replay(since=0, shadow=SHADOW)
