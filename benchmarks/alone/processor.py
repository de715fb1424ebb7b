"""Who uses how much processor time for each task of a drain: parent, children, Kafka and Cassandra.

A drain's rate on a busy machine says little; the time on the processor says more, though a cache that is shared
makes it longer, too. The servers' is that of all that they do meanwhile, for others as well.

    make bench ONLY=processor          (COUNT=60000 is the default)
"""

import os
import tempfile
import time
from pathlib import Path

import psutil
from benchmarks.contenders import OURS
from benchmarks.processes import Processes
from benchmarks.servers import Servers
from benchmarks.stage import Stage

COUNT = int(os.environ.get("COUNT", "60000"))


def roles(stage: Stage) -> dict[str, Processes]:
    """The processes of each part."""
    parent, *_ = stage.workers.all
    children = [one.pid for one in parent.children() if _runs(one, "consumer.child")]
    found = {"children": Processes(children)}
    for server, main in (("kafka", "kafka.Kafka"), ("cassandra", "CassandraDaemon")):
        found[server] = Processes(one.pid for one in stage.servers.all if _runs(one, main))
    return found


def _runs(process: psutil.Process, what: str) -> bool:
    return any(what in word for word in process.cmdline())


def main() -> None:
    """Publishes and drains once, and prints one line for each part."""
    with tempfile.TemporaryDirectory(prefix="taskstream-bench-") as temporary:
        folder = Path(temporary)
        with Servers(folder) as servers, Stage(OURS, servers, folder) as stage:
            stage.ask("publish", n=1)  # what is done once is done
            published = stage.ask("publish", n=COUNT)
            stage.forget()
            stage.start()
            stage.await_runs(COUNT // 10)
            parts, first = roles(stage), stage.tally.count
            before, started = {name: one.cpu for name, one in parts.items()}, time.monotonic()
            workers = stage.workers.cpu
            stage.await_runs(COUNT, look=0.02)
            seconds = stage.settle(COUNT) - started
            tasks = COUNT - first
            used = {name: one.cpu - before[name] for name, one in parts.items()}
            used["parent"] = stage.workers.cpu - workers - used["children"]
    print(f"publish    {1e6 * published['cpu'] / COUNT:6.1f} us a task")
    for name in ("parent", "children", "kafka", "cassandra"):
        print(f"{name:10} {1e6 * used[name] / tasks:6.1f} us a task")
    print(f"drain      {tasks / seconds:6.0f} tasks/s")


if __name__ == "__main__":
    main()
