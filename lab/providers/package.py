"""What the server needs from a package: one instance per connection, configured once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.providers.difference import Difference
from lab.providers.errors import Failure
from lab.providers.values import Path


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The resource an operation is about."""

    urn: str
    type: str
    name: str

    @classmethod
    def of(cls, urn: str) -> Subject:
        """From a URN alone: `urn:pulumi:<stack>::<project>::<parent types>$<type>::<name>`."""
        _, _, rest = urn.partition("::")
        _, _, rest = rest.partition("::")
        types, _, name = rest.partition("::")
        return cls(urn=urn, type=types.rpartition("$")[2], name=name)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long an operation may take and whether anybody still waits for it."""

    timeout_seconds: float = 0
    """0 means the type's own default."""
    wanted: Callable[[], bool] = field(default=lambda: True)


@dataclass(frozen=True)
class Checked:
    """Inputs with defaults, or the rules they break."""

    inputs: dict[str, Any]
    failures: list[Failure]


@dataclass(frozen=True)
class Existing:
    """A resource as it is; `state` holds every output property."""

    identity: str
    state: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)


class Package(Protocol):
    """One provider instance."""

    def check_config(self, inputs: Mapping[str, Any]) -> list[Failure]:
        """The rules provider settings break."""

    def replaces_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        """Settings whose change makes every resource of this provider a new one."""

    def configure(self, inputs: Mapping[str, Any]) -> None:
        """Take the settings; ConfigurationError when they are refused."""

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a function of the package."""

    def check(self, subject: Subject, old: dict[str, Any], new: dict[str, Any], seed: bytes) -> Checked:
        """Validate inputs and fill in defaults and names."""

    def diff(
        self, subject: Subject, identity: str, state: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
    ) -> Difference:
        """What an update would change."""

    def create(self, subject: Subject, inputs: dict[str, Any], *, preview: bool, limits: Limits) -> Existing:
        """Make the resource; a second call after an interrupted one finds the first one's."""

    def read(self, subject: Subject, identity: str, state: dict[str, Any], inputs: dict[str, Any]) -> Existing | None:
        """The live resource, or None when it is gone."""

    def update(
        self,
        subject: Subject,
        identity: str,
        state: dict[str, Any],
        old: dict[str, Any],
        new: dict[str, Any],
        *,
        preview: bool,
        limits: Limits,
    ) -> dict[str, Any]:
        """Change the resource in place and return its new state."""

    def delete(self, subject: Subject, identity: str, state: dict[str, Any], *, limits: Limits) -> None:
        """Remove the resource; one that is gone already is removed."""

    def secret_outputs(self, subject: Subject) -> tuple[Path, ...]:
        """Outputs that are secret whatever the inputs say."""
