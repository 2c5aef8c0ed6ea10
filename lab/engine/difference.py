"""What separates the recorded resource from the declared one, and whether it has to be made anew."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lab.engine.errors import ProgramError
from lab.engine.values import Path, is_secret, reveal, show_path

_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*|\"[^\"]*\")\]")
ANY: Final = "*"


@dataclass
class Difference:
    """The outcome of comparing; keys are top-level properties, details are paths."""

    keys: list[str] = field(default_factory=list)
    replaces: list[str] = field(default_factory=list)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: bool = False
    delete_first: bool = False

    def replace_for(self, reasons: Iterable[str]) -> None:
        """Demand a replacement, for reasons the provider does not know."""
        for reason in reasons:
            self.changed = True
            for known in (self.keys, self.replaces):
                if reason not in known:
                    known.append(reason)
            if reason in self.details and not self.details[reason]["kind"].endswith("-replace"):
                self.details[reason]["kind"] += "-replace"


def changed_paths(old: Any, new: Any, here: Path = ()) -> list[Path]:
    """Leaves that differ, in the order of the new value, then what it lacks; marks of secrets do not count."""
    old, new = (value.get("value") if is_secret(value) else value for value in (old, new))
    if isinstance(old, dict) and isinstance(new, dict):
        keys: list[Any] = [*new, *(key for key in old if key not in new)]
        pairs = [(key, old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list):
        length = max(len(old), len(new))
        pairs = [(i, old[i] if i < len(old) else None, new[i] if i < len(new) else None) for i in range(length)]
    else:
        return [] if reveal(old) == reveal(new) else [here]
    return [path for key, before, after in pairs for path in changed_paths(before, after, (*here, key))]


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """The difference of two sets of inputs, where no provider has a say."""
    paths = changed_paths(dict(old), dict(new))
    details = {show_path(path): {"kind": _kind(old, new, path), "inputDiff": True} for path in paths}
    return Difference(list(dict.fromkeys(str(path[0]) for path in paths)), [], details, changed=bool(paths))


def _kind(old: Any, new: Any, path: Path) -> str:
    before, after = _at(old, path), _at(new, path)
    return "add" if before is None else "delete" if after is None else "update"


def parse_path(text: str) -> Path:
    """`spec.ports[0]["a.b"]` as steps; * stands for any."""
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ProgramError(
                f"{text!r} is no property path; one reads spec.ports[0].name: correct ignore_changes or"
                " replace_on_changes"
            )
        name, index = match.groups()
        steps.append(name if name is not None else int(index) if index.isdigit() else index.strip('"'))
        position = match.end()
    return tuple(steps)


def covers(pattern: Path, path: Path) -> bool:
    """Whether a change at `path` touches what `pattern` names: one lies within the other."""
    return all(want in {ANY, have} for want, have in zip(pattern, path, strict=False))


def keep_ignored(new: dict[str, Any], old: Mapping[str, Any], ignored: Iterable[str]) -> dict[str, Any]:
    """The new inputs, with the recorded value wherever changes are to be ignored."""
    result = copy.deepcopy(new)
    for text in ignored:
        _restore(result, old, parse_path(text))
    return result


def _restore(new: Any, old: Any, path: Path) -> None:
    if is_secret(new) and is_secret(old):
        new, old = new["value"], old["value"]
    head, rest = path[0], path[1:]
    if head == ANY:
        for each in _keys(new) | _keys(old):
            _restore(new, old, (each, *rest))
    elif rest and _has(new, head) and _has(old, head):
        _restore(new[head], old[head], rest)
    elif not rest and isinstance(new, dict):
        if _has(old, head):
            new[head] = copy.deepcopy(old[head])
        else:
            new.pop(head, None)
    elif not rest and _has(new, head) and _has(old, head):
        new[head] = copy.deepcopy(old[head])


def _keys(value: Any) -> set[Any]:
    return set(value) if isinstance(value, dict) else set(range(len(value))) if isinstance(value, list) else set()


def _has(value: Any, key: Any) -> bool:
    return key in _keys(value)


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value.get("value") if is_secret(value) else value
        value = value[step] if _has(value, step) else None
    return value
