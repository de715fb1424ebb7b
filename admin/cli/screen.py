"""How `taskstream top` draws a picture: on any width, and in as many lines as there are. Pure.

All texts are anybody's: what is not printable in them is shown escaped, so that no name of a task can steer
the terminal.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from taskstream.admin.overview.picture import Failure, LaneLine, Picture
from taskstream.admin.overview.words import count, duration, moment, rate
from taskstream.admin.workers import RunningTask, Worker
from taskstream.observability.logs import flat

PANELS = ("all", "queues", "workers", "running", "failures", "tasks")
"""What can be shown: all together, or one of them at length."""

LONGEST_NAME = 32
"""Characters of a name; longer ones are cut, so that figures have their place beside them."""

GAP = 2
"""Characters between two columns."""

ALARMS = 5
"""How many alarms are shown where lines are few."""

LEAST_TELLING = ("tasks", "running", "workers", "failures")
"""What is left out first where there are few lines."""

SOME = 3
"""Lines that a part is worth being shown for."""

UNBOUNDED = 20
"""Lines of each part where the number of lines is not bounded."""

BARS = "▁▂▃▄▅▆▇█"

KEYS = (
    ("q", "quit"),
    ("tab", "next queue"),
    ("s", "sort"),
    ("r", "reverse"),
    ("v", "view"),
    ("w", "window"),
    ("+ -", "interval"),
    ("space", "stop and go"),
)
"""The keys, and what each of them does."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What is said around a picture.

    Args:
        sort: the name of the order of lanes.
        panel: one of `PANELS`.
        interval: seconds between two pictures; 0 where there is only one.
        stopped: whether the picture stands still.
        with_keys: whether keys are listened to.
        notes: what was logged just now.
    """

    sort: str = "queue"
    panel: str = "all"
    interval: float = 0.0
    stopped: bool = False
    with_keys: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Args:
        head: its title.
        rank: what is dropped first where the width is too small: the highest rank.
        cell: what it shows of a line.
        left: whether it is text.
        grows: whether it may be cut, and takes what is left of the width.
    """

    head: str
    rank: int
    cell: Callable[[Any], Text]
    left: bool = False
    grows: bool = False


