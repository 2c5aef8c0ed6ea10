"""What differs between two evaluations, resource by resource and property by property."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from infra.policies.declared import Declared, StackDeclared
from stacks.preview.effect import ORDER, Effect, Verdict
from stacks.preview.replacement import verdict


class Op(StrEnum):
    """What happens to a resource, in the order a reader wants to know of it."""

    DELETE = "delete"
    REPLACE = "replace"
    MAY_REPLACE = "may-replace"
    UPDATE = "update"
    CREATE = "create"
    SAME = "same"


ABSENT: Final = object()
"""There is no value at this path."""
NAMES: Final = ("name", "key", "id", "cidrBlock")
"""Keys that tell the items of a list from each other, whatever their order."""
RECORDED: Final = (
    "left to whoever moves it, and sent along as the state has it: refresh the state before `up`, and see that it lies"
    " within what is declared beside it"
)
_BY_EFFECT: Final = {Effect.UPDATE: Op.UPDATE, Effect.MAY_REPLACE: Op.MAY_REPLACE, Effect.REPLACE: Op.REPLACE}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One changed value of the settings."""

    path: str
    old: Any
    new: Any
    secret: bool = False


@dataclass(frozen=True, kw_only=True)
class Property(Setting):
    """One changed property of a resource."""

    verdict: Verdict
    note: str = ""
    """Of one that is left alone and goes along all the same: what that means."""


@dataclass(frozen=True)
class Change:
    """What happens to one resource, and why."""

    op: Op
    old: Declared | None
    new: Declared | None
    properties: tuple[Property, ...] = ()
    dependents: int = 0
    """Of a replaced one: how many resources take something from it that is not known before it is there again."""

    @property
    def resource(self) -> Declared:
        """The resource as it is to be, or as it was."""
        found = self.new or self.old
        assert found is not None  # noqa: S101 - a change is of something
        return found


@dataclass(frozen=True)
class StackDifference:
    """All that happens to one stack."""

    stack: str
    changes: tuple[Change, ...]
    errors: tuple[str, ...] = ()
    counts: dict[Op, int] = field(default_factory=dict)
    settings: tuple[Setting, ...] = ()
    """Settings that its program gets otherwise than before."""

    @property
    def told(self) -> bool:
        """Whether there is anything to say of it."""
        return bool(self.errors or self.changed or self.settings)

    @property
    def changed(self) -> tuple[Change, ...]:
        """Without what stays as it is, deletions first."""
        order = list(Op)
        return tuple(
            sorted(
                (each for each in self.changes if each.op is not Op.SAME),
                key=lambda each: (order.index(each.op), each.resource.type, each.resource.name),
            )
        )


def difference(name: str, old: StackDeclared | None, new: StackDeclared | None) -> StackDifference:
    """From one evaluation of a stack to another; None where the stack is not there."""
    before = {each.urn: each for each in (old.resources if old else ())}
    after = {each.urn: each for each in (new.resources if new else ())}
    changes = [Change(Op.DELETE, gone, None) for urn, gone in before.items() if urn not in after]
    for urn, resource in after.items():
        known = before.get(urn)
        changes.append(Change(Op.CREATE, None, resource) if known is None else _compared(known, resource))
    changes = [_with_dependents(each, after.values()) for each in changes]
    return StackDifference(name, tuple(changes), (), _counted(changes))


def _compared(old: Declared, new: Declared) -> Change:
    properties = []
    for path, before, after in walk(old.inputs, new.inputs):
        if any(_same_path(path, ignored) for ignored in new.ignores):
            continue
        secret = any(path.startswith(each) or each.startswith(path) for each in (*old.secrets, *new.secrets))
        judged = verdict(new.type, path, old.inputs, new.inputs)
        properties.append(Property(path=path, old=before, new=after, verdict=judged, secret=secret))
    properties += _sent_along(new, [each.path for each in properties])
    if old.protect != new.protect:
        rule = Verdict(Effect.UPDATE, "an option of the engine; the cloud does not see it")
        properties.append(Property(path="[protect]", old=old.protect, new=new.protect, verdict=rule))
    if not properties:
        return Change(Op.SAME, old, new)
    worst = max((each.verdict.effect for each in properties), key=ORDER.index)
    if not new.custom:
        worst = Effect.UPDATE  # a component groups others; nothing of its own can be replaced
    return Change(_BY_EFFECT[worst], old, new, tuple(properties))


def _sent_along(new: Declared, changed: Sequence[str]) -> list[Property]:
    """What is left alone in a block that changes: such a block is sent as a whole, like EKS's scalingConfig."""
    found = []
    for ignored in sorted(new.ignores):
        block, _, name = ignored.rpartition(".")
        if block and new.type.startswith("aws:") and any(_same_path(path, block) for path in changed):
            rule = Verdict(Effect.UPDATE, RECORDED)
            found.append(Property(path=f"{block}.{name}", old=ABSENT, new=ABSENT, verdict=rule, note=RECORDED))
    return found


def _with_dependents(change: Change, resources: Any) -> Change:
    if change.op not in {Op.REPLACE, Op.MAY_REPLACE}:
        return change
    urn = change.resource.urn
    dependents = sum(1 for each in resources if urn in each.depends_on and each.custom)
    return Change(change.op, change.old, change.new, change.properties, dependents)


def _counted(changes: Sequence[Change]) -> dict[Op, int]:
    return {op: number for op in Op if (number := sum(1 for each in changes if each.op is op))}


def _same_path(path: str, ignored: str) -> bool:
    return path == ignored or path.startswith((f"{ignored}.", f"{ignored}["))


def walk(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Paths where two values differ, with what stands there; ABSENT for nothing."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from walk(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}" if path else str(key))
    elif isinstance(old, list) and isinstance(new, list) and (key := _key(old, new)):
        before, after = ({item[key]: item for item in items} for items in (old, new))
        for name in [*before, *(name for name in after if name not in before)]:
            yield from walk(before.get(name, ABSENT), after.get(name, ABSENT), f"{path}[{name}]")
        if list(before) != list(after) and set(before) == set(after):
            yield f"{path}[order]", list(before), list(after)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from walk(one, other, f"{path}[{number}]")
    elif old is not new and (type(old) is not type(new) or old != new):
        yield path, old, new


def _key(*lists: Sequence[Any]) -> str:
    """The key by which items of all these lists are told apart; empty for none."""
    for key in NAMES:
        named = [[item.get(key) if isinstance(item, Mapping) else None for item in items] for items in lists]
        if all(isinstance(name, str) for names in named for name in names) and all(
            len(set(names)) == len(names) for names in named
        ):
            return key if any(named) else ""
    return ""
