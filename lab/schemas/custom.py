"""Custom resources by facts noted of them in custom.toml: which fields, of which type, within which bounds.

The facts become a structural schema, and a value is judged by it in the words of an API server.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

OPEN: Final = "x-kubernetes-preserve-unknown-fields"
"""What a schema says of an object that may hold anything."""
UNKNOWN_FIELD: Final = "FieldValueUnknown"
FILE: Final = "lab/schemas/custom.toml"
_PLACED: Final = ("apiVersion", "kind", "metadata", "status")
"""Fields of every object, which say nothing of its kind; a status is written by controllers and by no program."""
_TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "int32": {"type": "integer", "format": "int32"},
    "boolean": {"type": "boolean"},
    "text or integer": {"x-kubernetes-int-or-string": True},
}
_BOUNDS: Final = {
    "integer": {"least": "minimum", "most": "maximum"},
    "string": {"least": "minLength", "most": "maxLength"},
    "array": {"least": "minItems", "most": "maxItems"},
}
_FACTS: Final = frozenset({"is", "one_of", "least", "most", "pattern", "key", "whole"})
_SHOWN: Final = 80
"""Characters of a refused value in a message."""


class FactsError(Exception):
    """A line of the table that says nothing judgeable; the message names it."""


@dataclass(frozen=True)
class Definition:
    """What is noted of one version of one kind."""

    api_version: str
    kind: str
    project: str
    """The project and its version."""
    source: str
    """Where it publishes the definition."""
    schema: Mapping[str, Any]
    """The facts as a structural schema."""

    @property
    def remedy(self) -> str:
        """What to do about a field that is not noted."""
        return f"it is misspelled, or not noted yet: look it up at {self.source} and add it to {FILE}"


@dataclass(frozen=True)
class Fault:
    """One place of a value that is not as its schema says."""

    path: str
    reason: str
    """As in a Status' causes."""
    message: str


def definition(api_version: str, kind: str) -> Definition | None:
    """What is noted of a kind; None where nothing is."""
    return definitions().get((api_version, kind))


@cache
def definitions() -> Mapping[tuple[str, str], Definition]:
    """All that is noted, by API version and kind."""
    return read(resources.files(__package__).joinpath("custom.toml").read_text(encoding="utf-8"))


def read(text: str) -> dict[tuple[str, str], Definition]:
    """The table's kinds. Raises FactsError for a line that cannot be judged by."""
    table = tomllib.loads(text)
    found = {}
    for title, each in table["kinds"].items():
        api_version, _, kind = title.partition(" ")
        schema = _schema(title, each, table.get("forms", {}))
        found[api_version, kind] = Definition(api_version, kind, each["project"], each["source"], schema)
    return found


