"""The plots of a run, as SVG: the same document gives the same files, so that git sees only changes."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.contenders import OURS
from benchmarks.document import Document, medians_of
from benchmarks.figures import BY_NAME
from benchmarks.growth import AXES
from benchmarks.report import number

BARS = {
    "throughput.svg": ("publish_per_s", "drain_per_s"),
    "latency.svg": ("body_p50_ms", "result_p50_ms"),
    "cpu.svg": ("drain_cpu_s", "drain_servers_cpu_s"),
}
"""By file, the measures that stand beside each other, a bar for each contender."""

OURS_COLOR, OTHER_COLOR = "#0b6e8a", "#b9c4c9"


def names(document: Document) -> list[str]:
    """The files that a sealed document's plots have. Pure."""
    medians = medians_of(document)
    return [
        *(
            file
            for file, measures in BARS.items()
            if any(m in medians[name] for name in document["contenders"] for m in measures)
        ),
        *(["growth.svg"] if document["growth"] else []),
    ]


def draw(document: Document, folder: Path) -> list[str]:
    """Writes the plots of a sealed document into the folder; the names of the files.

    Raises:
        ModuleNotFoundError: matplotlib is not installed (the extra `bench`).
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "taskstream", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    medians = medians_of(document)
    titles = {name: one["title"] for name, one in document["contenders"].items()}
    drawn = names(document)
    for file in drawn:
        if file in BARS:
            _bars(folder / file, titles, medians, BARS[file])
        else:
            _lines(folder / file, document, medians)
    return drawn


def _bars(
    file: Path,
    titles: Mapping[str, str],
    medians: Mapping[str, Mapping[str, float]],
    measures: tuple[str, ...],
) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, len(measures), figsize=(12, 0.8 + 0.3 * len(titles)), squeeze=False
    )
    for place, measure in zip(axes[0], measures, strict=True):
        names = [name for name in titles if measure in medians[name]][::-1]
        values = [medians[name][measure] for name in names]
        colors = [OURS_COLOR if name == OURS.name else OTHER_COLOR for name in names]
        bars = place.barh([titles[name] for name in names], values, color=colors)
        place.bar_label(bars, labels=[number(value) for value in values], padding=3)
        place.margins(x=0.2)
        place.set_xticks([])
        place.set_title(f"{BY_NAME[measure].title} ({BY_NAME[measure].unit})")
        place.spines[["top", "right", "bottom"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _lines(file: Path, document: Document, medians: Mapping[str, Mapping[str, float]]) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(AXES), figsize=(12, 2.8), squeeze=False)
    for place, (axis, title) in zip(axes[0], AXES.items(), strict=True):
        points = [
            (str(f"{one['value']:,}"), medians[name]["drain_per_s"])
            for name, one in document["growth"].items()
            if one["axis"] == axis and "drain_per_s" in medians[name]
        ]
        place.plot([x for x, _ in points], [y for _, y in points], marker="o", color=OURS_COLOR)
        place.set_ylim(bottom=0)
        place.set_xlabel(title, fontsize=8)
        place.tick_params(labelsize=7)
        place.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("drain (tasks/s)")
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
