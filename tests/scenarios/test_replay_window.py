"""A window of ten minutes out of ten hours: what the dry run counts is what is published, over a kill too.

The records are written with times of their own into a topic that keeps them (CreateTime), so that the
hours need not pass. `pytest -m long` has a million of them.

Broken on purpose once, and seen to fail: a window whose end neither its offsets nor the chooser look at.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.support.eventually import eventually
from tests.support.stage import ROOT, Stage

from taskstream.admin import replay
from taskstream.admin.payloads import Payloads
from taskstream.broker.tail import read_to_end
from taskstream.broker.topics import Topics, TopicSpec
from taskstream.core.envelope import Envelope, read, write
from taskstream.core.ids import derived_id
from taskstream.core.moments import moment
from taskstream.core.replay import ReplayRequest

HOURS = 10.0
TASKS = ("charges", "add", "naps", "keyed")
"""One after the other; the first one is replayed."""

WHERE = "cents % 2 == 0 and order_id.startswith('o-')"
WINDOW = 600.0


def fill(stage: Stage, count: int, begin: float) -> str:
    """A topic with so many records over ten hours; gives its name."""
    topic = f"{stage.app.name}.archive.normal"
    with Topics(stage.app.settings) as topics:
        topics.create([TopicSpec(topic, 4, config={"message.timestamp.type": "CreateTime"})])
    payloads = Payloads(stage.app)
    values = {
        "charges": [
            payloads.encode("charges", {"order_id": f"o-{n}", "cents": n}) for n in range(10)
        ],
        "add": [payloads.encode("add", {"n": 1})],
        "naps": [payloads.encode("naps", {"seconds": 0.0})],
        "keyed": [payloads.encode("keyed", {"customer": "c", "n": 1})],
    }
    producer = Producer(
        {
            "bootstrap.servers": stage.app.settings.bootstrap_servers,
            "linger.ms": 20,
            "compression.type": "lz4",
        }
    )
    for number in range(count):
        at = begin + number * HOURS * 3600 / count
        task = TASKS[number % len(TASKS)]
        kinds = values[task]
        envelope = Envelope(task, derived_id(at, topic, number), published=at)
        message: dict[str, Any] = {
            "value": kinds[number // len(TASKS) % len(kinds)],
            "key": envelope.id.encode(),
            "headers": write(envelope),
            "timestamp": int(at * 1000),
        }
        try:
            producer.produce(topic, **message)
        except BufferError:
            producer.poll(1.0)
            producer.produce(topic, **message)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    return topic


def expected(count: int, begin: float, since: float, until: float) -> set[str]:
    """The ids that stand in the window, are of the task and meet the condition, found in another way."""
    found = set()
    for number in range(0, count, len(TASKS)):
        at = begin + number * HOURS * 3600 / count
        if since <= int(at * 1000) / 1000 < until and (number // len(TASKS) % 10) % 2 == 0:
            found.add(number)
    return {str(number) for number in found}


def start(stage: Stage, log: Path, *words: str) -> "subprocess.Popen[bytes]":
    """`taskstream replay …` as a process."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "taskstream", "replay", *words],
            cwd=ROOT, env={**os.environ, **stage.environment, "TASKSTREAM_APP": "tests.support.jobs:app"},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [40_000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_window_of_ten_minutes_is_exact_over_an_interruption_and_a_kill(
    stage: Stage, tmp_path: Path, count: int
) -> None:
    """The count of the dry run, of what was published, and of what another way of counting says, are one."""
    begin = float(int(time.time() - 12 * 3600))
    topic = fill(stage, count, begin)
    since, until = begin + 4 * 3600, begin + 4 * 3600 + WINDOW
    numbers = expected(count, begin, since, until)
    ids = {derived_id(begin + int(n) * HOURS * 3600 / count, topic, int(n)) for n in numbers}
    request = ReplayRequest(
        topics=[topic], since=since, until=until, tasks=["charges"], where=WHERE,
        to_topic=stage.app.names.tasks("tasks", "normal"),
    )  # fmt: skip
    started = time.perf_counter()
    counted = replay.dry_run(stage.app, replay.settle(stage.app, request))
    took = time.perf_counter() - started
    assert counted.count == len(ids) > 0
    print(  # noqa: T201 - the figure of docs/replay.md
        f"{count:,} records, {counted.plan.total:,} of them in the window; "
        f"dry run: {counted.count:,} tasks in {took:.2f} s"
    )
    everything = replay.settle(
        stage.app, ReplayRequest(topics=[topic], since=0, where="cents > 5", tasks=["charges"],
                                 to_topic=stage.app.names.tasks("tasks", "normal")),
    )  # fmt: skip
    all_of_it = replay.dry_run(stage.app, everything)
    print(  # noqa: T201 - as above
        f"dry run of all {all_of_it.plan.total:,}: {all_of_it.count:,} tasks in {all_of_it.seconds:.2f} s"
    )

    def published() -> int:
        with Topics(stage.app.settings) as topics:
            return sum(topics.end_offsets(stage.app.names.tasks("tasks", "normal")).values())

    log = tmp_path / "replay.log"
    rate = max(8, len(ids) // 12)
    first = start(
        stage, log, "--topic", topic, "--from", moment(since), "--to", moment(until), "--task", "charges",
        "--where", WHERE, "--to-topic", stage.app.names.tasks("tasks", "normal"), "--rate", str(rate),
        "--name", "window", "--yes",
    )  # fmt: skip
    try:
        eventually(lambda: published() >= len(ids) // 5, 60)
        first.send_signal(signal.SIGINT)
        assert first.wait(30) == 130, log.read_text()
        interrupted_at = published()
        assert 0 < interrupted_at < len(ids)
        second = start(stage, log, "--resume", "window")
        eventually(lambda: published() >= interrupted_at + len(ids) // 4, 60)
        second.kill()
        second.wait(10)
        killed_at = published()
        assert killed_at < len(ids)
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "taskstream", "replay", "--resume", "window", "--json"],
            cwd=ROOT, env={**os.environ, **stage.environment, "TASKSTREAM_APP": "tests.support.jobs:app"},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    finally:
        first.kill()
    report = json.loads(done.stdout)
    assert report["count"] == counted.count
    again = list(_published(stage))
    assert {one.replay_of for one in again} == ids
    assert len({(one.id, one.run) for one in again}) == counted.count
    copies = Counter((one.id, one.run) for one in again)
    assert max(copies.values()) <= 2
    assert len(again) - counted.count <= 2 * rate
    print(  # noqa: T201 - as above
        f"interrupted after {interrupted_at:,}, killed after {killed_at:,}, then to its end: "
        f"{len(copies):,} tasks, {len(again) - len(copies)} copies of the same identity"
    )

    whole = replay.settle(
        stage.app,
        ReplayRequest(
            topics=[topic], since=since, until=until, tasks=["charges"], where=WHERE,
            to_topic=stage.app.names.tasks("tasks", "high"),
        ),
    )  # fmt: skip
    at_once = replay.replay(stage.app, whole)
    assert at_once.count == counted.count
    print(f"at once, without a rate: {at_once.count:,} tasks in {at_once.seconds:.2f} s")  # noqa: T201


def _published(stage: Stage) -> Iterator[Envelope]:
    topic = stage.app.names.tasks("tasks", "normal")
    for record in read_to_end(stage.app.settings, topic):
        yield read(record.headers)
