"""What changed between two sets of inputs, as paths such as `vpcConfig.subnetIds[0]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final


class Change(Enum):
    """How one property differs."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True)
class Difference:
    """The changed paths, and which of them cannot be changed in place."""

    changes: dict[str, Change] = field(default_factory=dict)
    replaces: tuple[str, ...] = ()
    delete_first: bool = False


_INDEX: Final = re.compile(r"\[(\d+|\"[^\"]*\")\]")
_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def rule_path(path: str) -> str:
    """The path without indexes, as replacement rules name it."""
    return _INDEX.sub("", path)


def falls_under(path: str, rule: str) -> bool:
    """Whether a changed path is the property a rule names, or a part of it."""
    plain = rule_path(path)
    return plain == rule or plain.startswith(rule + ".")


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Change]:
    """Every path whose value differs; null and absent are the same."""
    return dict(_compare(old, new, ""))


def _compare(old: Any, new: Any, path: str) -> Iterator[tuple[str, Change]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(set(old) | set(new)):
            yield from _compare(old.get(key), new.get(key), _step(path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            before = old[index] if index < len(old) else None
            after = new[index] if index < len(new) else None
            yield from _compare(before, after, f"{path}[{index}]")
    elif old is None and new is not None:
        yield path, Change.ADD
    elif new is None and old is not None:
        yield path, Change.DELETE
    elif isinstance(old, bool) is not isinstance(new, bool) or old != new:
        yield path, Change.UPDATE


def _step(path: str, key: str) -> str:
    if not _PLAIN.fullmatch(key):
        return f'{path}["{key}"]'
    return f"{path}.{key}" if path else key
