"""Custom resources by what is noted of their published definitions: fields, types, bounds.

Kinds of which `lab/schemas/custom.toml` says nothing are judged by shape only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.kubernetes.api.errors import Cause
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object
from lab.schemas.custom import definition, faults


def schema(kind: Kind) -> dict[str, Any] | None:
    """The facts as a structural schema; None where none are noted."""
    found = definition(kind.api_version, kind.kind) if kind.custom else None
    return dict(found.schema) if found else None


def remedy(kind: Kind) -> str:
    """What to do about a field of a custom resource that is not noted; empty where anything may stand."""
    found = definition(kind.api_version, kind.kind) if kind.custom else None
    return found.remedy if found else ""


def broken(kind: Kind, obj: Object) -> Iterator[Cause]:
    """Every noted rule that an object breaks; metadata and status are judged elsewhere."""
    found = definition(kind.api_version, kind.kind) if kind.custom else None
    if found:
        yield from (Cause(each.path, each.reason, each.message) for each in faults(found.schema, obj))
