"""Property values of the wire as plain Python: unknowns become UNKNOWN, secrets become paths beside the value.

A path is a tuple of keys and indexes. What was secret in the inputs is secret in every answer about the same resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from google.protobuf import struct_pb2

from lab.providers.errors import ProviderError

Path: TypeAlias = tuple[str | int, ...]

UNKNOWN_TEXT: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How Pulumi writes a value that is not known yet."""
SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - a marker of the protocol
REFERENCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"


class Unknown:
    """A value that a preview cannot know; there is one, UNKNOWN."""

    def __repr__(self) -> str:
        return "<unknown>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Unknown:
        return self

    def __copy__(self) -> Unknown:
        return self


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Properties:
    """The properties of one message and which of them are secret."""

    value: dict[str, Any]
    secrets: frozenset[Path]


def read(struct: struct_pb2.Struct) -> Properties:
    """Raise ProviderError for assets and archives, which no type of the lab takes."""
    secrets: set[Path] = set()
    value = {key: _read(item, (key,), secrets) for key, item in struct.fields.items()}
    return Properties(value, frozenset(secrets))


def unwrap(value: Any) -> Any:
    """A JSON value with the same marks as on the wire, as plain Python."""
    holder = struct_pb2.Struct()
    holder.update({"value": value})
    return read(holder).value["value"]


def write(value: dict[str, Any], secrets: Iterable[Path] = ()) -> struct_pb2.Struct:
    """The message for `value`; properties under a secret path that exists are marked secret."""
    marked = frozenset(secrets)
    struct = struct_pb2.Struct()
    for key, item in value.items():
        struct.fields[key].CopyFrom(_write(item, (key,), marked))
    return struct


def dotted(path: Path) -> str:
    """A path as failures and differences name it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def leaves(value: Any) -> Iterator[Any]:
    """Every single value within a value, itself if it holds no others."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif value is not None and value is not UNKNOWN:
        yield value


def at(value: Any, path: Path) -> Any:
    """What lies under a path; None when nothing does."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def is_known(value: Any) -> bool:
    """Whether no part of a value is unknown."""
    if isinstance(value, dict):
        return all(is_known(item) for item in value.values())
    if isinstance(value, list):
        return all(is_known(item) for item in value)
    return value is not UNKNOWN


def project(given: Any, live: Any) -> Any:
    """The live value, without what the program never said."""
    if isinstance(given, dict) and isinstance(live, dict):
        return {name: project(given[name], live.get(name)) for name in given}
    if isinstance(given, list) and isinstance(live, list) and len(given) == len(live):
        return [project(one, other) for one, other in zip(given, live, strict=True)]
    return live


def _read(value: struct_pb2.Value, path: Path, secrets: set[Path]) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _read_struct(value.struct_value, path, secrets)
    if kind == "list_value":
        return [_read(item, (*path, index), secrets) for index, item in enumerate(value.list_value.values)]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "string_value":
        return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
    return value.bool_value if kind == "bool_value" else None


def _read_struct(struct: struct_pb2.Struct, path: Path, secrets: set[Path]) -> Any:
    fields = struct.fields
    signature = fields[SIGNATURE].string_value if SIGNATURE in fields else ""
    if not signature:
        return {key: _read(item, (*path, key), secrets) for key, item in fields.items()}
    if signature == SECRET:
        secrets.add(path)
        return _read(fields["value"], path, secrets)
    if signature == OUTPUT:
        if "secret" in fields and fields["secret"].bool_value:
            secrets.add(path)
        return _read(fields["value"], path, secrets) if "value" in fields else UNKNOWN
    if signature == REFERENCE:
        return (_read(fields["id"], path, secrets) or UNKNOWN) if "id" in fields else fields["urn"].string_value
    if signature in {ASSET, ARCHIVE}:
        where = ".".join(map(str, path))
        raise ProviderError(f"{where} is an asset or archive; no type of the lab takes one: pass the text itself")
    raise ProviderError(f"{'.'.join(map(str, path))} has the unknown mark {signature}; the lab cannot read it")


def _write(value: Any, path: Path, secrets: frozenset[Path]) -> struct_pb2.Value:
    plain = _write_plain(value, path, secrets)
    if path not in secrets:
        return plain
    marked = struct_pb2.Value()
    marked.struct_value.fields[SIGNATURE].string_value = SECRET
    marked.struct_value.fields["value"].CopyFrom(plain)
    return marked


def _write_plain(value: Any, path: Path, secrets: frozenset[Path]) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if value is UNKNOWN:
        return struct_pb2.Value(string_value=UNKNOWN_TEXT)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    message = struct_pb2.Value()
    if isinstance(value, dict):
        message.struct_value.SetInParent()
        for key, item in value.items():
            message.struct_value.fields[key].CopyFrom(_write(item, (*path, key), secrets))
        return message
    if isinstance(value, list | tuple):
        message.list_value.SetInParent()
        message.list_value.values.extend(_write(item, (*path, index), secrets) for index, item in enumerate(value))
        return message
    raise ProviderError(f"{'.'.join(map(str, path))} is a {type(value).__name__}, which no property can be")
