"""From what a client sent to an object of the kind: checked, pruned, placed, named."""

from __future__ import annotations

import secrets
from types import NoneType
from typing import Any, Final

from lab.kubernetes.api.errors import AlreadyExists, BadRequest
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, name_of
from lab.kubernetes.api.schema import UnknownFields, prune
from lab.kubernetes.api.table import Table

_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names: no vowels, so no words."""


def decoded(kind: Kind, sent: Any, unknown: UnknownFields | None = None) -> Object:
    """A pruned copy with the types checked and kind and namespace filled in; BadRequest."""
    if not isinstance(sent, dict) or not isinstance(sent.get("metadata") or {}, dict):
        raise BadRequest(f"the body is not an object of kind {kind.kind}; send one with apiVersion, kind, metadata")
    for key, rule in (("apiVersion", kind.api_version), ("kind", kind.kind)):
        if sent.get(key) not in (None, "", rule):
            raise BadRequest(f"{key} {sent[key]!r} does not match the expected {rule!r} of this resource")
    for part in ("spec", "status"):
        if kind.custom and not isinstance(sent.get(part), (dict, NoneType)):
            raise BadRequest(f"{part}: got {str(sent[part])[:80]!r}, want an object")
    new = prune(kind, {**sent, "apiVersion": kind.api_version, "kind": kind.kind}, unknown)
    meta = new.setdefault("metadata", {})
    if not kind.namespaced:
        meta.pop("namespace", None)
    elif not meta.get("namespace"):
        meta["namespace"] = "default"
    return new


def decoded_config(kind: Kind, namespace: str | None, name: str, sent: Any, unknown: UnknownFields | None) -> Object:
    """The configuration of an apply patch, which says its name and namespace at least by the URL."""
    wanted = decoded(kind, sent, unknown)
    wanted["metadata"].setdefault("name", name)
    if kind.namespaced:
        wanted["metadata"]["namespace"] = namespace or "default"
    if name_of(wanted) != name:
        raise BadRequest(f'the name of the object ("{name_of(wanted)}") does not match the name on the URL ("{name}")')
    return wanted


def generated_name(table: Table, kind: Kind, prefix: str, namespace: str) -> str:
    """A free name that begins with `prefix`."""
    for _ in range(8):
        name = prefix[:58] + "".join(secrets.choice(_ALPHABET) for _ in range(5))
        if not table.find(kind, namespace, name):
            return name
    raise AlreadyExists(f"no free name was found for generateName {prefix!r}; try again", kind=kind)
