"""What the embedded engine can fail with.

EngineError
├── ProjectError     Pulumi.yaml or the stack's settings
├── StateError       the state file, its lock, a stack that is not there
├── ProgramError     the program failed, hung, or asked for what this engine does not do
└── ResourceError    one resource; names its URN
    └── ProviderError    what the provider answered about it
"""

from __future__ import annotations


class EngineError(Exception):
    """Ends the run; its text is all a user sees."""


class ProjectError(EngineError):
    """Pulumi.yaml or a settings file breaks a rule."""


class StateError(EngineError):
    """The recorded state cannot be used, or somebody else uses it."""


class ProgramError(EngineError):
    """The program failed, hung, or asked for what this engine does not do."""


class ResourceError(EngineError):
    """One resource cannot be what the program declares."""

    def __init__(self, urn: str, reason: str) -> None:
        super().__init__(f"{urn}: {reason}")
        self.urn = urn
        self.reason = reason


class ProviderError(ResourceError):
    """A provider refused or failed a call; `code` is the name of its gRPC status, empty where there was none."""

    def __init__(self, urn: str, reason: str, code: str = "") -> None:
        super().__init__(urn, reason)
        self.code = code

    @property
    def uncertain(self) -> bool:
        """Whether the call may have had its effect all the same."""
        return self.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED"}

    @property
    def missing(self) -> bool:
        """Whether the provider says that the resource is not there."""
        return self.code == "NOT_FOUND"

    @property
    def unimplemented(self) -> bool:
        """Whether the provider leaves the method out."""
        return self.code == "UNIMPLEMENTED"
