"""Objects of the API as plain dicts: copying, time stamps, the metadata every reader needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]
"""One API object, or a part of one, as JSON has it."""


def clone(value: Any) -> Any:
    """A deep copy of JSON data; several times faster than copy.deepcopy."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clone(item) for item in value]
    return value


def timestamp(moment: datetime | None = None) -> str:
    """A moment as the API writes it: UTC, whole seconds."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: str) -> datetime:
    """The moment a time stamp of the API tells."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def name_of(obj: Object) -> str:
    """metadata.name, or an empty string."""
    return str(obj.get("metadata", {}).get("name") or "")


def namespace_of(obj: Object) -> str:
    """metadata.namespace; empty for cluster-scoped objects."""
    return str(obj.get("metadata", {}).get("namespace") or "")


def uid_of(obj: Object) -> str:
    """metadata.uid."""
    return str(obj["metadata"].get("uid", ""))


def labels_of(obj: Object) -> dict[str, str]:
    """metadata.labels; never None."""
    return obj.get("metadata", {}).get("labels") or {}


def terminating(obj: Object) -> bool:
    """Whether deletion has begun."""
    return bool(obj.get("metadata", {}).get("deletionTimestamp"))
