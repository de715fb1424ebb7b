"""The long form: every fault in full length, then every mutation; `make faults` runs it.

Prints each run as it ends and the table at last, and writes that into docs/reliability.md. Ends with 1
where a promise was broken, or a mutation was not found.
"""

import argparse
import os
import platform
import shlex
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from taskstream._version import __version__
from taskstream.infra.catalogue import VERSIONS, Server
from taskstream.infra.settings import data_home
from taskstream.infra.state import running
from tests.support.faults.catalogue import FAULTS
from tests.support.faults.mutations import MUTATIONS
from tests.support.faults.report import mutation_table, table, told
from tests.support.faults.run import Order, Report, run
from tests.support.servers import Servers
from tests.support.stage import ROOT

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"

MUTANT_TASKS = 2_000
"""Enough for a mutation to show; it runs in the short form of its fault."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what was asked for; returns the exit code."""
    options = _options(arguments)
    # An end by SIGTERM must mend the servers and take the workers along, too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    servers = Servers(running() or {}, data_home(os.environ))
    for server in (Server.KAFKA, Server.CASSANDRA):
        if server not in _up(servers):
            print(f"no {server} is up: run `taskstream up` first", file=sys.stderr)
            return 2
    logs = Path(options.logs)
    logs.mkdir(parents=True, exist_ok=True)
    reports = [_ran(order, servers, logs) for order in _orders(options)]
    mutants = [_ran(order, servers, logs) for order in _mutants(options)]
    lines = [*_facts(options), "", *table(reports)]
    if mutants:
        lines += ["", *mutation_table(mutants)]
    print("\n".join(("", *lines)))
    if not options.only and not options.dry:
        _write(lines)
    broken = [report for report in reports if report.verdict.findings]
    missed = [report for report in mutants if not found(report)]
    return 1 if broken or missed else 0


def found(report: Report) -> bool:
    """Whether the oracle named what the mutation breaks."""
    planted = MUTATIONS[report.order.mutation]
    return bool(set(report.verdict.broken) & set(planted.found))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--seed", type=int, default=1, help="of workload and chance")
    parser.add_argument("--tasks", type=int, default=6_000, help="of each run, at least")
    parser.add_argument("--only", action="append", default=[], help="a fault or mutation; repeat")
    parser.add_argument("--short", action="store_true", help="faults as short as in `make test`")
    parser.add_argument("--dry", action="store_true", help="leave docs/reliability.md as it is")
    parser.add_argument("--logs", default="build/faults", help="where the logs of bad runs go")
    options = parser.parse_args(arguments)
    unknown = set(options.only) - FAULTS.keys() - MUTATIONS.keys()
    if unknown:
        parser.error(f"--only {', '.join(unknown)}: known are {', '.join((*FAULTS, *MUTATIONS))}")
    return options


def _orders(options: argparse.Namespace) -> list[Order]:
    return [
        Order(
            fault=name,
            seed=options.seed,
            tasks=options.tasks,
            long=not options.short,
            protocol=protocol,
            patience=120.0,
        )
        for name, fault in FAULTS.items()
        for protocol in (("consumer", "classic") if fault.classic else ("consumer",))
        if not options.only or name in options.only
    ]


def _mutants(options: argparse.Namespace) -> list[Order]:
    return [
        Order(
            fault=mutation.fault,
            seed=options.seed,
            tasks=MUTANT_TASKS,
            mutation=name,
            patience=30.0,
        )
        for name, mutation in MUTATIONS.items()
        if not options.only or name in options.only
    ]


def _ran(order: Order, servers: Servers, logs: Path) -> Report:
    report = run(order, servers)
    print(told(report), flush=True)
    good = found(report) if order.mutation else not report.verdict.findings
    if not good:
        file = logs / f"{order.mutation or order.fault}-{order.protocol}.log".replace(" ", "-")
        file.write_text(report.logs, encoding="utf-8")
        print(f"  the workers' logs: {file}", flush=True)
    return report


def _facts(options: argparse.Namespace) -> list[str]:
    """Where these figures come from."""
    memory = psutil.virtual_memory().total / 2**30
    given = [f"--seed {options.seed}", f"--tasks {options.tasks}"]
    given += [f"--only {shlex.quote(name)}" for name in options.only]
    given += ["--short"] if options.short else []
    command = f"`make faults ARGS={shlex.quote(' '.join(given))}`, {datetime.now(UTC):%Y-%m-%d}:"
    versions = (
        f"taskstream {__version__}, Kafka {VERSIONS[Server.KAFKA]}, Cassandra "
        f"{VERSIONS[Server.CASSANDRA]} (one node of each), Python {platform.python_version()},"
    )
    machine = f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}."
    return [command, versions, machine]


def _write(lines: Sequence[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]), encoding="utf-8")


def _up(servers: Servers) -> list[Server]:
    names = {"bootstrap_servers": Server.KAFKA, "cassandra_hosts": Server.CASSANDRA}
    return [server for name, server in names.items() if name in servers.settings]


if __name__ == "__main__":
    sys.exit(main())
