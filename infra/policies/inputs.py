"""How rules read inputs: what stands where, and whether it is known yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.policies.declared import UNKNOWN, Declared, StackDeclared


def at(value: Any, *keys: str) -> Any:
    """What stands below these keys; None where nothing does, UNKNOWN where that cannot be known."""
    for key in keys:
        if value == UNKNOWN:
            return UNKNOWN
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def many(value: Any) -> list[Any]:
    """The items of a list; a single value counts as a list of it, nothing as an empty one."""
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def known(*values: Any) -> bool:
    """Whether each value, and everything in it, is known."""
    return all(not _holds_unknown(value) for value in values)


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_unknown(entry) for entry in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(_holds_unknown(entry) for entry in value)
    return bool(value == UNKNOWN)


def truth(value: Any) -> bool:
    """A boolean, also where a provider takes it as text."""
    return value is True or value == "true"


def number(value: Any) -> float | None:
    """A number, also where it is written as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None


def parsed(value: Any) -> Any:
    """A value that may come as JSON text, as policies and a provider's settings do; None for text that is none."""
    if not isinstance(value, str) or value == UNKNOWN:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in the depth with its path, dots between keys and [n] for items."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from leaves(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, entry in enumerate(value):
            yield from leaves(entry, f"{path}[{index}]")
    else:
        yield path, value


def of_type(stack: StackDeclared, *types: str) -> list[Declared]:
    """The stack's resources of these types."""
    return [resource for resource in stack.resources if resource.type in types]


def within(resource: Declared, component: str) -> bool:
    """Whether the resource is a part of a component of this type, as its URN says."""
    kinds = resource.urn.split("::")[2] if resource.urn.count("::") >= 3 else ""
    return component in kinds.split("$")
