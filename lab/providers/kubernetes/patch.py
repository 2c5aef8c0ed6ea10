"""Patch resources: fields of an object that somebody else keeps, held by server-side apply under their own name."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from lab.providers.errors import Failure, ProviderError
from lab.providers.kubernetes.api import FIELD_MANAGER, Api, RefusedError
from lab.providers.kubernetes.manifest import from_token, identity_of, marker_of, state_of, title_of
from lab.providers.package import Checked, Existing, Subject
from lab.providers.values import UNKNOWN, is_known

TYPES: Final = frozenset({"kubernetes:core/v1:NodePatch"})
FORCE: Final = "pulumi.com/patchForce"


def check(subject: Subject, inputs: dict[str, Any]) -> Checked:
    """A patch names its object; which kind that is, its type says."""
    given = {**copy.deepcopy(inputs), **_kind(subject)}
    meta = given.get("metadata")
    if meta is UNKNOWN or (isinstance(meta, dict) and meta.get("name")):
        return Checked(given, [])
    reason = "metadata.name is missing; a patch changes an object that exists: name it"
    return Checked(given, [Failure("metadata.name", f"{subject.type} {subject.name!r}: {reason}")])


class Patches:
    """The patches of one API server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def put(self, subject: Subject, inputs: dict[str, Any], *, preview: bool) -> Existing:
        """Hold exactly these fields; those held before and not named any more go back to whoever else has them."""
        if preview and not is_known(inputs):
            return Existing("", dict(inputs))
        force = (inputs["metadata"].get("annotations") or {}).get(FORCE) == "true"
        live = self._apply(subject, inputs, force=force, dry_run=preview)
        return Existing("" if preview else identity_of(live), state_of(live))

    def delete(self, subject: Subject, identity: str) -> None:
        """Let go of every field; the object stays."""
        namespace, _, name = identity.rpartition("/")
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        kind = _kind(subject)
        if self._api.get(self._api.resource(kind["apiVersion"], kind["kind"]), namespace or None, name) is not None:
            self._apply(subject, {**kind, "metadata": metadata}, force=False, dry_run=False)

    def _apply(self, subject: Subject, manifest: Mapping[str, Any], *, force: bool, dry_run: bool) -> dict[str, Any]:
        resource = self._api.resource(str(manifest["apiVersion"]), str(manifest["kind"]))
        namespace, name = manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
        if self._api.get(resource, namespace, name) is None:
            raise ProviderError(
                f"{title_of(manifest)} is not there; a patch changes an object that exists: correct the name"
            )
        # One name per patch, so that two of one object do not take each other's fields away.
        manager = f"{FIELD_MANAGER}-{marker_of(subject)[:8]}"
        try:
            return self._api.apply(resource, namespace, manifest, force=force, dry_run=dry_run, manager=manager)
        except RefusedError as error:
            hint = f"; annotate the patch with {FORCE}: 'true' to take the fields over" if error.status == 409 else ""
            raise RefusedError(error.status, error.reason, f"{title_of(manifest)}: {error}{hint}") from error


def _kind(subject: Subject) -> dict[str, str]:
    token = from_token(subject.type)
    return {"apiVersion": token["apiVersion"], "kind": token["kind"].removesuffix("Patch")}
