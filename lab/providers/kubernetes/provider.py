"""The `kubernetes` package: manifests in, live objects out, by server-side apply.

Every object carries MARKER, a hash of its URN. A Create finds the object an interrupted one left behind by name and
marker and applies onto it; an object of the same name without that marker belongs to somebody else and is an error.
"""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any, Final

from lab.providers.difference import Difference, compare
from lab.providers.errors import ConfigurationError, Failure, InitializationError, NotInLabError, ProviderError
from lab.providers.kubernetes import patch, release
from lab.providers.kubernetes.api import Api, RefusedError, Resource
from lab.providers.kubernetes.immutable import replaced
from lab.providers.kubernetes.kubeconfig import parse
from lab.providers.kubernetes.manifest import (
    MARKER,
    from_token,
    identity_of,
    marked,
    marker_of,
    place_of,
    readable,
    require_object,
    shape_failures,
    state_of,
    title_of,
)
from lab.providers.kubernetes.patch import Patches
from lab.providers.kubernetes.readiness import NotReadyError, wait_until_gone, wait_until_ready
from lab.providers.kubernetes.release import Releases
from lab.providers.naming import random_hex
from lab.providers.package import Checked, Existing, Limits, Subject
from lab.providers.values import UNKNOWN, Path, is_known, project

AUTONAMED: Final = "pulumi.com/autonamed"
FORCE: Final = "pulumi.com/patchForce"
AUTONAME_DIGITS: Final = 8
SETTINGS: Final = frozenset(
    {
        "cluster",
        "clusterIdentifier",
        "context",
        "deleteUnreachable",
        "enableConfigMapMutable",
        "enablePatchForce",
        "enableSecretMutable",
        "enableServerSideApply",
        "kubeClientSettings",
        "kubeconfig",
        "namespace",
        "skipUpdateUnreachable",
        "suppressDeprecationWarnings",
        "suppressHelmHookWarnings",
        "upsertExistingObjects",
    }
)
_SERVER_SIDE: Final = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


