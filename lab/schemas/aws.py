"""Whether AWS's own service models would take what a resource is given; the models are those botocore ships.

They know types, required members, enumerations, patterns and ranges, as far as AWS wrote them down: botocore itself
checks types, required members and minima before it sends a request, and the service checks all of it. A value that a
preview cannot know fits everywhere. An empty list or object counts as not given, because the provider leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from botocore.loaders import Loader
from botocore.model import ServiceModel

from lab.providers.errors import Failure, NotInLabError
from lab.providers.values import UNKNOWN, UNKNOWN_TEXT
from lab.schemas.aws_counterpart import Counterpart
from lab.schemas.aws_counterparts import COUNTERPARTS, EVERYWHERE
from lab.schemas.aws_shapes import Node, broken, strength, too_many

_PAIRS: Final = ({"Key", "Value"}, {"TagKey", "TagValue"}, {"Name", "Value"})
"""Members of a list's entries that together are one entry of a map."""


@dataclass
class Examination:
    """What the models say of one resource's inputs."""

    failures: list[Failure] = field(default_factory=list)
    """Rules of the models that values break."""
    strangers: list[Failure] = field(default_factory=list)
    """Properties nobody has said the place of."""
    places: dict[str, str] = field(default_factory=dict)
    """Property ([] for entries of a list, * for keys of a map) -> its place, and what the model asks of it."""
    unmapped: dict[str, str] = field(default_factory=dict)
    """Property -> why it has no place."""


def errors(kind: str, inputs: Mapping[str, Any]) -> list[str]:
    """What the models, and the table of places, have against the inputs of a type; raises as `examine` does."""
    found = examine(kind, inputs)
    return [each.reason for each in (*found.failures, *found.strangers)]


def unmapped() -> list[tuple[str, str, str]]:
    """Type, property and reason of everything that is known to have no counterpart in the models."""
    everywhere = [("*", name, reason) for name, reason in EVERYWHERE.items()]
    return everywhere + [
        (kind, name, reason)
        for kind, each in sorted(COUNTERPARTS.items())
        for name, reason in sorted(each.without.items())
    ]


def examine(kind: str, inputs: Mapping[str, Any]) -> Examination:
    """Every property beside the members it becomes. Raises NotInLabError for a type without counterpart."""
    if kind not in COUNTERPARTS:
        raise NotInLabError(
            f"{kind} has no counterpart among AWS's own models; what the lab implements is held against them, or its"
            " inputs would pass unread: say in lab/schemas/aws_counterparts.py which request makes it"
        )
    walk = _Walk(COUNTERPARTS[kind])
    walk.fields(inputs, "", "", walk.around)
    walk.finish()
    return walk.found


@cache
def model(service: str) -> ServiceModel:
    """The service's model, cut down to the operations that types of the lab need."""
    whole = Loader().load_service_model(service, "service-2")
    wanted = {
        place.partition(":")[0]
        for each in COUNTERPARTS.values()
        if each.service == service
        for place in (*each.requests, *(place for place in each.places.values() if ":" in place))
    }
    operations = {name: whole["operations"][name] for name in wanted}
    shapes: dict[str, Any] = {}
    waiting = [operation["input"]["shape"] for operation in operations.values()]
    while waiting:
        name = waiting.pop()
        if name not in shapes:
            shapes[name] = whole["shapes"][name]
            waiting += _named(shapes[name])
    bare = {name: {"name": name, "http": each["http"], "input": each["input"]} for name, each in operations.items()}
    return ServiceModel({"metadata": whole["metadata"], "operations": bare, "shapes": shapes}, service)


def _named(shape: Mapping[str, Any]) -> Iterator[str]:
    """The shapes a shape is made of."""
    inner = [*shape.get("members", {}).values(), *(shape[key] for key in ("member", "key", "value") if key in shape)]
    yield from (each["shape"] for each in inner)


