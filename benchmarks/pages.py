"""`python -m benchmarks.pages`: docs/benchmarks.md and its plots, from the newest full run's JSON."""

import json
import sys
from pathlib import Path

from benchmarks.plots import draw
from benchmarks.report import page

HERE = Path(__file__).parent
LATEST = HERE / "results" / "latest.json"
DOCS = HERE.parent / "docs"


def main() -> int:
    """Writes page and plots; returns the exit code."""
    if not LATEST.exists():
        print("there is no benchmarks/results/latest.json: run `make bench` first", file=sys.stderr)
        return 1
    document = json.loads(LATEST.read_text("utf-8"))
    plots = draw(document, DOCS / "benchmarks")
    (DOCS / "benchmarks.md").write_text(page(document, plots), encoding="utf-8")
    print("wrote docs/benchmarks.md and docs/benchmarks/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