def draw(picture: Picture, frame: Frame, width: int, height: int | None) -> RenderableType:
    """The picture.

    Args:
        picture: what to show.
        frame: what is said around it.
        width: columns of the terminal.
        height: its lines; None for as many as it takes.
    """
    top = [
        *_title(picture, frame, width),
        *_alarms(picture, frame, width, height),
        *_totals(picture, width),
    ]
    bottom = _keys(width) if frame.with_keys else []
    parts = [part for part in _parts(picture, frame) if frame.panel in ("all", part.name)]
    if height is None:
        return Group(*top, *_stacked(parts, width, None)[0])
    # At least half is for the tables.
    top, bottom = top[: max(1, height // 3)], bottom[: max(1, height // 6)]
    tables, taken = _stacked(parts, width, height - len(top) - len(bottom))
    gap = [Text("")] * (height - len(top) - taken - len(bottom))
    return Group(*top, *tables, *gap, *bottom)


# --- what stands above


def _title(picture: Picture, frame: Frame, width: int) -> list[Text]:
    name = Text.assemble(("taskstream top ", "dim"), (_name(picture.app), "bold"))
    if picture.queue:
        name.append(f" {_name(picture.queue)}", "bold cyan")
    about = [f"{moment(picture.at)[11:19]} UTC", f"last {picture.seconds:g} s"]
    if frame.interval:
        about.append(f"every {frame.interval:g} s")
    if frame.stopped:
        about.insert(0, "STOPPED")
    return _wrapped([name, *(Text(one, "yellow" if one == "STOPPED" else "dim") for one in about)], width)  # fmt: skip


def _totals(picture: Picture, width: int) -> list[Text]:
    flow = picture.total
    dead = sum(lane.dead for lane in picture.lanes)
    children = sum(worker.children for worker in picture.workers)
    known, workers = bool(picture.looked_at), len(picture.workers)
    figures = [
        _figure(_rate(flow.finished), "finished/s"),
        _figure(_rate(flow.retried), "tried again/s", "yellow" if flow.retried else ""),
        _figure(_rate(flow.died), "died/s", "red" if flow.died else ""),
        _figure(duration(flow.waited.p95), "waited (p95)"),
        _figure(duration(flow.ran.p95), "ran (p95)"),
        _figure(count(picture.lag), "waiting"),
        _figure(count(workers if known else None), "worker" if workers == 1 else "workers", "red" if known and not workers else ""),
        _figure(count(children if known else None), "child" if children == 1 else "children"),
        _figure(count(dead if known else None), "dead letter" if dead == 1 else "dead letters"),
    ]  # fmt: skip
    lines = _wrapped(figures, width)
    if picture.history and width >= 40:
        most = max(picture.history)
        label = f" finished/s, {rate(most)} at most"
        shown = picture.history[-max(1, width - len(label)) :]
        lines.append(Text.assemble((bars(shown), "green"), (label, "dim")))
    return lines


def bars(values: Sequence[float]) -> str:
    """A line of bars, the highest value being the whole height."""
    most = max(values, default=0.0)
    if most <= 0:
        return BARS[0] * len(values)
    return "".join(BARS[round(value / most * (len(BARS) - 1))] for value in values)


def _alarms(picture: Picture, frame: Frame, width: int, height: int | None) -> list[Text]:
    found = list(picture.alarms)
    if not picture.complete:
        found.insert(0, "Still reading what happened before: figures are too small.")
    found += frame.notes
    shown = found if height is None else found[: min(ALARMS, max(1, height // 4))]
    lines = []
    for alarm in shown:
        line = Text(f"! {flat(alarm)}", "bold red")
        if height is not None:
            line.truncate(width, overflow="ellipsis")
        lines.append(line)
    if len(shown) < len(found):
        lines.append(Text(f"! and {len(found) - len(shown)} more", "bold red"))
    return lines


def _keys(width: int) -> list[Text]:
    words = [Text.assemble((key, "bold"), (f" {what}", "dim")) for key, what in KEYS]
    return _wrapped(words, width)


def _wrapped(words: Iterable[Text], width: int) -> list[Text]:
    """The words on as few lines as they need, none of them broken."""
    lines: list[Text] = []
    for word in words:
        word.truncate(width, overflow="ellipsis")
        if lines and lines[-1].cell_len + GAP + word.cell_len <= width:
            lines[-1].append(" " * GAP).append_text(word)
        else:
            lines.append(word)
    return lines


def _figure(value: str, name: str, style: str = "") -> Text:
    return Text.assemble((value, f"bold {style}".strip()), (f" {name}", "dim"))


# --- the tables


@dataclass(frozen=True, slots=True)
class _Part:
    """A table with its title.

    Args:
        name: which panel it is.
        title: what it shows.
        columns: its columns, in order.
        lines: what it shows a line of each.
        last: a line that is shown below, whatever else is cut.
        nothing: what is said where there are no lines.
    """

    name: str
    title: str
    columns: Sequence[Column]
    lines: Sequence[Any]
    last: Any = None
    nothing: str = ""

    @property
    def wants(self) -> int:
        """How many lines it has below its head."""
        return len(self.lines) + (self.last is not None) if self.lines else 0

    @property
    def head(self) -> int:
        """Lines beside its own: an empty one, the title, and the heads of its columns."""
        return 3 if self.lines else 2


def _parts(picture: Picture, frame: Frame) -> list[_Part]:
    known = bool(picture.looked_at)
    order = "" if frame.sort == "queue" else f", by {frame.sort}"
    running = sorted(
        ((worker, task) for worker in picture.workers for task in worker.running),
        key=lambda one: one[1].since,
    )
    total = _Total(picture) if len(picture.lanes) > 1 else None
    return [
        _Part("queues", f"Queues{order}", _LANES, picture.lanes, total, "not asked yet"),
        _Part("workers", "Workers", _workers(picture.at), picture.workers, nothing="none is alive" if known else "not asked yet"),
        _Part("running", "Running for a second or longer", _running(picture), running, nothing="nothing"),
        _Part("failures", "Failed last", _failures(picture.at), picture.failures, nothing="nothing"),
        _Part("tasks", "Tasks, in the last quarter of an hour", _TASKS, picture.tasks, nothing="nothing has run" if not picture.queue else "of all queues only"),
    ]  # fmt: skip


def _stacked(
    parts: Sequence[_Part], width: int, height: int | None
) -> tuple[list[RenderableType], int]:
    """The parts below each other, and how many lines they take."""
    if height is None:
        kept = list(parts)
        rows = [min(UNBOUNDED, part.wants) for part in kept]
    else:
        kept = _kept(parts, height)
        room = max(0, height - sum(part.head for part in kept))
        rows = shares(room, [part.wants for part in kept])
    shown: list[RenderableType] = []
    taken = 0
    for part, room in zip(kept, rows, strict=True):
        if room or not part.wants:
            shown += _table(part, width, room)
            taken += part.head + room
    return shown, taken


def _kept(parts: Sequence[_Part], height: int) -> list[_Part]:
    """The parts of which some lines have a place; what goes first is what tells least of a trouble."""
    kept = list(parts)
    for name in LEAST_TELLING:
        needed = sum(part.head + min(SOME, part.wants) for part in kept)
        if len(kept) > 1 and height < needed:
            kept = [part for part in kept if part.name != name]
    return kept


def shares(room: int, wanted: Sequence[int]) -> list[int]:
    """How many lines each part gets: as many as it wants, or as many as any other that wants more.

    Args:
        room: how many lines there are.
        wanted: how many each part would fill.
    """
    given = [0] * len(wanted)
    while room > 0 and (hungry := [n for n, want in enumerate(wanted) if given[n] < want]):
        portion = max(1, room // len(hungry))
        for number in hungry:
            more = min(portion, wanted[number] - given[number], room)
            given[number] += more
            room -= more
    return given


def _table(part: _Part, width: int, room: int) -> list[RenderableType]:
    title = Text(part.title, "bold")
    if not part.lines:
        title.append(f": {part.nothing}", "dim")
        title.truncate(width, overflow="ellipsis")
        return [Text(""), title]
    last = [part.last] if part.last is not None and room > 1 else []
    lines = part.lines[: room - len(last)]
    if len(lines) < len(part.lines):
        title.append(f" ({len(lines)} of {len(part.lines)})", "dim")
    title.truncate(width, overflow="ellipsis")
    rows = [[column.cell(line) for column in part.columns] for line in [*lines, *last]]
    chosen = fitting(part.columns, rows, width)
    cut = sum(_longest(part.columns, rows, number) + GAP for number in chosen) - GAP > width
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim", expand=cut)
    for number in chosen:
        column = part.columns[number]
        table.add_column(
            column.head,
            justify="left" if column.left else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if cut and column.grows else None,
        )
    for row in rows:
        table.add_row(*(row[number] for number in chosen))
    return [Text(""), title, table]


LEAST_GROWING = 24
"""Characters that a column has at least which may be cut."""


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The numbers of the columns that have a place, in their order; those of the lowest rank first.

    A column without any text is left out, its place is for others.

    Args:
        columns: all columns.
        rows: the cells of all lines.
        width: how many characters there are.
    """
    chosen: list[int] = []
    left = width + GAP
    for number in sorted(range(len(columns)), key=lambda one: (columns[one].rank, one)):
        column = columns[number]
        if not any(row[number] for row in rows):
            continue
        needed = _longest(columns, rows, number)
        if column.grows:
            needed = min(needed, LEAST_GROWING)
        if needed + GAP > left and chosen:
            break  # nothing of a higher rank stands where this one had no place
        chosen.append(number)
        left -= needed + GAP
    return sorted(chosen)


def _longest(columns: Sequence[Column], rows: Sequence[Sequence[Text]], number: int) -> int:
    return max(cell_len(columns[number].head), *(row[number].cell_len for row in rows))


class _Total:
    """The line below all lanes: the same figures of all together."""

    def __init__(self, picture: Picture) -> None:
        grows = [lane.grows for lane in picture.lanes]
        self.flow = picture.total
        self.lag = picture.lag
        self.oldest_s = max(
            (lane.oldest_s for lane in picture.lanes if lane.oldest_s is not None), default=None
        )
        self.grows = None if None in grows else sum(one or 0.0 for one in grows)
        self.dead = sum(lane.dead for lane in picture.lanes)
        self.empty_in: float | None = None


def _name(text: str) -> str:
    shown = flat(text)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[: LONGEST_NAME - 1]}…"


def _rate(number: float) -> str:
    return rate(number) if number else "0"


def _figure_or_dot(text: str, *, zero: bool, style: str = "") -> Text:
    """A figure; a nothing is pale, so that what is something stands out."""
    return Text(text, "dim" if zero else style)


def _lane_name(line: LaneLine | _Total) -> Text:
    return Text(_name(f"{line.queue}.{line.priority}"), "cyan") if isinstance(line, LaneLine) else Text("all", "dim")  # fmt: skip


def _marks(line: LaneLine | _Total) -> Text:
    if not isinstance(line, LaneLine):
        return Text("")
    marks = [word for word, is_so in (("halted", line.halted), ("paused", line.paused)) if is_so]
    return Text(" ".join(marks), "bold red" if line.halted else "yellow")


def _failing(line: LaneLine | _Total) -> Text:
    share = line.flow.failing
    if share is None:
        return Text("-", "dim")
    return _figure_or_dot(f"{share:.1%}", zero=not share, style="red" if line.flow.died else "yellow")  # fmt: skip


def _grows(line: LaneLine | _Total) -> Text:
    if line.grows is None:
        return Text("-", "dim")
    sign = "+" if line.grows > 0 else "-" if line.grows < 0 else ""
    return _figure_or_dot(f"{sign}{_rate(abs(line.grows))}", zero=not line.grows, style="yellow" if line.grows > 0 else "green")  # fmt: skip


def _seconds(of: Callable[[Any], float | None]) -> Callable[[Any], Text]:
    def cell(line: Any) -> Text:
        value = of(line)
        return _figure_or_dot(duration(value), zero=value is None)

    return cell


def _per_second(of: Callable[[Any], float], style: str = "") -> Callable[[Any], Text]:
    def cell(line: Any) -> Text:
        value = of(line)
        return _figure_or_dot(_rate(value), zero=not value, style=style)

    return cell


def _number(of: Callable[[Any], int | None], style: str = "") -> Callable[[Any], Text]:
    def cell(line: Any) -> Text:
        value = of(line)
        return _figure_or_dot(count(value), zero=not value, style=style)

    return cell


_LANES = (
    Column("queue", 0, _lane_name, left=True),
    Column("", 1, _marks, left=True),
    Column("done/s", 1, _per_second(lambda line: line.flow.finished)),
    Column("failed", 3, _failing),
    Column("again/s", 9, _per_second(lambda line: line.flow.retried, "yellow")),
    Column("died/s", 8, _per_second(lambda line: line.flow.died, "red")),
    Column("wait p50", 11, _seconds(lambda line: line.flow.waited.p50)),
    Column("wait p95", 5, _seconds(lambda line: line.flow.waited.p95)),
    Column("wait p99", 13, _seconds(lambda line: line.flow.waited.p99)),
    Column("run p50", 12, _seconds(lambda line: line.flow.ran.p50)),
    Column("run p95", 6, _seconds(lambda line: line.flow.ran.p95)),
    Column("run p99", 14, _seconds(lambda line: line.flow.ran.p99)),
    Column("waiting", 2, _number(lambda line: line.lag)),
    Column("grows/s", 7, _grows),
    Column("oldest", 4, _seconds(lambda line: line.oldest_s)),
    Column("empty in", 15, _seconds(lambda line: line.empty_in)),
    Column("dead", 10, _number(lambda line: line.dead)),
)


_TASKS = (
    Column("task", 0, lambda line: Text(_name(line.name or "?"), "cyan"), left=True),
    Column("attempts", 1, _number(lambda line: line.attempts)),
    Column("failed", 2, _number(lambda line: line.failed, "yellow")),
    Column("died", 3, _number(lambda line: line.dead, "red")),
    Column("run p50", 5, _seconds(lambda line: line.median)),
    Column("run p95", 4, _seconds(lambda line: line.longest)),
)


def _workers(now: float) -> tuple[Column, ...]:
    def held(worker: Worker) -> Text:
        halted = [f"halts {_name(lane)}" for lane in worker.halted]
        words = [*halted, *(f"holds {_name(target)}" for target in worker.paused)]
        return Text(" ".join(words), "bold red" if halted else "yellow")

    def seen(worker: Worker) -> Text:
        silent = max(0.0, now - worker.seen)
        return _figure_or_dot(duration(silent), zero=silent < 10, style="red")

    return (
        Column("worker", 0, lambda worker: Text(_name(worker.worker), "cyan"), left=True),
        Column("children", 1, lambda worker: Text(count(worker.children))),
        Column("running", 1, lambda worker: Text(count(len(worker.running)))),
        Column("seen", 3, seen),
        Column("up", 4, lambda worker: Text(duration(max(0.0, now - worker.since)))),
        Column("host", 5, lambda worker: Text(_name(worker.host)), left=True),
        Column("pid", 6, lambda worker: Text(str(worker.pid))),
        Column("version", 8, lambda worker: Text(_name(worker.version)), left=True),
        Column("queues", 7, lambda worker: Text(_name(" ".join(worker.queues))), left=True),
        Column("", 2, held, left=True, grows=True),
    )


_Run = tuple[Worker, RunningTask]


def _running(picture: Picture) -> tuple[Column, ...]:
    def attempt(line: _Run) -> Text:
        _, task = line
        return Text(f"{task.attempt} of run {task.run}" if task.run else str(task.attempt))

    def lane(line: _Run) -> Text:
        return Text(_name(picture.lane_of(line[1])))

    return (
        Column("for", 0, lambda line: Text(duration(max(0.0, picture.at - line[1].since)))),
        Column("task", 0, lambda line: Text(_name(line[1].task or "?"), "cyan"), left=True),
        Column("id", 1, lambda line: Text(flat(line[1].id)), left=True, grows=True),
        Column("attempt", 3, attempt, left=True),
        Column("queue", 2, lane, left=True),
        Column("worker", 4, lambda line: Text(_name(line[0].worker)), left=True),
        Column("child", 5, lambda line: Text(str(line[1].child or "-"))),
        Column("record", 6, lambda line: Text(flat(line[1].source)), left=True),
    )


def _failures(now: float) -> tuple[Column, ...]:
    def ago(failure: Failure) -> Text:
        return Text(f"{duration(max(0.0, now - failure.at))} ago", "dim")

    def state(failure: Failure) -> Text:
        return Text(failure.state, "red" if failure.state == "dead" else "yellow")

    def error(failure: Failure) -> Text:
        kind, message = flat(failure.error), flat(failure.message[:500])
        return Text.assemble((kind, "bold"), (f": {message}" if message else ""))

    return (
        Column("when", 2, ago),
        Column("state", 1, state, left=True),
        Column("task", 0, lambda failure: Text(_name(failure.task or "?"), "cyan"), left=True),
        Column("attempt", 5, lambda failure: Text(str(failure.attempt))),
        Column("queue", 4, lambda failure: Text(_name(f"{failure.queue}.{failure.priority}")), left=True),
        Column("id", 3, lambda failure: Text(flat(failure.id)), left=True),
        Column("error", 0, error, left=True, grows=True),
    )  # fmt: skip
