"""What is wrong with a form, told beside the field that is wrong. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from taskstream.core.errors import TaskstreamError

T = TypeVar("T")


@dataclass(slots=True)
class Flaws:
    """Collects what can't be meant, by the name of its field, so that all of it is told at once.

    Args:
        told: by field what is wrong with it.
    """

    told: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.told)

    def read(self, name: str, given: Mapping[str, str], reader: Callable[[str], T]) -> T | None:
        """What a field means; None where it is empty or can't be read, which is noted.

        Args:
            name: of the field.
            given: all fields.
            reader: makes something of the text, or raises an error of ours.
        """
        text = given.get(name, "")
        if not text:
            return None
        try:
            return reader(text)
        except TaskstreamError as error:
            self.told[name] = str(error)
            return None
