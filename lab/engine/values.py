"""Property values as plain JSON data; secrets and unknowns keep the marks they have on the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from google.protobuf import struct_pb2

Path: TypeAlias = tuple[str | int, ...]

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How Pulumi writes a value that is not known yet."""
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a mark of the protocol
MASK: Final = "[secret]"


def read(struct: struct_pb2.Struct) -> dict[str, Any]:
    """A message's properties as plain data; whole numbers become int."""
    return {key: _read(value) for key, value in struct.fields.items()}


def _read(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return read(value.struct_value)
    if kind == "list_value":
        return [_read(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if math.isfinite(number) and number.is_integer() else number
    return None if kind in {None, "null_value"} else getattr(value, str(kind))


def write(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """Plain data as the message it came from."""
    return struct_pb2.Struct(fields={key: _write(value) for key, value in properties.items()})


def _write(value: Any) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, Mapping):
        return struct_pb2.Value(struct_value=write(value))
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[_write(item) for item in value]))


def is_secret(value: Any) -> bool:
    """Whether the value itself carries the mark of a secret."""
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def secret(value: Any) -> Any:
    """The value marked as secret, once."""
    return value if is_secret(value) else {SIGNATURE: SECRET, "value": value}


def reveal(value: Any) -> Any:
    """The value without any mark of a secret, at any depth."""
    if is_secret(value):
        return reveal(value.get("value"))
    if isinstance(value, dict):
        return {key: reveal(item) for key, item in value.items()}
    return [reveal(item) for item in value] if isinstance(value, list) else value


def mask(value: Any) -> Any:
    """The value as it may be shown: each secret replaced by [secret]."""
    if is_secret(value):
        return MASK
    if isinstance(value, dict):
        return {key: mask(item) for key, item in value.items()}
    return [mask(item) for item in value] if isinstance(value, list) else value


def has_unknown(value: Any) -> bool:
    """Whether anything in the value is not known yet."""
    return next(iter(unknown_paths(value)), None) is not None


def has_secret(value: Any) -> bool:
    """Whether anything in the value is secret."""
    if isinstance(value, dict):
        return is_secret(value) or any(has_secret(item) for item in value.values())
    return isinstance(value, list) and any(has_secret(item) for item in value)


def unknown_paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """Where the unknowns stand; a secret's mark adds nothing to a path."""
    if value == UNKNOWN:
        yield here
    elif is_secret(value):
        yield from unknown_paths(value.get("value"), here)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from unknown_paths(item, (*here, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_paths(item, (*here, index))


def look_up(value: Any, path: Path) -> Any:
    """What stands at the path, looking through the marks of secrets; None when nothing does."""
    for step in path:
        value = reveal(value) if is_secret(value) else value
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return reveal(value) if is_secret(value) else value


def show_path(path: Path) -> str:
    """A path the way Pulumi writes it: spec.ports[0].name."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def keep_secret(outputs: Any, inputs: Any) -> Any:
    """The outputs, with everything marked that is secret at the same place in the inputs."""
    if is_secret(outputs):
        return outputs
    if is_secret(inputs):
        return secret(outputs)
    if isinstance(outputs, dict) and isinstance(inputs, dict):
        return {key: keep_secret(item, inputs.get(key)) for key, item in outputs.items()}
    if isinstance(outputs, list) and isinstance(inputs, list):
        padded = inputs + [None] * (len(outputs) - len(inputs))
        return [keep_secret(item, old) for item, old in zip(outputs, padded, strict=False)]
    return outputs


def to_state(value: Any) -> Any:
    """The value as a DeploymentV3 file holds it: secrets keep their mark, their value is JSON text."""
    if is_secret(value):
        return {SIGNATURE: SECRET, "plaintext": json.dumps(to_state(value.get("value")), separators=(",", ":"))}
    if isinstance(value, dict):
        return {key: to_state(item) for key, item in value.items()}
    return [to_state(item) for item in value] if isinstance(value, list) else value


def from_state(value: Any) -> Any:
    """The inverse of to_state."""
    if is_secret(value):
        return secret(from_state(json.loads(value["plaintext"])))
    if isinstance(value, dict):
        return {key: from_state(item) for key, item in value.items()}
    return [from_state(item) for item in value] if isinstance(value, list) else value
