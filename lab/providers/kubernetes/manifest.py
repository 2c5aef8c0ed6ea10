"""Manifests as programs write them, as they are applied and as they come back."""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from lab.providers.errors import Failure, NotInLabError
from lab.providers.package import Subject
from lab.providers.values import UNKNOWN

MARKER: Final = "tandem.io/lab-resource"
"""Annotation that says which declared resource an object belongs to; programs never see it."""
NOT_HERE: Final = ("kubernetes:helm.sh/", "kubernetes:yaml", "kubernetes:kustomize")


def require_object(subject: Subject) -> None:
    """Raise NotInLabError unless the type is one kind of object."""
    kind = subject.type.rpartition(":")[2]
    if subject.type.startswith(NOT_HERE) or kind.endswith(("Patch", "List")) or subject.type.count(":") != 2:
        raise NotInLabError(
            f"{subject.urn}: the lab does not implement the type {subject.type}; declare its objects one by one, or a"
            " chart as a helm.v3.Release"
        )


def from_token(token: str) -> dict[str, str]:
    """ApiVersion and kind, from a type token."""
    _, version, kind = token.split(":")
    return {"apiVersion": version.removeprefix("core/"), "kind": kind}


def shape_failures(subject: Subject, inputs: Mapping[str, Any]) -> list[Failure]:
    """What is wrong with a manifest before any API is asked."""
    title = f"{subject.type} {subject.name!r}"
    failures = [
        Failure(key, f"{title}: {key} is missing; every manifest has one: give it")
        for key in ("apiVersion", "kind")
        if not inputs.get(key)
    ]
    meta = inputs.get("metadata")
    if meta is not None and meta is not UNKNOWN and not isinstance(meta, dict):
        failures.append(Failure("metadata", f"{title}: metadata is {meta!r}; it has to be an object: correct it"))
    elif isinstance(meta, dict) and meta.get("generateName"):
        reason = "metadata.generateName is set; an interrupted create could not be found again: leave out name as well"
        failures.append(Failure("metadata.generateName", f"{title}: {reason}"))
    return failures


def place_of(inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes an object that object for its API."""
    meta = inputs.get("metadata")
    meta = meta if isinstance(meta, Mapping) else {}
    return inputs.get("apiVersion"), inputs.get("kind"), meta.get("namespace"), meta.get("name")


def marker_of(subject: Subject) -> str:
    """What says that an object belongs to a declared resource."""
    return hashlib.sha256(subject.urn.encode()).hexdigest()[:40]


def marked(inputs: Mapping[str, Any], marker: str) -> dict[str, Any]:
    """The manifest as it is applied."""
    manifest = copy.deepcopy(dict(inputs))
    manifest.pop("status", None)
    annotations = manifest["metadata"].get("annotations") or {}
    manifest["metadata"]["annotations"] = {**annotations, MARKER: marker}
    return manifest


def state_of(live: Mapping[str, Any]) -> dict[str, Any]:
    """The live object as programs see it."""
    state = copy.deepcopy(dict(live))
    meta = state["metadata"]
    meta.pop("managedFields", None)
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != MARKER}
    meta.pop("annotations", None)
    if annotations:
        meta["annotations"] = annotations
    return state


def readable(live: Mapping[str, Any]) -> dict[str, Any]:
    """The state with a Secret's data as stringData as well, which the API takes and never shows."""
    state = state_of(live)
    if state.get("kind") == "Secret":
        data = state.get("data") or {}
        state["stringData"] = {key: base64.b64decode(text).decode(errors="replace") for key, text in data.items()}
    return state


def identity_of(live: Mapping[str, Any]) -> str:
    """The id of a resource: namespace/name or name."""
    meta = live["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def title_of(manifest: Mapping[str, Any]) -> str:
    """How messages call an object."""
    meta = manifest["metadata"]
    place = f"{meta['namespace']}/" if meta.get("namespace") else ""
    return f"{manifest['kind']} {place}{meta.get('name')}"