class KubernetesPackage:
    """One `kubernetes` provider instance."""

    def __init__(self) -> None:
        self._api: Api | None = None
        self._settings: Mapping[str, Any] = {}
        self._written: set[str] = set()
        """URNs under which the engine has an object already."""
        self._lock = threading.Lock()

    @property
    def api(self) -> Api:
        """The configured API server."""
        if self._api is None:
            raise ProviderError("the kubernetes provider is not configured yet; its kubeconfig is not known yet")
        return self._api

    def check_config(self, inputs: Mapping[str, Any]) -> list[Failure]:
        unknown = sorted(set(inputs) - SETTINGS)
        failures = [
            Failure(name, f"{name} is no setting the lab's kubernetes provider has; remove it") for name in unknown
        ]
        if inputs.get("kubeconfig") is not UNKNOWN:
            try:
                _target(inputs)
            except ConfigurationError as error:
                failures.append(Failure("kubeconfig", str(error)))
        return failures

    def replaces_config(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        if not is_known(new) or not is_known(old):
            return []
        return ["kubeconfig"] if _target(old).server != _target(new).server else []

    def configure(self, inputs: Mapping[str, Any]) -> None:
        self._settings = inputs
        if inputs.get("kubeconfig") is not UNKNOWN:
            target = _target(inputs)
            self._api = Api(target, f"kubernetes provider for {target.server}")

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        raise NotInLabError(f"{token}: the lab's kubernetes provider implements no functions")

    def check(self, subject: Subject, old: dict[str, Any], new: dict[str, Any], seed: bytes) -> Checked:
        if subject.type == release.TYPE:
            return release.check(subject, old, new, seed, self._api.target.namespace if self._api else "default")
        if subject.type in patch.TYPES:
            return patch.check(subject, new)
        require_object(subject)
        if old:
            with self._lock:
                self._written.add(subject.urn)
        inputs = copy.deepcopy(new)
        failures = list(shape_failures(subject, inputs))
        if failures:
            return Checked(inputs, failures)
        meta = inputs.setdefault("metadata", {})
        if meta is UNKNOWN:
            return Checked(inputs, [])
        if meta.get("name") is None:
            before = old.get("metadata") or {}
            kept = (before.get("annotations") or {}).get(AUTONAMED) == "true"
            made = f"{subject.name}-{random_hex(AUTONAME_DIGITS, seed)}"
            meta["name"] = before["name"] if kept and before.get("name") else made
            if meta.get("annotations") is not UNKNOWN:
                meta["annotations"] = {**(meta.get("annotations") or {}), AUTONAMED: "true"}
        if self._api is not None and self._resource(inputs).namespaced and meta.get("namespace") is None:
            meta["namespace"] = self._api.target.namespace
        return Checked(inputs, [])

    def diff(
        self, subject: Subject, identity: str, state: dict[str, Any], old: dict[str, Any], new: dict[str, Any]
    ) -> Difference:
        if subject.type == release.TYPE:
            return release.diff(old, new)
        changes = compare(old, new)
        replaces = replaced(str(new.get("apiVersion")), str(new.get("kind")), changes, self._settings)
        same_place = place_of(old) == place_of(new)
        return Difference(changes, replaces, bool(replaces) and same_place)

    def create(self, subject: Subject, inputs: dict[str, Any], *, preview: bool, limits: Limits) -> Existing:
        if subject.type == release.TYPE:
            return Existing("", release.planned(inputs)) if preview else Releases(self.api).put(subject, inputs)
        if subject.type in patch.TYPES:
            return Patches(self.api).put(subject, inputs, preview=preview)
        if preview:
            return Existing("", self._planned(subject, inputs))
        resource = self._resource(inputs)
        namespace, name = inputs["metadata"].get("namespace"), inputs["metadata"]["name"]
        marker = marker_of(subject)
        present = self.api.get(resource, namespace, name)
        if present is not None and present["metadata"].get("deletionTimestamp"):
            wait_until_gone(self.api, resource, namespace, name, present["metadata"]["uid"], limits)
            present = None
        if present is not None and not self._is_ours(present, marker):
            raise ProviderError(
                f"{title_of(inputs)} exists already and belongs to somebody else: give it another name,"
                " remove the other one, or set upsertExistingObjects on the provider"
            )
        if present is None:
            self._sweep(subject, resource, inputs, marker)
        return self._put(subject, resource, inputs, limits)

    def read(self, subject: Subject, identity: str, state: dict[str, Any], inputs: dict[str, Any]) -> Existing | None:
        if subject.type == release.TYPE:
            return Releases(self.api).read(identity, inputs)
        if subject.type not in patch.TYPES:
            require_object(subject)
        known = inputs or state
        resource = self._resource(known) if known.get("kind") else self._resource(from_token(subject.type))
        namespace, _, name = identity.rpartition("/")
        live = self.api.get(resource, namespace or self.api.target.namespace, name)
        if live is None or live["metadata"].get("deletionTimestamp"):
            return None  # one on its way out is nothing to adopt: Create waits until it is gone
        if inputs:
            return Existing(identity, state_of(live), project(inputs, readable(live)))
        given = {key: value for key, value in state_of(live).items() if key != "status"}
        given["metadata"] = {key: value for key, value in given["metadata"].items() if key not in _SERVER_SIDE}
        return Existing(identity, state_of(live), given)

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
        if subject.type == release.TYPE:
            return release.planned(new) if preview else Releases(self.api).put(subject, new).state
        if subject.type in patch.TYPES:
            return Patches(self.api).put(subject, new, preview=preview).state
        if preview:
            return self._planned(subject, new, state)
        return self._put(subject, self._resource(new), new, limits).state

    def delete(self, subject: Subject, identity: str, state: dict[str, Any], *, limits: Limits) -> None:
        if subject.type == release.TYPE:
            Releases(self.api).delete(identity)
            return
        if subject.type in patch.TYPES:
            Patches(self.api).delete(subject, identity)
            return
        known = state if state.get("kind") else from_token(subject.type)
        resource = self._resource(known)
        namespace, _, name = identity.rpartition("/")
        place = namespace or None
        uid = (state.get("metadata") or {}).get("uid") or ""
        live = self.api.get(resource, place, name)
        if live is None or (uid and live["metadata"].get("uid") != uid and not self._is_ours(live, marker_of(subject))):
            return
        try:
            self.api.delete(resource, place, name, live["metadata"].get("uid"))
        except RefusedError as error:
            raise ProviderError(f"{resource.kind} {identity}: {error}") from error
        wait_until_gone(self.api, resource, place, name, live["metadata"].get("uid", ""), limits)

    def secret_outputs(self, subject: Subject) -> tuple[Path, ...]:
        return (("data",), ("stringData",)) if subject.type == "kubernetes:core/v1:Secret" else ()

    def _resource(self, manifest: Mapping[str, Any]) -> Resource:
        return self.api.resource(str(manifest["apiVersion"]), str(manifest["kind"]))

    def _put(self, subject: Subject, resource: Resource, inputs: dict[str, Any], limits: Limits) -> Existing:
        """Apply and wait; the object's state goes with the error when it does not come up."""
        if not is_known(inputs):
            raise ProviderError(
                f"{subject.urn}: some of its inputs are not known; an update needs every value: a defect"
            )
        live = self._apply(resource, marked(inputs, marker_of(subject)), dry_run=False)
        identity = identity_of(live)
        try:
            return Existing(identity, state_of(wait_until_ready(self.api, resource, live, limits)))
        except NotReadyError as error:
            raise InitializationError(identity, state_of(error.live), error.reasons) from error

    def _apply(self, resource: Resource, manifest: dict[str, Any], *, dry_run: bool) -> dict[str, Any]:
        annotations = manifest["metadata"].get("annotations") or {}
        force = annotations.get(FORCE) == "true" or self._settings.get("enablePatchForce") is True
        namespace = manifest["metadata"].get("namespace")
        try:
            return self.api.apply(resource, namespace, manifest, force=force, dry_run=dry_run)
        except RefusedError as error:
            hint = f"; annotate it with {FORCE}: 'true' to take the fields over" if error.status == 409 else ""
            where = "the Kubernetes API refuses the manifest"
            raise RefusedError(error.status, error.reason, f"{title_of(manifest)}: {where}: {error}{hint}") from error

    def _planned(
        self, subject: Subject, inputs: dict[str, Any], state: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What a preview can tell: the API's own dry run where every input is known."""
        planned: dict[str, Any] = {**inputs, "status": UNKNOWN}
        if self._api is None or not is_known(inputs):
            return planned
        try:
            dry = state_of(self._apply(self._resource(inputs), marked(inputs, marker_of(subject)), dry_run=True))
        except RefusedError as error:
            if error.status == 404:  # its namespace is made by the same stack
                return planned
            raise
        volatile = _SERVER_SIDE if state is None else ("generation", "resourceVersion", "managedFields")
        dry["metadata"] = {key: value for key, value in dry["metadata"].items() if key not in volatile}
        return {**dry, "status": UNKNOWN}

    def _is_ours(self, live: Mapping[str, Any], marker: str) -> bool:
        carried = (live["metadata"].get("annotations") or {}).get(MARKER)
        return carried == marker or self._settings.get("upsertExistingObjects") is True

    def _sweep(self, subject: Subject, resource: Resource, inputs: Mapping[str, Any], marker: str) -> None:
        """Remove what an interrupted Create left under a made-up name the engine never wrote down."""
        meta = inputs["metadata"]
        with self._lock:
            written = subject.urn in self._written
        if written or (meta.get("annotations") or {}).get(AUTONAMED) != "true":
            return
        for live in self.api.list(resource.api_version, resource.kind, meta.get("namespace")):
            if (live["metadata"].get("annotations") or {}).get(MARKER) == marker:
                self.api.delete(resource, meta.get("namespace"), live["metadata"]["name"], live["metadata"].get("uid"))


def _target(inputs: Mapping[str, Any]) -> Any:
    return parse(inputs.get("kubeconfig"), context=inputs.get("context"), namespace=inputs.get("namespace"))