class _Walk:
    """Goes through a resource's inputs and, beside them, through the requests they become."""

    def __init__(self, counterpart: Counterpart) -> None:
        self._table = counterpart
        self._model = model(counterpart.service)
        self._operations: dict[str, Node] = {}
        self.found = Examination()
        self.around = [self._place(each if ":" in each else f"{each}:", []) for each in counterpart.requests]

    def fields(self, given: Mapping[str, Any], key: str, path: str, around: list[Node]) -> None:
        """The properties of one object; `key` names it for the table, `path` for a reader."""
        for name, value in given.items():
            if value is None or value in ([], {}) or (not key and name == "__defaults"):
                continue
            self._property(value, f"{key}.{name}".lstrip("."), f"{path}.{name}".lstrip("."), name, around)

    def _property(self, value: Any, key: str, path: str, name: str, around: list[Node]) -> None:
        reason = self._table.without.get(key) or EVERYWHERE.get(key)
        if reason:
            self.found.unmapped[key + _ending(value)] = reason
            return
        if key in self._table.places:
            self._value(value, key, path, self._place(self._table.places[key], around), around)
        elif any(each.startswith((f"{key}.", f"{key}[]")) for each in self._table.places):
            self._scattered(value, key, path, around)
        elif node := next((found for each in around if (found := each.like(name))), None):
            self._value(value, key, path, node, around)
        else:
            what = f"{path} has no place in a request to {self._table.service}"
            self.found.strangers.append(
                Failure(path, f"{what}; each property has one, or a reason why not: correct the name or add it")
            )

    def _scattered(self, value: Any, key: str, path: str, around: list[Node]) -> None:
        """An object or list of which no structure is left; what is in it goes to places of its own."""
        if isinstance(value, Mapping):
            self.fields(value, key, path, around)
            return
        inner = f"{key}[]"
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if inner in self._table.places:
                node = self._place(self._table.places[inner], around, index)
                self._value(item, inner, f"{path}[{index}]", node, around)
            elif isinstance(item, Mapping):
                self.fields(item, inner, f"{path}[{index}]", around)

    def _value(self, value: Any, key: str, path: str, node: Node, around: list[Node]) -> None:
        shape = node.shape
        if _unknown(value):
            node.unknown = True
            self._told(key + _whole(shape), node)
        elif isinstance(value, Mapping) and shape.type_name == "structure":
            self.fields(value, key, path, [node])
        elif isinstance(value, Mapping) and shape.type_name == "map":
            self._entries(value, key, path, Node(shape.key, node.text), Node(shape.value, node.text))
        elif isinstance(value, Mapping) and (pair := _pair(shape)):
            self._entries(value, key, path, *(Node(shape.member.members[name], node.text) for name in pair))
        elif isinstance(value, list) and shape.type_name == "list":
            self.found.failures += [Failure(path, f"{path} {each}") for each in too_many(value, node)]
            for index, item in enumerate(value):
                self._value(item, f"{key}[]", f"{path}[{index}]", node.item(index), around)
        elif shape.type_name == "structure" and list(shape.members) == ["Value"]:
            self._value(value, key, path, node.member("Value"), around)
        else:
            self._told(key, node)
            if value not in self._table.beyond.get(key, ()):
                self.found.failures += [Failure(path, f"{path} {each}") for each in broken(value, node)]

    def _entries(self, value: Mapping[str, Any], key: str, path: str, name: Node, item: Node) -> None:
        self._told(f"{key}.*", item)
        for entry, content in value.items():
            self.found.failures += [Failure(path, f"a key of {path} {each}") for each in broken(entry, name)]
            if content is not None and not _unknown(content):
                self.found.failures += [Failure(path, f"{path}.{entry} {each}") for each in broken(content, item)]

    def _told(self, key: str, node: Node) -> None:
        self.found.places[key] = f"{self._table.service} {node.text}: {strength(node.shape)}"

    def _place(self, place: str, around: list[Node], index: int = 0) -> Node:
        """The node of a place, which the table promises to be there; KeyError where it is not."""
        operation, colon, rest = place.rpartition(":")
        if not colon:
            return next(found for each in around if (found := each.below(rest, index)))
        if operation not in self._operations:
            shape = self._model.operation_model(operation).input_shape
            self._operations[operation] = Node(shape, operation)
        node = self._operations[operation].below(rest, index)
        if node is None:
            raise KeyError(f"{self._table.service} has no {place}")
        return node

    def finish(self) -> None:
        """What is required and was not given, of every structure that something was given of."""
        first = self._table.requests[0].partition(":")[0]
        for operation, node in self._operations.items():
            # Of a further operation the provider names the resource itself: its id is known by then.
            for inner in node.every() if operation == first else node.inner():
                for name in inner.missing(self._table.supplied):
                    own = self._property_of(f"{inner.text}.{name}")
                    reason = f"{own} is missing; {self._table.service} {inner.text} requires {name}: give it a value"
                    self.found.failures.append(Failure(own, reason))

    def _property_of(self, member: str) -> str:
        """The property that becomes a member: by the table, or by its name."""
        for name, place in self._table.places.items():
            around = ("",) if ":" in place else tuple(f"{each}." for each in self._table.requests)
            if member in {f"{each}{place}".replace(":", ".") for each in around}:
                return name
        last = member.rpartition(".")[2]
        return last[:1].lower() + last[1:]


def _unknown(value: Any) -> bool:
    return value is UNKNOWN or value == UNKNOWN_TEXT


def _pair(shape: Any) -> tuple[str, str] | None:
    if shape.type_name != "list" or shape.member.type_name != "structure":
        return None
    names = list(shape.member.members)
    found = next((each for each in _PAIRS if set(names) >= each), None)
    return None if found is None else (min(found), max(found))


def _whole(shape: Any) -> str:
    """How a property is named of which a preview knows nothing."""
    if shape.type_name == "map" or _pair(shape):
        return ".*"
    return "[]" if shape.type_name == "list" else ""


def _ending(value: Any) -> str:
    return ".*" if isinstance(value, Mapping) else "[]" if isinstance(value, list) else ""
