"""The checkout keeps the form that DESIGN.md promises: links, layers, versions, and nobody's own paths."""

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskstream._version import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "taskstream"
LINKED_ELSEWHERE = {"demo": "examples/shop"}
"""Links that are no folder at the top, by their target."""

GENERATED = {"build", "dist", "__pycache__"}
HOME = re.compile(r"(?<![\w.$}~])/(?:root|home/\w+|Users/\w+)/")
# Written in halves, so that this file is not what it looks for.
INDEX_HOSTS = re.compile(
    r"\b(?:pypi" r"\.org|pythonhosted" r"\.org|repo\.maven" r"\.apache\.org|repo1\.maven" r"\.org"
    r"|proxy\.golang" r"\.org|index\.docker" r"\.io)\b"
)  # fmt: skip


def test_links_point_at_the_folders() -> None:
    """Each link in src/taskstream is relative and reaches the folder of its name."""
    links = [entry for entry in PACKAGE.iterdir() if entry.is_symlink()]
    assert links
    for link in links:
        assert not link.readlink().is_absolute(), link.name
        assert link.resolve() == ROOT / LINKED_ELSEWHERE.get(link.name, link.name), link.name
        assert link.is_dir(), f"{link.name} is broken"


def test_every_layer_exists() -> None:
    """Each package that the layers contract names is there, and each link is in the contract."""
    named = {name for line in _layers()["layers"] for name in re.split(r"\s*\|\s*", line)}
    # import-linter's own sign for a layer that may be missing is a pair of brackets.
    required = {name for name in named if not name.startswith("(")}
    missing = {
        n for n in required if not ((PACKAGE / n).is_dir() or (PACKAGE / f"{n}.py").exists())
    }
    assert not missing
    links = {entry.name for entry in PACKAGE.iterdir() if entry.is_symlink()}
    assert links <= {name.strip("()") for name in named} | set(_layers()["exhaustive_ignores"])


def test_no_file_names_a_home_or_an_index() -> None:
    """Nothing in the checkout works only on the machine, or with the package index, of its author."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()}"
        for file in _text_files()
        for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), start=1)
        if HOME.search(line) or INDEX_HOSTS.search(line)
    ]
    assert not found, "\n".join(found)


def test_changelog_and_code_have_the_same_version() -> None:
    """The newest entry of CHANGELOG.md is for the version in the code, which the build reads."""
    newest = re.search(
        r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == __version__
    dynamic = _pyproject()["tool"]["setuptools"]["dynamic"]
    assert dynamic["version"] == {"attr": "taskstream._version.__version__"}


def test_make_help_tells_every_target() -> None:
    """Each target that people type has its line in `make help`."""
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    told = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony[1].split()) == told


def test_constraints_are_exact() -> None:
    """constraints.txt pins a version for each package and names no place to get it from."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!]+", pin) for pin in pins)
    assert not any(pin.startswith("taskstream") for pin in pins)


def _pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def _layers() -> dict[str, Any]:
    contracts = _pyproject()["tool"]["importlinter"]["contracts"]
    return next(contract for contract in contracts if contract["type"] == "layers")


def _text_files() -> Iterator[Path]:
    """All files of the checkout but those that git ignores and the tools leave behind."""
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [
            name
            for name in subfolders
            if name == ".ci"
            or not (name.startswith(".") or name in GENERATED or name.endswith(".egg-info"))
        ]
        yield from (
            Path(folder, name) for name in names if not name.endswith((".png", ".ico", ".woff2"))
        )
