"""The harness finds what it should: with one line of the promises broken, it must say so.

A fault test that passes proves something only if it would fail where a promise is broken. So each
mutation of the workers runs under the fault that brings it to light, and the oracle must name it.
"""

import pytest
from tests.support.faults.mutations import MUTATIONS
from tests.support.faults.report import told
from tests.support.faults.run import Order, run
from tests.support.servers import Servers

pytestmark = pytest.mark.alone

QUICK = ("consecutive integers", "due times ignored")
"""Those that every test run goes through; `make long` and `make faults` go through all."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "mutation",
    [pytest.param(one, marks=() if one in QUICK else pytest.mark.long) for one in MUTATIONS],
)
def test_a_broken_promise_is_found(
    kafka: str, cassandra: str, servers: Servers, mutation: str
) -> None:
    """Under each mutation the harness fails, and for the reason that was planted."""
    planted = MUTATIONS[mutation]
    order = Order(fault=planted.fault, seed=4, tasks=2_000, mutation=mutation, patience=25.0)
    report = run(order, servers)
    found = set(report.verdict.broken)
    assert found & set(planted.found), f"{planted.what}: not found\n{told(report)}\n{report.logs}"
