"""How many digits a `Decimal` keeps after its point: `Annotated[Decimal, Scale(2)]`.

Avro writes a decimal as a whole number of units. Which unit that is must be said once, in the
signature: left to the values, 12.5 and 12.50 would need two schemas.
"""

from dataclasses import dataclass

from taskstream.core.errors import DefinitionError

PRECISION = 38
"""Digits that a decimal has at most, those after its point included."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Digits after the point; 0 to 38.

    Raises:
        DefinitionError: there can't be so many.
    """

    digits: int

    def __post_init__(self) -> None:
        if not 0 <= self.digits <= PRECISION:
            raise DefinitionError(f"Scale({self.digits}): must be 0 to {PRECISION} digits")
