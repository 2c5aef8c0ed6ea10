"""What a provider says when it cannot do what it was asked.

ProviderError
├── NotInLabError        a type, function or method the lab does not implement
├── ConfigurationError   provider settings the lab refuses
└── InitializationError  the resource exists and did not become what it should; carries its id and state
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class ProviderError(Exception):
    """An operation that failed; the message names the resource and the cause."""


class NotInLabError(ProviderError):
    """Something real providers have and the lab does not."""


class ConfigurationError(ProviderError):
    """Provider settings that are refused."""


class InitializationError(ProviderError):
    """A resource that exists but did not become ready."""

    def __init__(self, identity: str, state: dict[str, Any], reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.identity = identity
        self.state = state
        self.reasons = tuple(reasons)


@dataclass(frozen=True)
class Failure:
    """One property that breaks a rule: value, rule and remedy in `reason`."""

    property: str
    reason: str
