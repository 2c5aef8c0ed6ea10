"""What a program declares, as rules and previews read it: plain data, no Pulumi, no provider, no state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""Stands where a value is known after `up` only (Pulumi's own sentinel for a string it cannot know)."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One resource as a program asked for it."""

    stack: str
    """Name of its stack, like pool-public.prod."""
    type: str
    """Type token, like aws:s3/bucket:Bucket or kubernetes:apps/v1:Deployment; of a component, tandem:...."""
    name: str
    urn: str
    parent: str = ""
    """URN of what it is a child of; empty at the top."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """As they go to the provider (camelCase), secrets in the clear; UNKNOWN where a value is not known yet."""
    secrets: frozenset[str] = frozenset()
    """Paths of the inputs that are secret, dots between keys and [n] for items, like data.password."""
    protect: bool = False
    depends_on: frozenset[str] = frozenset()
    """URNs of what has to stand before it."""
    ignores: frozenset[str] = frozenset()
    """Inputs whose changes are left to somebody else."""
    provider: str = ""
    """URN of the provider instance it goes to; empty for a component."""

    @property
    def custom(self) -> bool:
        """Whether a provider makes it; a component only groups others."""
        return not self.type.startswith("tandem:")


@dataclass(frozen=True)
class StackDeclared:
    """Everything one program declares."""

    stack: str
    resources: tuple[Declared, ...]
    outputs: Mapping[str, Any]
    """What it exports; UNKNOWN where not known yet."""
    secret_outputs: frozenset[str] = frozenset()
