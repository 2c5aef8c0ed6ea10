"""Outputs with the values a test cares about; every other key of the contract is empty."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar, get_origin, get_type_hints

from stacks.contract import Outputs

Some = TypeVar("Some", bound=Outputs)


def filled(layer: type[Some], /, **given: Any) -> Some:
    """Outputs of one layer; text is empty and numbers are 0 where nothing is given."""
    hints = get_type_hints(layer)
    unknown = set(given) - {entry.name for entry in fields(layer)}
    assert not unknown, f"{layer.__name__} has no {sorted(unknown)}"
    empty = {name: (get_origin(hint) or hint)() for name, hint in hints.items() if name not in given}
    return layer(**{**empty, **given})