def _schema(title: str, noted: Mapping[str, Any], forms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The lines put together; what every object has is open."""
    root: dict[str, Any] = {"type": "object", "properties": {name: {OPEN: True} for name in _PLACED}}
    nodes = {path: _node(root, path) for path in noted["fields"]}
    for path, line in noted["fields"].items():
        facts = {"is": line} if isinstance(line, str) else {"one_of": line} if isinstance(line, list) else line
        try:
            nodes[path].update(_keywords(facts, nodes[path], forms))
        except KeyError as error:
            rule = f"the head of {FILE} says which words there are, and [forms] which forms"
            raise FactsError(f"{title}: {path} = {json.dumps(line)} has {error}; {rule}: correct it") from error
    for path in noted.get("required", ()):
        above, _, name = path.rpartition(".")
        around = _node(root, above)
        if name not in around["properties"]:
            raise FactsError(f"{title}: {path} is required and no line says what it is: add one")
        around.setdefault("required", []).append(name)
    return root


def _node(root: dict[str, Any], path: str) -> dict[str, Any]:
    """The place of a path, made with everything on the way."""
    node = root
    for step in re.findall(r"\[\]|[^.\[]+", path):
        if step == "[]":
            node["type"], node = "array", node.setdefault("items", {})
        elif step == "*":
            node["type"], node = "object", node.setdefault("additionalProperties", {})
        else:
            node["type"], node = "object", node.setdefault("properties", {}).setdefault(step, {})
    return node


def _keywords(facts: Mapping[str, Any], node: Mapping[str, Any], forms: Mapping[str, Any]) -> dict[str, Any]:
    """Facts in the words of a schema; KeyError for one there is no word for."""
    for unknown in set(facts) - _FACTS:
        raise KeyError(unknown)
    words: dict[str, Any] = {}
    if "is" in facts and facts["is"] not in _TYPES:
        words = _keywords({"is": "text", **forms[facts["is"]]}, node, forms)
    elif "is" in facts:
        words = dict(_TYPES[facts["is"]])
    elif "one_of" in facts:
        words = {"type": "string", "enum": list(facts["one_of"])}
    kind = words.get("type") or node.get("type", "")
    words |= {_BOUNDS[kind][name]: facts[name] for name in ("least", "most") if name in facts}
    if "pattern" in facts:
        words["pattern"] = facts["pattern"]
    if "key" in facts:
        words |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [facts["key"]]}
    if facts.get("whole"):
        words["x-kubernetes-map-type"] = "atomic"
    return words


def faults(schema: Mapping[str, Any], value: Any, path: str = "", unknown: str | None = None) -> Iterator[Fault]:
    """Everything that is wrong with a value; one equal to `unknown` passes wherever it stands."""
    if unknown is not None and value == unknown:
        return
    wrong = _type(schema, value)
    if wrong:
        told = f"{_invalid(value)}: {path} in body must be of type {wrong}: {json.dumps(_named(value))}"
        yield Fault(path, "FieldValueTypeInvalid", told)
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(json.dumps(each) for each in schema["enum"])
        told = f"Unsupported value: {_shown(value)}: supported values: {supported}"
        yield Fault(path, "FieldValueNotSupported", told)
    if isinstance(value, dict):
        yield from _object(schema, value, path, unknown)
    elif isinstance(value, list):
        yield from _list(schema, value, path, unknown)
    elif isinstance(value, str):
        yield from _text(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number(schema, value, path)


def _type(schema: Mapping[str, Any], value: Any) -> str:
    """The type a value should have had; empty where it has it."""
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int | str) and not isinstance(value, bool)
        return "" if fits else "integer or string"
    wanted = schema.get("type")
    whole = wanted == "integer" and isinstance(value, float) and value.is_integer()
    return "" if wanted is None or whole or _named(value) == wanted else str(wanted)


def _named(value: Any) -> str:
    for kinds, name in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (Mapping, "object"),
        (list | tuple, "array"),
    ):
        if isinstance(value, kinds):
            return name
    return "null"


def _object(schema: Mapping[str, Any], value: Mapping[str, Any], path: str, unknown: str | None) -> Iterator[Fault]:
    fields, others = schema.get("properties") or {}, schema.get("additionalProperties")
    for name in schema.get("required") or ():
        if name not in value:
            yield Fault(_below(path, name), "FieldValueRequired", "Required value")
    for name, item in value.items():
        here = _below(path, name)
        if name in fields:
            yield from faults(fields[name], item, here, unknown)
        elif isinstance(others, Mapping):
            yield from faults(others, item, here, unknown)
        elif not schema.get(OPEN):
            yield Fault(here, UNKNOWN_FIELD, f'unknown field "{here}"')


def _list(schema: Mapping[str, Any], value: list[Any], path: str, unknown: str | None) -> Iterator[Fault]:
    for index, item in enumerate(value):
        yield from faults(schema.get("items") or {}, item, f"{path}[{index}]", unknown)
    if len(value) < schema.get("minItems", 0):
        yield _bound(path, value, f"should have at least {schema['minItems']} items")
    if len(value) > schema.get("maxItems", len(value)):
        told = f"Too many: {len(value)}: must have at most {schema['maxItems']} items"
        yield Fault(path, "FieldValueTooMany", told)
    keys, seen = schema.get("x-kubernetes-list-map-keys") or (), []
    for index, item in enumerate(value if keys else ()):
        identity = {key: item.get(key) for key in keys} if isinstance(item, dict) else item
        if identity in seen and unknown not in (identity, *(identity.values() if isinstance(identity, dict) else ())):
            yield Fault(f"{path}[{index}]", "FieldValueDuplicate", f"Duplicate value: {_shown(identity)}")
        seen.append(identity)


def _text(schema: Mapping[str, Any], value: str, path: str) -> Iterator[Fault]:
    if len(value) < schema.get("minLength", 0):
        yield _bound(path, value, f"should be at least {schema['minLength']} chars long")
    if len(value) > schema.get("maxLength", len(value)):
        yield Fault(path, "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield _bound(path, value, f"should match '{schema['pattern']}'")


def _number(schema: Mapping[str, Any], value: float, path: str) -> Iterator[Fault]:
    if "minimum" in schema and value < schema["minimum"]:
        yield _bound(path, value, f"should be greater than or equal to {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        yield _bound(path, value, f"should be less than or equal to {schema['maximum']}")
    if schema.get("format") == "int32" and not -(2**31) <= value < 2**31:
        yield _bound(path, value, "must be of type integer with format int32")


def _bound(path: str, value: Any, rule: str) -> Fault:
    return Fault(path, "FieldValueInvalid", f"{_invalid(value)}: {path} in body {rule}")


def _invalid(value: Any) -> str:
    return f"Invalid value: {_shown(value)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
