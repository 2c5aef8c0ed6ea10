"""S3: between a program's property names and those of the API."""

from __future__ import annotations

from typing import Any, Final

_API: Final = {"id": "ID", "replicaKmsKeyId": "ReplicaKmsKeyID"}
_PROGRAM: Final = {name: key for key, name in _API.items()}


def to_api(value: Any) -> Any:
    """A program's value as the API takes it; what is not given is left out."""
    if isinstance(value, dict):
        given = {key: to_api(entry) for key, entry in value.items() if entry is not None}
        return {_API.get(key, key[:1].upper() + key[1:]): entry for key, entry in given.items()}
    if isinstance(value, list):
        return [to_api(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def from_api(value: Any) -> Any:
    """The API's value as a program knows it."""
    if isinstance(value, dict):
        return {_PROGRAM.get(key, key[:1].lower() + key[1:]): from_api(entry) for key, entry in value.items()}
    return [from_api(entry) for entry in value] if isinstance(value, list) else value
