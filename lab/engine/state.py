"""What a stack consists of: the resources of a DeploymentV3 file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lab.engine.errors import StateError
from lab.engine.urn import PROVIDER_PREFIX, STACK_TYPE
from lab.engine.values import from_state, to_state

VERSION: Final = 3
_KEYS: Final = {
    "id": "id",
    "delete": "delete",
    "inputs": "inputs",
    "outputs": "outputs",
    "parent": "parent",
    "protect": "protect",
    "external": "external",
    "dependencies": "dependencies",
    "init_errors": "initErrors",
    "provider": "provider",
    "property_dependencies": "propertyDependencies",
    "pending_replacement": "pendingReplacement",
    "additional_secret_outputs": "additionalSecretOutputs",
    "aliases": "aliases",
    "custom_timeouts": "customTimeouts",
    "retain_on_delete": "retainOnDelete",
    "deleted_with": "deletedWith",
    "created": "created",
    "modified": "modified",
    "ignore_changes": "ignoreChanges",
    "replace_on_changes": "replaceOnChanges",
}
"""Optional fields and their names in the file; absent when empty."""


@dataclass
class Resource:
    """One resource, declared or recorded; secrets and unknowns carry their marks."""

    urn: str
    type: str
    custom: bool
    id: str = ""
    delete: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    protect: bool = False
    external: bool = False
    dependencies: list[str] = field(default_factory=list)
    init_errors: list[str] = field(default_factory=list)
    provider: str = ""
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    pending_replacement: bool = False
    additional_secret_outputs: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    retain_on_delete: bool = False
    deleted_with: str = ""
    created: str = ""
    modified: str = ""
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)

    @property
    def is_provider(self) -> bool:
        """Whether this is a provider instance, which the engine itself keeps."""
        return self.type.startswith(PROVIDER_PREFIX)

    @property
    def reference(self) -> str:
        """How a resource names this provider instance."""
        return f"{self.urn}::{self.id}"

    @property
    def needs(self) -> set[str]:
        """URNs that have to exist as long as this resource does."""
        urns = {self.parent, self.deleted_with, self.provider.rpartition("::")[0], *self.dependencies}
        for edges in self.property_dependencies.values():
            urns.update(edges)
        return urns - {""}

    def rename(self, old: str, new: str) -> None:
        """Follow another resource to its new URN."""

        def follow(urn: str) -> str:
            return new if urn == old else urn

        self.parent, self.deleted_with = follow(self.parent), follow(self.deleted_with)
        provider, _, identity = self.provider.rpartition("::")
        self.provider = f"{follow(provider)}::{identity}" if provider else ""
        self.dependencies = [follow(urn) for urn in self.dependencies]
        self.property_dependencies = {
            key: [follow(urn) for urn in urns] for key, urns in self.property_dependencies.items()
        }

    def to_json(self) -> dict[str, Any]:
        """The resource in ResourceV3 shape."""
        record: dict[str, Any] = {"urn": self.urn, "custom": self.custom, "type": self.type}
        for name, key in _KEYS.items():
            value = getattr(self, name)
            if value:
                record[key] = to_state(value) if name in {"inputs", "outputs"} else value
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Resource:
        """The inverse of to_json."""
        values = {name: record[key] for name, key in _KEYS.items() if key in record}
        for name in ("inputs", "outputs"):
            values[name] = from_state(values.get(name, {}))
        return cls(urn=record["urn"], type=record["type"], custom=record["custom"], **values)


assert set(_KEYS) == {each.name for each in fields(Resource)} - {"urn", "type", "custom"}  # noqa: S101 - a slip here loses state


@dataclass
class Operation:
    """Something begun on a resource whose end is not recorded: creating, updating or deleting."""

    type: str
    resource: Resource


@dataclass
class State:
    """The whole file."""

    resources: list[Resource] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    @property
    def root(self) -> Resource | None:
        """The stack's own resource; None while it is down."""
        return next((each for each in self.resources if each.type == STACK_TYPE), None)

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        deployment: dict[str, Any] = {
            "manifest": {"time": now(), "magic": "", "version": ""},
            "resources": [each.to_json() for each in self.resources],
        }
        if self.operations:
            deployment["pending_operations"] = [
                {"resource": each.resource.to_json(), "type": each.type} for each in self.operations
            ]
        return {"version": VERSION, "deployment": deployment}

    def save(self, path: Path) -> None:
        """Replace the file in one step: a reader sees the old one or the new one."""
        temporary = path.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(self.to_json(), indent=1), encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> State:
        """The recorded state; empty when nothing is recorded."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != VERSION:
                raise StateError(
                    f"{path} has version {content['version']}; this engine reads version {VERSION}: export it anew"
                )
            deployment = content["deployment"]
            return cls(
                [Resource.from_json(each) for each in deployment.get("resources") or []],
                [
                    Operation(each["type"], Resource.from_json(each["resource"]))
                    for each in deployment.get("pending_operations") or []
                ],
            )
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"{path} is no state of this engine ({error!r}); restore it, or remove it with the lab it describes"
            ) from error


def now() -> str:
    """The present moment as the file writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
