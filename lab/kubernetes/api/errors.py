"""What the API server answers when it refuses.

ApiError
├── BadRequest 400
├── Forbidden 403
├── NotFound 404
├── MethodNotAllowed 405
├── NotAcceptable 406
├── AlreadyExists, Conflict 409
├── Gone 410
├── TooLarge 413
├── UnsupportedMediaType 415
├── Invalid 422
├── TooManyRequests 429
└── ServiceUnavailable 503
"""

# ruff: noqa: N818  # these are Kubernetes' own names for its reasons
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lab.kubernetes.api.kinds import Kind


@dataclass(frozen=True)
class Cause:
    """One reason, tied to one field of the object."""

    field: str
    reason: str
    message: str

    def to_json(self) -> dict[str, str]:
        """The shape of a Status' details.causes entry."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


class ApiError(Exception):
    """A refused request; `status()` is the Status object a client receives."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(
        self,
        message: str,
        *,
        kind: Kind | None = None,
        name: str | None = None,
        causes: Sequence[Cause] = (),
        lacking: bool = False,
    ) -> None:
        super().__init__(message)
        self.lacking = lacking
        """Refused because the lab lacks a feature of real clusters; such requests are listed at /tandem/unsupported."""
        self.message = message
        self.kind = kind
        self.name = name
        self.causes = tuple(causes)

    def status(self) -> dict[str, Any]:
        """The body of the answer."""
        details: dict[str, Any] = {}
        if self.name:
            details["name"] = self.name
        if self.kind:
            # real servers put the resource here for most errors, and the kind for Invalid
            details |= {"group": self.kind.group, "kind": self.kind.kind if self.code == 422 else self.kind.plural}
        if self.causes:
            details["causes"] = [cause.to_json() for cause in self.causes]
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code,
        }


class BadRequest(ApiError):
    """The request cannot be understood."""

    code = 400
    reason = "BadRequest"


class Forbidden(ApiError):
    """Admission refuses: a quota, a terminating namespace, an absent priority class."""

    code = 403
    reason = "Forbidden"


class NotFound(ApiError):
    """The object or the resource is not there."""

    code = 404
    reason = "NotFound"

    @classmethod
    def of(cls, kind: Kind, name: str) -> NotFound:
        """The usual message for one absent object."""
        return cls(f'{kind.key} "{name}" not found', kind=kind, name=name)


class MethodNotAllowed(ApiError):
    """The resource has no such verb here."""

    code = 405
    reason = "MethodNotAllowed"


class NotAcceptable(ApiError):
    """The client takes no JSON."""

    code = 406
    reason = "NotAcceptable"


class AlreadyExists(ApiError):
    """The name is taken."""

    code = 409
    reason = "AlreadyExists"


class Conflict(ApiError):
    """The object has changed since it was read, or another field manager owns the field."""

    code = 409
    reason = "Conflict"


class Gone(ApiError):
    """The watch asks for history that is no longer kept."""

    code = 410
    reason = "Expired"


class TooLarge(ApiError):
    """The body is larger than an object may be."""

    code = 413
    reason = "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    """The patch type is not one this kind takes."""

    code = 415
    reason = "UnsupportedMediaType"


class Invalid(ApiError):
    """The object breaks rules; every broken rule is one cause with its field path."""

    code = 422
    reason = "Invalid"

    @classmethod
    def of(cls, kind: Kind, name: str, causes: Sequence[Cause]) -> Invalid:
        """The usual message, naming every field."""
        parts = [f"{cause.field}: {cause.message}" for cause in causes]
        text = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
        qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
        return cls(f'{qualified} "{name}" is invalid: {text}', kind=kind, name=name, causes=causes)


class TooManyRequests(ApiError):
    """Not now: evicting the pod would break its disruption budget."""

    code = 429
    reason = "TooManyRequests"


class ServiceUnavailable(ApiError):
    """What stands behind the API, a pod, cannot be reached."""

    code = 503
    reason = "ServiceUnavailable"
