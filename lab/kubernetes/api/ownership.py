"""Server-side apply: which manager owns which field, conflicts, and what an apply leaves out.

Ownership is kept beside the object, as sets of paths. A path is a tuple of steps: a field name, a list item's key
(`Item`) or a set member (`Member`). Follows structured-merge-diff, without defaults for keys other than `protocol`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from lab.kubernetes.api.errors import Cause, Conflict
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, clone, name_of
from lab.kubernetes.api.schema import Node, root


@dataclass(frozen=True)
class Item:
    """A step to the item of a list whose keys have these values."""

    keys: tuple[tuple[str, Any], ...]

    def __str__(self) -> str:
        return "[" + ",".join(f"{name}={value!r}".replace("'", '"') for name, value in self.keys) + "]"


@dataclass(frozen=True)
class Member:
    """A step to the member of a list that is a set."""

    value: Any

    def __str__(self) -> str:
        return f"[={self.value!r}]"


Path = tuple[str | Item | Member, ...]
Paths = frozenset[Path]
Owners = dict[tuple[str, Literal["Apply", "Update"]], Paths]
"""Manager and operation to the fields it owns."""

_UNOWNED: Final = frozenset({"apiVersion", "kind", "status"})
_OWN_METADATA: Final = frozenset({"labels", "annotations", "finalizers", "ownerReferences"})
_ABSENT: Final = object()


def text(path: Path) -> str:
    """A path as messages show it, such as .spec.template.spec.containers[name="web"].image."""
    return "".join(f".{step}" if isinstance(step, str) else str(step) for step in path)


def _item(entry: Any, keys: tuple[str, ...]) -> Item:
    default = {"protocol": "TCP"}
    pairs = entry if isinstance(entry, dict) else {}
    return Item(tuple((key, pairs.get(key, default.get(key))) for key in keys))


def _granular(node: Node, value: Any) -> bool:
    """Whether parts of the value can have owners of their own."""
    if isinstance(value, dict):
        return not node.atomic
    return isinstance(value, list) and node.list_type in ("map", "set")


def _steps(node: Node, value: Any) -> Iterator[tuple[str | Item | Member, Any, Node]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name, inner, node.child(name)
    elif node.list_type == "map":
        for entry in value:
            yield _item(entry, node.map_keys), entry, node.items
    else:
        for entry in value:
            yield Member(entry), _ABSENT, node.items


def paths_of(kind: Kind, obj: Object, *, status: bool = False) -> Paths:
    """Every field of `obj` a manager can own: leaves, list items, empty maps."""
    found: set[Path] = set()
    node = root(kind)
    for name, value in obj.items():
        if name == "metadata":
            kept = {key: value[key] for key in value if key in _OWN_METADATA}
            if not status:
                _collect(node.child(name), kept, (name,), found, leaf=False)
        elif (name == "status") if status else (name not in _UNOWNED):
            _collect(node.child(name), value, (name,), found)
    return frozenset(found)


def _collect(node: Node, value: Any, path: Path, found: set[Path], *, leaf: bool = True) -> None:
    if value is _ABSENT or not _granular(node, value) or not value:
        if leaf:
            found.add(path)
        return
    if isinstance(path[-1], Item):
        found.add(path)
    for step, inner, child in _steps(node, value):
        _collect(child, inner, (*path, step), found)


def look_up(node: Node, obj: Any, path: Path) -> Any:
    """The value at a path; a private mark when there is none."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(obj, dict) or step not in obj:
                return _ABSENT
            obj, node = obj[step], node.child(step)
        elif isinstance(step, Member):
            return True if isinstance(obj, list) and step.value in obj else _ABSENT
        else:
            entries = obj if isinstance(obj, list) else []
            match = [entry for entry in entries if _item(entry, node.map_keys) == step]
            if not match:
                return _ABSENT
            obj, node = match[0], node.items
    return obj


def created(kind: Kind, obj: Object, manager: str) -> Owners:
    """Owners of an object somebody created by POST."""
    return {(manager, "Update"): paths_of(kind, obj)}


def applied_first(kind: Kind, config: Object, manager: str) -> Owners:
    """Owners of an object an apply created."""
    return {(manager, "Apply"): paths_of(kind, config)}


def updated(kind: Kind, owners: Owners, before: Object, after: Object, manager: str) -> Owners:
    """Owners after a PUT or patch: whoever changes a field owns it, alone."""
    node = root(kind)
    old, new = paths_of(kind, before), paths_of(kind, after)
    kept = old & new
    changed = (new - old) | {
        path
        for path in kept
        if not isinstance(path[-1], (Item, Member)) and look_up(node, before, path) != look_up(node, after, path)
    }
    lost = changed | (old - new)
    result: Owners = {entry: fields - lost for entry, fields in owners.items()}
    mine: tuple[str, Literal["Update"]] = (manager, "Update")
    result[mine] = result.get(mine, frozenset()) | changed
    return {entry: fields for entry, fields in result.items() if fields}


