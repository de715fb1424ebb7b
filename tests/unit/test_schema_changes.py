"""What one version of a schema changed, in words.

Broken on purpose once, and seen to fail: an alias taken for a new field, the members of an enum told in its
field as well, fields that are gone left untold.
"""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstream.schemas.changes import changes
from taskstream.schemas.schema import Schema

KIND = {"type": "enum", "name": "shop.Kind", "symbols": ["A", "B"]}
PLACE = {"type": "record", "name": "shop.Place", "fields": [{"name": "city", "type": "string"}]}


def charge(*fields: dict[str, Any]) -> Schema:
    """A record of these fields."""
    return Schema({"type": "record", "name": "charge", "fields": deepcopy(list(fields))})


ORDER = {"name": "order", "type": "string"}
CENTS = {"name": "cents", "type": "long"}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ((ORDER,), (ORDER, CENTS), ["cents was added: long, required"]),
        (
            (ORDER,),
            (ORDER, {**CENTS, "type": ["null", "long"], "default": None}),
            ["cents was added: null or long, default null"],
        ),
        ((ORDER, CENTS), (ORDER,), ["cents was removed (it was long)"]),
        (
            (ORDER, {**CENTS, "type": "int"}),
            (ORDER, {**CENTS, "type": "double", "default": 1.5}),
            ["cents was int and is double now", "cents was required and is default 1.5 now"],
        ),
        ((CENTS,), ({**CENTS, "name": "sum", "aliases": ["cents"]},), ["cents is called sum now"]),
        ((CENTS,), ({**CENTS, "doc": "of Euro"},), ["cents is described in other words"]),
        ((ORDER, CENTS), (CENTS, ORDER), ["the fields stand in another order"]),
        (
            ({"name": "kind", "type": KIND},),
            ({"name": "kind", "type": {**KIND, "symbols": ["A", "C"]}},),
            ["Kind may be C, too", "Kind is never B any more"],
        ),
        (
            ({"name": "to", "type": PLACE},),
            ({"name": "to", "type": {**PLACE, "fields": [*PLACE["fields"], CENTS]}},),
            ["Place.cents was added: long, required"],
        ),
    ],
)  # fmt: skip
def test_each_change_is_told_in_a_line(
    before: tuple[dict[str, Any], ...], after: tuple[dict[str, Any], ...], told: list[str]
) -> None:
    """By the field's name, with what it was and what it is."""
    assert changes(charge(*before), charge(*after)) == told


fields = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from("abcdef"),
            "type": st.sampled_from(["int", "long", "string", ["null", "string"]]),
        }
    ),
    unique_by=lambda one: one["name"],
)


@given(fields, fields)
def test_only_what_differs_is_told(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Nothing of two that are equal; something of two that are not, once for each field at least."""
    told = changes(charge(*before), charge(*after))
    assert bool(told) == (before != after)
    old, new = ({one["name"]: one["type"] for one in some} for some in (before, after))
    for name in old.keys() | new.keys():
        if old.get(name) != new.get(name):
            assert any(line.startswith(f"{name} ") for line in told), name
