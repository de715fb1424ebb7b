"""One run: publish, strike, mend, wait until all has ended, and judge."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.support.faults.catalogue import FAULTS
from tests.support.faults.mutations import MUTATIONS
from tests.support.faults.oracle import Verdict, judge
from tests.support.faults.scene import Publisher, stage
from tests.support.faults.workload import USUAL, tasks
from tests.support.servers import Servers

BROKEN_RECORDS = 5
"""How many undecodable records a poison mix holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run.

    Args:
        fault: its name in the catalogue.
        seed: of workload and chance.
        tasks: how many to publish at least.
        long: whether faults take as long as they should, or just long enough.
        protocol: of the consumer groups, `consumer` or `classic`.
        mutation: what is broken in the workers; empty for nothing.
        patience: seconds without any progress after which what has no final state counts as lost.
    """

    fault: str
    seed: int
    tasks: int
    long: bool = False
    protocol: str = "consumer"
    mutation: str = ""
    patience: float = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run.

    Args:
        order: what was run.
        verdict: the oracle's.
        refused: publishes that were not acknowledged, so that nothing was promised.
        strikes: how often something struck.
        seconds: how long the run took.
        peak_bytes: the most memory that a worker's parent process has held.
        logs: of the workers.
    """

    order: Order
    verdict: Verdict
    refused: int
    strikes: int
    seconds: float
    peak_bytes: int
    logs: str


def run(order: Order, servers: Servers) -> Report:
    """Runs one fault.

    Raises:
        AssertionError: the fault could not be brought about, so that nothing was tried.
    """
    fault = FAULTS[order.fault]
    mix = (order.mutation and MUTATIONS[order.mutation].mix) or USUAL
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="taskstream-faults-") as directory,
        stage(
            servers,
            Path(directory),
            seed=order.seed,
            long=order.long,
            protocol=order.protocol,
            mutation=order.mutation,
            publisher=fault.publisher,
        ) as scene,
    ):
        scene.crew.keep(fault.workers)
        scene.warm_up()
        publisher = Publisher(
            scene,
            tasks(order.seed, order.tasks, mix, poison=fault.poison),
            count=order.tasks,
            seconds=fault.seconds[order.long],
            broken=BROKEN_RECORDS if fault.poison else 0,
        )
        publisher.start()
        fault.strike(scene)
        publisher.end()
        expected = publisher.expected()
        scene.mend()
        lost = scene.wait_until_final(list(expected), order.patience)
        left = scene.wait_until_committed(0.0 if lost else 30.0)
        exits = scene.crew.stop()
        verdict = judge(scene.facts(expected, exits, left))
        return Report(
            order=order,
            verdict=verdict,
            refused=publisher.refused.total(),
            strikes=len(scene.strikes),
            seconds=time.monotonic() - began,
            peak_bytes=scene.crew.watched.peak_bytes,
            logs=scene.crew.logs(),
        )
