"""Bucket policies as far as the lab's stores act on them, in the place of moto's own reading.

Acted on: statements for everybody, actions and resources with wildcards, `aws:SecureTransport` (nothing here speaks
TLS) and the encryption headers of a PutObject. Of conditions on anything else, and of principals that are named, the
lab knows nothing: an Allow holds all the same, a Deny does not.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

REPLICA_HEADER: Final = "X-Tandem-Replica"
"""Of a write that is a copy made by another store of the lab: the version's id."""
_SAME: Final = {"s3:HeadObject": "s3:GetObject", "s3:PostObject": "s3:PutObject"}
"""What moto asks for -> what S3 calls it."""
_COPYING: Final = {"s3:PutObject": "s3:ReplicateObject", "s3:DeleteObject": "s3:ReplicateDelete"}


@dataclass(frozen=True)
class Facts:
    """What a policy may ask of a request."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in lower case."""

    @classmethod
    def of(cls, environ: WSGIEnvironment) -> Facts:
        """Of one request."""
        return cls({_name(key): str(value) for key, value in environ.items() if key.startswith("HTTP_")})

    @property
    def copying(self) -> bool:
        """Whether it is a copy's arrival."""
        return REPLICA_HEADER.lower() in self.headers

    def value(self, key: str) -> tuple[bool, str | None]:
        """Whether the lab knows what this condition key says here, and what; None where the request says nothing."""
        if key.lower() == "aws:securetransport":
            return True, "false"
        if key.lower().startswith("s3:x-amz-server-side-encryption"):
            return True, self.headers.get(key.lower().removeprefix("s3:"))
        return False, None


REQUEST: Final[ContextVar[Facts]] = ContextVar("request", default=Facts())  # noqa: B039 - frozen, and its map is read


def decide(policy: Mapping[str, Any], action: str, resource: str, facts: Facts) -> PermissionResult:
    """What a policy says of one action: refused, allowed, or nothing."""
    action = _SAME.get(action, action)
    action = _COPYING.get(action, action) if facts.copying else action
    allowed = False
    for statement in _statements(policy):
        if not _everybody(statement) or not _about(statement, action, resource):
            continue
        holds = _conditions(statement.get("Condition") or {}, facts)
        if statement.get("Effect") == "Deny" and holds is True:
            return PermissionResult.DENIED
        allowed |= statement.get("Effect") == "Allow" and holds is not False
    return PermissionResult.PERMITTED if allowed else PermissionResult.NEUTRAL


def _permission(bucket: FakeBucket, action: str, resource: str) -> PermissionResult:
    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    return decide(json.loads(bucket.policy), action, resource, REQUEST.get())


def act_on_policies() -> None:
    """Have moto's buckets ask here."""
    # moto refuses whatever a condition is not met for, an Allow's too.
    setattr(FakeBucket, "get_permission", _permission)  # noqa: B010 - a type checker takes a plain one for a mistake


def _name(key: str) -> str:
    return key.removeprefix("HTTP_").replace("_", "-").lower()


def _statements(policy: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    found = policy.get("Statement", [])
    yield from [found] if isinstance(found, dict) else found


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _everybody(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    return principal == "*" or (isinstance(principal, dict) and "*" in _many(principal.get("AWS")))


def _about(statement: Mapping[str, Any], action: str, resource: str) -> bool:
    acted = any(fnmatch.fnmatchcase(action.lower(), str(each).lower()) for each in _many(statement.get("Action")))
    return acted and any(fnmatch.fnmatchcase(resource, str(each)) for each in _many(statement.get("Resource")))


def _conditions(condition: Mapping[str, Any], facts: Facts) -> bool | None:
    """Whether all of them hold; None where one is not known and no other fails."""
    found = [
        _holds(operator, _many(wanted), *facts.value(key))
        for operator, tests in condition.items()
        for key, wanted in tests.items()
    ]
    if False in found:
        return False
    return None if None in found else True


def _holds(operator: str, wanted: list[Any], known: bool, value: str | None) -> bool | None:
    operator = operator.lower()
    if not known:
        return None
    if operator == "null":
        return (value is None) == (str(wanted[0]).lower() == "true")
    if operator == "bool":
        return value is not None and value in [str(each).lower() for each in wanted]
    missing = operator.endswith("ifexists") and value is None
    kind = operator.removesuffix("ifexists")
    if kind == "stringequals":
        return missing or value in wanted
    return missing or value not in wanted if kind == "stringnotequals" else None