def applied(
    kind: Kind, live: Object, config: Object, owners: Owners, manager: str, *, force: bool, subresource: str | None
) -> tuple[Object, Owners]:
    """The object and its owners after an apply; Conflict when another manager set one of the fields differently."""
    node = root(kind)
    status = subresource == "status"
    wanted = paths_of(kind, config, status=status)
    mine: tuple[str, Literal["Apply"]] = (manager, "Apply")
    disputed = {
        entry: sorted((path for path in wanted & fields if _differs(node, live, config, path)), key=text)
        for entry, fields in owners.items()
        if entry != mine
    }
    disputed = {entry: paths for entry, paths in disputed.items() if paths}
    if disputed and not force:
        raise _conflict(kind, name_of(live), disputed)
    result: Owners = {
        entry: fields - frozenset(disputed.get(entry, ())) for entry, fields in owners.items() if entry != mine
    }
    new = _merged(node, live, _restricted(config, status=status))
    claimed: Paths = wanted.union(*result.values())
    previous = frozenset(path for path in owners.get(mine, ()) if (path[0] == "status") == status)
    for path in sorted(previous - wanted, key=len):  # a list item goes before its parts, or its key would be gone
        if not any(other[: len(path)] == path for other in claimed):
            _remove(node, new, path, wanted)
    result[mine] = wanted | (owners.get(mine, frozenset()) - previous)
    for key in ("resourceVersion", "uid"):
        if config["metadata"].get(key):
            new["metadata"][key] = config["metadata"][key]
    return new, {entry: fields for entry, fields in result.items() if fields}


def _restricted(config: Object, *, status: bool) -> Object:
    if status:
        return {"status": config.get("status") or {}}
    meta = {key: value for key, value in config["metadata"].items() if key in _OWN_METADATA}
    return {**{key: value for key, value in config.items() if key not in _UNOWNED}, "metadata": meta}


def _differs(node: Node, live: Object, config: Object, path: Path) -> bool:
    if isinstance(path[-1], (Item, Member)):
        return False
    there = look_up(node, live, path)
    return there is not _ABSENT and there != look_up(node, config, path)


def _conflict(kind: Kind, name: str, disputed: dict[tuple[str, Literal["Apply", "Update"]], list[Path]]) -> Conflict:
    causes = []
    for (manager, operation), paths in disputed.items():
        using = f" using {kind.api_version}" if operation == "Update" else ""
        causes += [Cause(text(path), "FieldManagerConflict", f'conflict with "{manager}"{using}') for path in paths]
    many = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    listed = ", ".join(f"{cause.message}: {cause.field}" for cause in causes)
    return Conflict(
        f"Apply failed with {many}: {listed}; apply with force=true to take the fields over",
        kind=kind,
        name=name,
        causes=causes,
    )


def _merged(node: Node, live: Any, config: Any) -> Any:
    if isinstance(config, dict) and isinstance(live, dict) and not node.atomic:
        result = {name: clone(value) for name, value in live.items() if name not in config}
        for name, value in config.items():
            result[name] = _merged(node.child(name), live[name], value) if name in live else clone(value)
        return {name: result[name] for name in [*live, *(name for name in config if name not in live)]}
    if isinstance(config, list) and isinstance(live, list) and node.list_type == "set":
        return clone(live) + [clone(value) for value in config if value not in live]
    if isinstance(config, list) and isinstance(live, list) and node.list_type == "map":
        return _merged_items(node, live, config)
    return clone(config)


def _merged_items(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    """Items in the order of the config; those only in the live list keep their place before the item they preceded."""
    rest = {_item(entry, node.map_keys): entry for entry in live}
    named = {_item(entry, node.map_keys) for entry in config}
    result: list[Any] = []
    for entry in config:
        key = _item(entry, node.map_keys)
        if key not in rest:
            result.append(clone(entry))
            continue
        for earlier in list(rest):
            if earlier == key:
                break
            if earlier not in named:
                result.append(clone(rest.pop(earlier)))
        result.append(_merged(node.items, rest.pop(key), entry))
    return result + [clone(entry) for entry in rest.values()]


def _remove(node: Node, obj: Any, path: Path, kept: Paths) -> None:
    """Take the value at `path` out, and the containers that become empty by it, unless `kept` names them."""
    trail: list[tuple[Any, str | Item | Member, Node]] = []
    for step in path:
        trail.append((obj, step, node))
        inner = look_up(node, obj, (step,))
        if inner is _ABSENT:
            return
        obj, node = inner, (node.child(step) if isinstance(step, str) else node.items)
    for depth in range(len(trail), 0, -1):
        container, step, here = trail[depth - 1]
        if isinstance(step, str):
            del container[step]
        elif isinstance(step, Member):
            container.remove(step.value)
        else:
            container[:] = [entry for entry in container if _item(entry, here.map_keys) != step]
        parent: Path = path[: depth - 1]
        if container or parent in kept or len(parent) <= 1 or isinstance(parent[-1], Item):
            return
