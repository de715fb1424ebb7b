"""A program in the cache is complete, whatever happened while it was fetched."""

import threading
from pathlib import Path

import pytest

from taskstream.core.errors import ServerError
from taskstream.infra.catalogue import Server
from taskstream.infra.locks import exclusive
from taskstream.infra.progress import nobody
from taskstream.infra.software import java, java_version, provide, software_folder


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, beside the system's own."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def _tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_is_in_the_cache_needs_no_tool(tools: Path, tmp_path: Path) -> None:
    """The second start works without Maven, Go or a network."""
    folder = software_folder(Server.KAFKA, tmp_path)
    folder.mkdir()
    assert provide(Server.KAFKA, tmp_path, nobody) == folder


def test_an_aborted_download_never_looks_complete(tools: Path, tmp_path: Path) -> None:
    """Maven fails half way: nothing has the final name; the next try starts afresh and succeeds."""
    for_each = 'for argument in "$@"; do case "$argument" in -DoutputDirectory=*) out="${argument#*=}";; esac; done'
    _tool(tools, "mvn", f'{for_each}\n: > "$out/half.jar"\necho "[ERROR] no network"\nexit 1')
    with pytest.raises(
        ServerError, match=r"^Maven could not fetch kafka .*: \[ERROR\] no network; check .*\.log$"
    ):
        provide(Server.KAFKA, tmp_path, nobody)
    assert not software_folder(Server.KAFKA, tmp_path).exists()

    _tool(tools, "mvn", f'{for_each}\n: > "$out/whole.jar"')
    folder = provide(Server.KAFKA, tmp_path, nobody)
    assert [path.name for path in folder.iterdir()] == ["whole.jar"]
    assert list(tmp_path.glob(".kafka-*")) == []


@pytest.mark.parametrize(("server", "tool"), [(Server.KAFKA, "mvn"), (Server.JAEGER, "go")])
def test_a_missing_tool_is_named(server: Server, tool: str, tools: Path, tmp_path: Path) -> None:
    """One line says what is missing and what to do."""
    with pytest.raises(ServerError, match=f"^{tool} is missing on the PATH: install"):
        provide(server, tmp_path, nobody)


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_202"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("no such command", None),
    ],
)
def test_the_version_of_java_is_read_from_what_it_says(said: str, version: int | None) -> None:
    """Old and new ways of counting are understood."""
    assert java_version(said) == version


def test_a_java_that_the_servers_do_not_run_on_is_refused(tools: Path) -> None:
    """One line names the version found and those that would do."""
    _tool(tools, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    with pytest.raises(ServerError, match="is Java 11, the servers need Java 17 to 23"):
        java()


def test_java_home_wins_over_the_path(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAVA_HOME is what Java people set to choose."""
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    _tool(tools, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    _tool(home / "bin", "java", "echo 'openjdk version \"17.0.1\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert java() == str(home / "bin" / "java")


def test_a_lock_keeps_the_second_waiting_and_tells_it(tmp_path: Path) -> None:
    """Of two holders, one is told that it waits, and goes on when the other is done."""
    waits, entered = threading.Event(), threading.Event()

    def second() -> None:
        with exclusive(tmp_path / "lock", when_held=waits.set):
            entered.set()

    thread = threading.Thread(target=second)
    with exclusive(tmp_path / "lock"):
        thread.start()
        assert waits.wait(10)
        assert not entered.is_set()
    assert entered.wait(10)
    thread.join()
