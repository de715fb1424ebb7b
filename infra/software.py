"""The servers' programs: fetched by Maven or built by Go once, then kept by version.

One invariant: a folder with its final name is complete. Everything is put together under a
temporary name beside it and renamed at the end, so an aborted download never looks like a
finished one; what it left behind is removed by the next one, under the same lock.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import VERSIONS, Server
from taskstream.infra.locks import exclusive
from taskstream.infra.progress import Listener, Progress, Stage

POMS = Path(__file__).parent / "poms"

_JAEGER = "github.com/jaegertracing/jaeger/cmd/jaeger"
_JAVA_RANGE = range(17, 24)
"""Kafka needs Java 17; Cassandra needs the security manager, which Java 24 removed."""


def software_folder(server: Server, cache_dir: Path) -> Path:
    """Where that server's program is kept, ready or not."""
    return cache_dir / f"{server}-{VERSIONS[server]}"


def provide(server: Server, cache_dir: Path, listen: Listener) -> Path:
    """The folder with that server's program, fetched or built where it is not there yet.

    Raises:
        ServerError: a tool is missing, or fetching failed; says what to do and which log to read.
    """
    folder = software_folder(server, cache_dir)
    if folder.is_dir():
        return folder

    def told(detail: str) -> None:
        listen(Progress(server, Stage.FETCHING, detail))

    lock = cache_dir / f"{folder.name}.lock"
    with exclusive(lock, when_held=lambda: told("at another start, which is waited for")):
        if folder.is_dir():
            return folder
        for leftover in cache_dir.glob(f".{folder.name}-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        draft = Path(mkdtemp(prefix=f".{folder.name}-", dir=cache_dir))
        log = cache_dir / f"{folder.name}.log"
        log.unlink(missing_ok=True)
        if server is Server.JAEGER:
            told("and building it with Go, which takes minutes the first time")
            _build_jaeger(draft, log)
        else:
            told("its jars with Maven")
            _fetch_jars(server, draft, log)
        draft.chmod(0o755)
        draft.rename(folder)
    return folder


def java() -> str:
    """The Java to run servers with: that of JAVA_HOME, else the first on the PATH.

    Raises:
        ServerError: there is none, or its version is not one that the servers run on.
    """
    home = os.environ.get("JAVA_HOME")
    path = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    path = path or _tool("java", "install a JDK 17 or 21, or set JAVA_HOME")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = java_version(said)
    if version not in _JAVA_RANGE:
        raise ServerError(
            f"{path} is Java {version or 'of an unknown version'}, the servers need Java 17 to 23: "
            "install a JDK 17 or 21, or set JAVA_HOME to it"
        )
    return path


def java_version(said: str) -> int | None:
    """The major version in what `java -version` says; None where it says none.

    Old ones call themselves 1.8, newer ones 17.0.15 or 21.
    """
    match = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(match[1]) if match else None


def _fetch_jars(server: Server, draft: Path, log: Path) -> None:
    maven = _tool("mvn", "install Maven")
    pom = POMS / server / "pom.xml"
    if server is Server.REGISTRY:
        # An archive: unpacked by Maven too. Its marker files would land beside our pom, which may
        # be in a folder that can't be written to.
        goal = ["dependency:unpack-dependencies", f"-DmarkersDirectory={draft / '.markers'}"]
    else:
        goal = ["dependency:copy-dependencies"]
    command = (maven, "-q", "-B", "-f", str(pom), *goal, f"-DoutputDirectory={draft}")
    _run(command, cwd=draft, log=log, what=f"Maven could not fetch {server} {VERSIONS[server]}")


def _build_jaeger(draft: Path, log: Path) -> None:
    go = _tool("go", "install Go")
    version = VERSIONS[Server.JAEGER]
    failed = f"Go could not build jaeger {version}"
    # `go install module@version` refuses modules whose go.mod has replace directives, as Jaeger's
    # has. As a tool of an empty module of ours it builds.
    module = draft / "module"
    module.mkdir()
    _run((go, "mod", "init", "taskstream-jaeger"), cwd=module, log=log, what=failed)
    _run((go, "get", "-tool", f"{_JAEGER}@v{version}"), cwd=module, log=log, what=failed)
    _run((go, "build", "-o", str(draft / "jaeger"), _JAEGER), cwd=module, log=log, what=failed)
    shutil.rmtree(module)


def _tool(name: str, remedy: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServerError(f"{name} is missing on the PATH: {remedy}, or start a Docker daemon")
    return path


def _run(command: Sequence[str], *, cwd: Path, log: Path, what: str) -> None:
    """Runs a command with its output in the log; raises ServerError with the first line that tells why."""
    with log.open("a", encoding="utf-8") as output:
        ended = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if ended.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        why = next(
            (line for line in lines if "ERROR" in line), lines[-1] if lines else "it said nothing"
        )
        raise ServerError(f"{what}: {why.strip()[:300]}; check the network, and read {log}")
