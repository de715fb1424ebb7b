"""What all tests share: how hypothesis works, and what becomes of a test whose servers are not up.

A test that asks for `kafka` and the like, or is marked `servers("kafka", "cassandra")`, runs where
these are up. Elsewhere it is skipped on a laptop, with the reason in pytest's summary, and fails in
CI (`CI=true`): there, nothing may go untested without anyone noticing.

Tests run in several processes at once, for most of them wait most of the time. One that is marked `alone`
breaks a server. `make test` runs those on servers of their own (`tests/run.py`); where one runs in several
processes all the same, it begins when all others have ended theirs, and they wait for it.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from taskstream.infra.catalogue import Server
from tests.support.servers import cassandra, jaeger, kafka, registry, servers
from tests.support.stage import stage
from tests.support.terminal import terminal

__all__ = ["cassandra", "jaeger", "kafka", "registry", "servers", "stage", "terminal"]

# No deadlines: a slow moment of a shared machine is not a bug of ours.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("dev"), max_examples=200, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def _servers_as_marked(request: pytest.FixtureRequest) -> None:
    """Skips a test whose marked servers are not up, or fails it in CI; unmarked ones cost nothing."""
    for mark in request.node.iter_markers("servers"):
        for name in mark.args:
            request.getfixturevalue("servers").require(Server(name))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before any time limit begins to count
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Lets tests run side by side, and those that are marked `alone` by themselves."""
    together = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if together is None:  # one process: nobody is beside it
        return (yield)
    lock = Path(tempfile.gettempdir()) / f"taskstream-tests-{together}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if item.get_closest_marker("alone") else fcntl.LOCK_SH)
        return (yield)
