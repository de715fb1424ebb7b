"""What the figures were taken on: the machine, and the versions of all that took part."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

from benchmarks.stage import PEERS_PROGRAMS

OWN = ("taskstream", "confluent-kafka", "cassandra-driver", "fastavro", "msgpack")
PEERS = ("celery", "kombu", "dramatiq", "taskiq", "taskiq-redis", "taskiq-aio-kafka", "huey", "faststream",
         "aiokafka", "redis", "pika", "amqp", "confluent-kafka", "cassandra-driver", "uvloop")  # fmt: skip


def machine() -> dict[str, str | int | float]:
    """Processor, cores, memory, system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Of our packages."""
    return {name: metadata.version(name) for name in OWN}


def peer_versions() -> dict[str, str]:
    """Of the peers' packages, in their own environment; empty where there is none."""
    python = PEERS_PROGRAMS / "python"
    if not python.exists():
        return {}
    code = (
        "import json, sys\nfrom importlib import metadata\nfound = {}\nfor name in sys.argv[1:]:\n"
        "    try: found[name] = metadata.version(name)\n    except metadata.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    said = subprocess.run([python, "-c", code, *PEERS], check=False, capture_output=True, text=True)
    found: dict[str, str] = json.loads(said.stdout or "{}")
    return found


def commit(tree: Path) -> str:
    """What git calls the checkout; "+" where files differ from it; empty without git."""
    said = subprocess.run(
        ["git", "-C", str(tree), "describe", "--always", "--dirty=+"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return said.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
