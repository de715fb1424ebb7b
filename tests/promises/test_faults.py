"""Promises 1 to 5 under every fault of the catalogue, in the short form; `make faults` is the long one.

Each test publishes some thousand tasks drawn from a seed, lets a fault strike while they run, and asks the
oracle. What would make it find something is in `test_mutations.py`.
"""

import pytest
from tests.support.faults.catalogue import FAULTS
from tests.support.faults.report import told
from tests.support.faults.run import Order, run
from tests.support.servers import Servers

pytestmark = pytest.mark.alone

CLASSIC = [name for name, fault in FAULTS.items() if fault.classic]
QUICK = "workers killed"
"""The one that every test run goes through in the classic protocol, too."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("fault", "protocol"),
    [
        *((name, "consumer") for name in FAULTS),
        *(
            pytest.param(name, "classic", marks=() if name == QUICK else pytest.mark.long)
            for name in CLASSIC
        ),
    ],
)
def test_nothing_is_lost_twice_early_or_out_of_order(
    kafka: str, cassandra: str, servers: Servers, fault: str, protocol: str
) -> None:
    """Whatever strikes, every acknowledged task ends once, as it should, in its order and in its time."""
    report = run(Order(fault=fault, seed=4, tasks=2_000, protocol=protocol), servers)
    assert not report.verdict.findings, f"{told(report)}\n{report.logs}"
