"""What a rule is tried on: resources made by hand, with one thing changed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.policies.declared import Declared, StackDeclared


@dataclass(frozen=True)
class Case:
    """One environment, and what one rule has to say of it."""

    rule: str
    title: str
    stacks: Mapping[str, StackDeclared]
    verdict: str
    """red, green or open."""
    says: str = ""
    """Part of the message of a red one."""


def made(stack: str, kind: str, name: str, inputs: Mapping[str, Any], *, component: str = "", **more: Any) -> Declared:
    types = f"{component}${kind}" if component else kind
    urn = f"urn:pulumi:{stack}::tandem::{types}::{name}"
    return Declared(stack=stack, type=kind, name=name, urn=urn, inputs=inputs, **more)


def stack(name: str, *resources: Declared, **outputs: Any) -> dict[str, StackDeclared]:
    return {name: StackDeclared(name, resources, outputs)}


def changed(inputs: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with values set at paths; a number in a path is an index, None takes the key away."""
    copied = copy.deepcopy(dict(inputs))
    for path, value in changes.items():
        *above, last = (int(part) if part.isdigit() else part for part in path.split("/"))
        place: Any = copied
        for part in above:
            place = place[part]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return copied


def cases(rule: str, *entries: tuple[str, Mapping[str, StackDeclared], str] | tuple[Any, ...]) -> list[Case]:
    return [Case(rule, *entry) for entry in entries]


def joined(*groups: Iterable[Case]) -> list[Case]:
    return [case for group in groups for case in group]
