"""Which properties each AWS type has and of which type: `schema.json`, written by schema_source."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from lab.providers.errors import Failure
from lab.providers.values import UNKNOWN


@dataclass(frozen=True)
class Schema:
    """Inputs and outputs of one type."""

    properties: Mapping[str, Any]
    required: frozenset[str]
    always: frozenset[str]
    """Outputs every resource of the type has."""
    sometimes: frozenset[str]

    def check(self, inputs: Mapping[str, Any]) -> Iterator[Failure]:
        """Unknown properties, missing ones and values of the wrong type."""
        yield from _check_object({"properties": self.properties, "required": self.required}, inputs, "")

    def coerce(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs with numbers as text where text is declared, and the reverse, as the real provider reads them."""
        return {key: _coerce(self.properties.get(key, "any"), value) for key, value in inputs.items()}


@cache
def load() -> dict[str, Any]:
    """The file, parsed."""
    text = resources.files(__package__).joinpath("schema.json").read_text(encoding="utf-8")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


@cache
def schema_of(token: str) -> Schema:
    """The schema of one type; KeyError for a type the file does not have."""
    found = load()["resources"][token]
    return Schema(
        found["properties"], frozenset(found["required"]), frozenset(found["always"]), frozenset(found["sometimes"])
    )


@cache
def provider_properties() -> Mapping[str, Any]:
    """The settings of the provider itself."""
    found: Mapping[str, Any] = load()["provider"]["properties"]
    return found


def suggestion(name: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else "remove it"


def _check_object(declared: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[Failure]:
    properties = declared["properties"]
    for name in sorted(set(value) - set(properties) - {"__defaults"}):
        yield Failure(path + name, f"{path + name} is no property of this type; {suggestion(name, properties)}")
    for name in sorted(declared["required"]):
        if value.get(name) is None:
            yield Failure(path + name, f"{path + name} is missing; it is required: give it a value")
    for name, item in value.items():
        if name in properties and item is not None:
            yield from _check_value(properties[name], item, path + name)


def _check_value(declared: Any, value: Any, path: str) -> Iterator[Failure]:
    if value is UNKNOWN or declared == "any":
        return
    if isinstance(declared, str):
        if not _fits(declared, value):
            yield Failure(path, f"{path} is {value!r}; it has to be a {declared}: correct the value")
    elif "list" in declared:
        if not isinstance(value, list):
            yield Failure(path, f"{path} is {value!r}; it has to be a list: put it into brackets")
            return
        for index, item in enumerate(value):
            yield from _check_value(declared["list"], item, f"{path}[{index}]")
    elif not isinstance(value, dict):
        yield Failure(path, f"{path} is {value!r}; it has to be an object: give its properties")
    elif "map" in declared:
        for key, item in value.items():
            yield from _check_value(declared["map"], item, f"{path}.{key}")
    else:
        yield from _check_object(declared, value, f"{path}.")


def _fits(scalar: str, value: Any) -> bool:
    if scalar == "string":
        return isinstance(value, str | int | float)
    if scalar == "boolean":
        return isinstance(value, bool) or value in ("true", "false")
    return _number(scalar, value) is not None


def _number(scalar: str, value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    if scalar == "number":
        return number
    return int(number) if number.is_integer() else None


def _coerce(declared: Any, value: Any) -> Any:
    if value is None or value is UNKNOWN or declared == "any":
        return value
    if isinstance(declared, str):
        return _coerce_scalar(declared, value)
    if "list" in declared:
        return [_coerce(declared["list"], item) for item in value] if isinstance(value, list) else value
    if not isinstance(value, dict):
        return value
    inner = declared.get("properties", {})
    return {key: _coerce(declared.get("map") or inner.get(key, "any"), item) for key, item in value.items()}


def _coerce_scalar(scalar: str, value: Any) -> Any:
    if scalar == "string" and isinstance(value, bool):
        return "true" if value else "false"
    if scalar == "string" and isinstance(value, int | float):
        return str(value)
    if scalar == "boolean" and isinstance(value, str):
        return {"true": True, "false": False}.get(value, value)
    if scalar in {"integer", "number"}:
        number = _number(scalar, value)
        return value if number is None else number
    return value
