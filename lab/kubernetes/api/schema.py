"""Kubernetes' published schemas (1.34): types of fields, keys lists are merged by, required fields.

Unknown fields are pruned and reported, as a real server does; a wrong type is BadRequest with the field's path. Of
custom resources the facts noted say which fields there are; their types are judged with the rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from importlib import resources
from typing import Any, Final

from lab.kubernetes.api import published
from lab.kubernetes.api.errors import BadRequest, Cause
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, clone
from lab.schemas.custom import OPEN

VERSION: Final = "1.34.0"
UnknownFields = Callable[[list[str]], None]
"""Told the paths of pruned fields; may raise to refuse them."""

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_IN_SPEC: Final = 'unknown field "spec'
_TOLERATED_ABSENT: Final = frozenset({"metadata", "value", "endpoints", "rules"})
"""Top-level fields the schemas call required and real servers take as empty."""


@cache
def _definitions() -> dict[str, Any]:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local"
    found: dict[str, Any] = json.loads((folder / "_definitions.json").read_text(encoding="utf-8"))["$defs"]
    return found


class Node:
    """The schema at one place of an object; a node without fields lets everything through."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self.merge_key: str | None = raw.get("x-kubernetes-patch-merge-key")
        self.merges = "merge" in str(raw.get("x-kubernetes-patch-strategy", ""))
        self.list_type: str = raw.get("x-kubernetes-list-type", "atomic")
        self.map_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        reference = str(raw.get("$ref", "")).rpartition("/")[2]
        self.quantity = reference == _QUANTITY
        self.int_or_string = reference == _INT_OR_STRING
        self._body = _definitions().get(reference, {}) if reference else raw
        self.atomic = "atomic" in (raw.get("x-kubernetes-map-type"), self._body.get("x-kubernetes-map-type"))
        declared = self._body.get("type", ())
        self.types = frozenset([declared] if isinstance(declared, str) else declared) - {"null"}
        self.required: tuple[str, ...] = tuple(self._body.get("required", ()))
        self.bits = 32 if self._body.get("format") == "int32" else 64

    @cached_property
    def fields(self) -> dict[str, Node] | None:
        """Named fields; None for maps, lists and values."""
        properties = self._body.get("properties")
        return None if properties is None else {name: type(self)(raw) for name, raw in properties.items()}

    @cached_property
    def values(self) -> Node:
        """Schema of every value of a map."""
        raw = self._body.get("additionalProperties")
        return type(self)(raw) if isinstance(raw, dict) else ANY

    @cached_property
    def items(self) -> Node:
        """Schema of every item of a list."""
        raw = self._body.get("items")
        return type(self)(raw) if isinstance(raw, dict) else ANY

    def child(self, name: str) -> Node:
        """Schema of one field or map value; ANY when there is none."""
        return self.values if self.fields is None else self.fields.get(name, ANY)


class _Defined(Node):
    """A place of a custom resource of which facts are noted: its fields are known, types are judged with the rules."""

    def __init__(self, raw: dict[str, Any]) -> None:
        super().__init__(raw)
        closed = "object" in self.types and "additionalProperties" not in raw and not raw.get(OPEN)
        # An object that names no field has none.
        self._fields = raw.get("properties", {}) if closed else None
        self.types = frozenset()
        self.required = ()
        self.bits = 64

    @cached_property
    def fields(self) -> dict[str, Node] | None:
        """Named fields; None where any name may stand."""
        return None if self._fields is None else {name: _Defined(raw) for name, raw in self._fields.items()}


class _Custom(Node):
    """A custom resource: its metadata is known, the rest goes through."""

    @cached_property
    def fields(self) -> None:
        return None

    def child(self, name: str) -> Node:
        return _meta() if name == "metadata" else ANY


ANY: Final = Node({})


@cache
def _meta() -> Node:
    return Node({"$ref": f"#/$defs/{_META}"})


@cache
def root(kind: Kind) -> Node:
    """The schema of a kind."""
    defined = published.schema(kind)
    if defined is not None:
        node = _Defined(defined)
        (node.fields or {})["metadata"] = _meta()
        return node
    if kind.custom or kind.read_only:
        return _Custom({})
    group = (kind.group or "core").partition(".")[0]
    return Node({"$ref": f"#/$defs/io.k8s.api.{group}.{kind.version}.{kind.kind}"})


def prune(kind: Kind, obj: Object, unknown: UnknownFields | None = None) -> Object:
    """A copy without nulls and unknown fields; BadRequest for a value of the wrong type."""
    pruned: list[str] = []
    try:
        result: Object = _pruned(root(kind), obj, "", pruned)
    except TypeError as error:
        raise BadRequest(
            f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {error}', kind=kind
        ) from None
    if pruned and unknown:
        remedy = published.remedy(kind)
        unknown([f"{each} ({remedy})" if remedy and each.startswith(_IN_SPEC) else each for each in pruned])
    return result


def _pruned(node: Node, value: Any, path: str, unknown: list[str]) -> Any:
    if node.quantity or node.int_or_string:
        return _scalar_or_text(node, value, path)
    if isinstance(value, dict):
        if node.types and "object" not in node.types:
            raise _mismatch(path, value, node)
        if node.fields is None and node.values is ANY and not isinstance(node, _Custom):
            return clone(value)
        result = {}
        for name, item in value.items():
            here = f"{path}.{name}" if path else str(name)
            if node.fields is not None and name not in node.fields:
                unknown.append(f'unknown field "{here}"')
            elif item is not None:
                result[name] = _pruned(node.child(name), item, here, unknown)
        return result
    if isinstance(value, list):
        if node.types and "array" not in node.types:
            raise _mismatch(path, value, node)
        return [_pruned(node.items, item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    if node.types and not _fits(value, node.types):
        raise _mismatch(path, value, node)
    if isinstance(value, int) and not -(2 ** (node.bits - 1)) <= value < 2 ** (node.bits - 1):
        raise TypeError(f"{path}: got {str(value)[:80]}, want an integer of {node.bits} bits")
    return value


def _scalar_or_text(node: Node, value: Any, path: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError(f"{path}: got {value!r}, want a number or a string")
    return str(value) if node.quantity else value


def _fits(value: Any, types: frozenset[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in types
    if isinstance(value, int):
        return "integer" in types or "number" in types
    if isinstance(value, float):
        return "number" in types or ("integer" in types and value.is_integer())
    return isinstance(value, str) and "string" in types


def _mismatch(path: str, value: Any, node: Node) -> TypeError:
    return TypeError(f"{path}: got {str(value)[:80]!r}, want {' or '.join(sorted(node.types))}")


def missing(kind: Kind, obj: Object) -> list[Cause]:
    """Required fields that are absent, outside of status."""
    node = root(kind)
    causes = [_required(name) for name in node.required if name not in obj and name not in _TOLERATED_ABSENT]
    for name, value in obj.items():
        if name not in ("status", "metadata"):
            causes.extend(_missing(node.child(name), value, name))
    return causes


def _missing(node: Node, value: Any, path: str) -> Iterator[Cause]:
    if isinstance(value, dict):
        for name in node.required:
            if name not in value:
                yield _required(f"{path}.{name}")
        if node.fields is not None or node.values is not ANY:
            for name, item in value.items():
                if isinstance(item, (dict, list)):
                    yield from _missing(node.child(name), item, f"{path}.{name}")
    elif isinstance(value, list) and node.items is not ANY:
        for index, item in enumerate(value):
            if isinstance(item, (dict, list)):
                yield from _missing(node.items, item, f"{path}[{index}]")


def _required(path: str) -> Cause:
    return Cause(path, "FieldValueRequired", "Required value")
