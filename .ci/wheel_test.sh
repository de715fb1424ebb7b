#!/usr/bin/env bash
# Is what we would release what we tested? Builds sdist and wheel, then works with the wheel alone, in
# an empty environment and away from the checkout:
#   1. with the base install only, a script publishes on the embedded broker;
#   2. with [all], the unit tests and `taskstream demo` run.
# PYTHON names an interpreter that has `build` (make wheel-test passes the one of .venv).
set -euo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd -P)
python=${PYTHON:-$tree/.venv/bin/python}
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT
export PYTHONSAFEPATH=1 XDG_STATE_HOME=$away/state

echo "== build"
"$python" -m build --outdir "$away/dist" "$tree" >"$away/build.log" 2>&1 || { cat "$away/build.log"; exit 1; }
wheel=$(echo "$away"/dist/*.whl)
"$python" - "$wheel" "$away"/dist/*.tar.gz "$tree" <<'CHECK'
"""Every file of the packages is in both archives, beside the code also schemas, poms and the like."""
import pathlib, sys, tarfile, zipfile

wheel, sdist, tree = sys.argv[1:]
source = pathlib.Path(tree, "src/taskstream")
roots = [source, *(link for link in source.iterdir() if link.is_dir())]
wanted = {
    "taskstream/" + str(file.relative_to(source))
    for root in roots
    for file in root.rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
}
in_wheel = set(zipfile.ZipFile(wheel).namelist())
in_sdist = {name.partition("/src/")[2] for name in tarfile.open(sdist).getnames()}
missing = {"wheel": sorted(wanted - in_wheel), "sdist": sorted(wanted - in_sdist)}
if any(missing.values()):
    sys.exit(f"files that didn't get into the archives: {missing}")
print(f"{len(wanted)} files are in both archives")
CHECK

"$python" -m venv "$away/venv"
bin=$away/venv/bin
cd "$away"

echo "== base install: publish on the embedded broker"
"$bin/python" -m pip install --quiet --constraint "$tree/constraints.txt" "$wheel"
cat >publish.py <<'SCRIPT'
import importlib.util
import sys

for extra in ("cassandra", "httpx", "msgpack", "opentelemetry.sdk", "prometheus_client", "rich", "typer"):
    try:
        found = importlib.util.find_spec(extra)
    except ModuleNotFoundError:
        found = None
    assert found is None, f"{extra} came with the base install"

import taskstream
from taskstream import App

assert taskstream.__file__.startswith(sys.prefix), f"not the wheel: {taskstream.__file__}"

app = App("wheel", bootstrap_servers="embedded", embedded_directory=sys.argv[1])


@app.task
def add(a: int, b: int) -> int:
    return a + b


with app:
    handle = add.publish(1, b=2)
    print("published", handle.id)
SCRIPT
timeout 60 "$bin/python" publish.py "$away/embedded"

echo "== [all]: unit tests"
"$bin/python" -m pip install --quiet --constraint "$tree/constraints.txt" "$wheel[all]" pytest pytest-timeout hypothesis pyyaml
cp "$tree/pyproject.toml" .
cp -R "$tree/tests" tests
# These look at the checkout, not at the package.
timeout 300 "$bin/python" -m pytest tests/unit --ignore tests/unit/test_repo.py --ignore tests/unit/test_boards.py \
  --ignore tests/unit/test_promtool.py --ignore-glob 'tests/unit/test_bench_*.py' \
  --deselect tests/unit/test_logs.py::test_every_warning_says_what_to_do

echo "== [all]: taskstream demo"
mkdir demo && cd demo
timeout 120 "$bin/taskstream" demo
