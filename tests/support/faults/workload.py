"""What a run publishes: tasks drawn from a seed, with what must become of each. Pure."""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taskstream import State

CUSTOMERS = 40
"""How many keys the keyed tasks share."""

USUAL: Mapping[str, int] = {
    "quick": 20,
    "urgent": 8,
    "lowly": 8,
    "naps": 20,
    "naps_in_thread": 10,
    "ordered": 12,
    "ordered_in_thread": 8,
    "flaky": 8,
    "delayed": 4,
    "hopeless": 1,
    "fatal": 1,
}
"""Of a hundred tasks, how many are of which kind."""

POISON: Mapping[str, int] = {
    "exits": 2,
    "segfaults": 2,
    "loops": 1,
    "loops_in_thread": 1,
    "blocks_the_loop": 1,
    "bombs": 2,
    "unencodable": 4,
    "fatal": 2,
    "hopeless": 2,
}
"""What a poison mix holds beside the usual ones: so many in all, spread over the run."""

_STREWN = [kind for kind, times in POISON.items() for _ in range(times)]

DIES = frozenset((*POISON, "undecodable"))
"""What must end as `dead`; everything else must succeed."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One task to publish.

    Args:
        number: its place in the plan.
        task: the task's name.
        arguments: of the call.
        delay: seconds until it may run; 0 for at once.
    """

    number: int
    task: str
    arguments: Mapping[str, Any]
    delay: float = 0.0

    @property
    def state(self) -> State:
        """How it must end."""
        return State.DEAD if self.task in DIES else State.SUCCEEDED

    @property
    def result(self) -> int:
        """What it must return, unless it must die."""
        return self.number + 1


def tasks(
    seed: int, count: int, mix: Mapping[str, int] = USUAL, *, poison: bool = False
) -> Iterator[Planned]:
    """The tasks of a run, in the order of their publish, without an end.

    Args:
        seed: the same seed gives the same tasks.
        count: how many there are at least.
        mix: weights by kind.
        poison: whether `POISON` is strewn among those.
    """
    chance = random.Random(seed)
    kinds = dict(
        zip(
            chance.sample(range(count), len(_STREWN)) if poison else (),
            _STREWN if poison else (),
            strict=True,
        )
    )
    for number in itertools.count():
        kind = chance.choices(list(mix), list(mix.values()))[0]
        yield _planned(number, kinds.get(number, kind), chance)


def _planned(number: int, kind: str, chance: random.Random) -> Planned:
    if kind == "delayed":
        return Planned(number, "quick", {"n": number}, delay=round(chance.uniform(0.5, 7.0), 3))
    arguments: dict[str, Any] = {"n": number}
    if kind.startswith("naps"):
        arguments["seconds"] = round(chance.uniform(0.01, 0.8), 3)
    elif kind.startswith("ordered"):
        arguments["customer"] = f"c{chance.randrange(CUSTOMERS)}"
    elif kind == "flaky":
        arguments["failures"] = chance.choice((1, 2))
    return Planned(number, kind, arguments)
