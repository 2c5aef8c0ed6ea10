"""The API server's objects, their rules and their changes: the only thing controllers touch.

Every method but iterating a watch is synchronous and belongs to one asyncio loop. What is returned is a copy; what is
passed in is never altered. Refusals are `ApiError`s. How deletion goes:

* Pods that are bound to a node and not finished get `deletionTimestamp` and `deletionGracePeriodSeconds` and stay until
  the kubelet calls `delete(..., grace_period_seconds=0)`; pods without a node, and finished ones, go at once.
* An object with finalizers stays until the last one is taken away by `update` or `patch`.
* Dependents (`ownerReferences`) follow their last owner at once; `propagation` Orphan and Foreground are honoured.
* A namespace empties itself and goes when its last object has gone.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Any

from lab.kubernetes.api import admission, deletion, ownership, patching, scale
from lab.kubernetes.api.decoding import decoded, decoded_config, generated_name
from lab.kubernetes.api.errors import AlreadyExists, BadRequest, Conflict, Gone, MethodNotAllowed, NotFound
from lab.kubernetes.api.history import Event, Watch
from lab.kubernetes.api.kinds import EVENT, KINDS, Kind, Kinds
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, timestamp, uid_of
from lab.kubernetes.api.ownership import Owners
from lab.kubernetes.api.patching import PatchType
from lab.kubernetes.api.schema import UnknownFields
from lab.kubernetes.api.selectors import field_matcher, label_matcher
from lab.kubernetes.api.table import Table
from lab.topology import LOOPBACK

__all__ = ["Event", "PatchType", "Store", "Watch"]

EVENT_LIMIT = 1000
"""Event objects kept; the oldest go first."""


class Store:
    """Objects of one cluster, created, changed, deleted and watched by the API's rules.

    `cluster_ips` gives every Service that wants one its address on creation, as a real API server does; without it the
    address stays empty and may be set once. An address a Service asks for has to lie in `service_network`.
    """

    def __init__(
        self,
        *,
        kinds: Kinds = KINDS,
        history_limit: int = 1024,
        first_version: int | None = None,
        cluster_ips: Iterator[str] | None = None,
        service_network: IPv4Network = LOOPBACK,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        # starts at the wall clock, so that versions of an earlier life of this server are told that they are too old
        version = int(time.time() * 1000) if first_version is None else first_version
        self.kinds = kinds
        self.table = Table(kinds, version=version, history_limit=history_limit)
        self.cluster_ips = cluster_ips
        self.service_network = service_network
        self.clock = clock
        self._owners: dict[str, Owners] = {}
        admission.bootstrap(self)

    @property
    def resource_version(self) -> int:
        """The version of the latest change."""
        return self.table.version

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """One object; NotFound."""
        return clone(self.current(kind, namespace, name))  # type: ignore[no-any-return]  # clone keeps the type

    def current(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """As `get`, the store's own object: to be read only."""
        found = self.table.find(kind, (namespace or "") if kind.namespaced else "", name)
        if found is None:
            raise NotFound.of(kind, name)
        return found

    def list(
        self, kind: Kind, namespace: str | None = None, label_selector: str = "", field_selector: str = ""
    ) -> list[Object]:
        """All that match, ordered by namespace and name; every namespace when none is named."""
        by_label, by_field = label_matcher(label_selector), field_matcher(field_selector)
        return [clone(obj) for obj in self.table.of_kind(kind, namespace or "") if by_label(obj) and by_field(obj)]

    def create(
        self,
        kind: Kind,
        obj: Object,
        *,
        field_manager: str | None = None,
        dry_run: bool = False,
        unknown: UnknownFields | None = None,
    ) -> Object:
        """Store a new object with defaults filled in; Invalid, AlreadyExists, Forbidden (quota, namespace)."""
        new = decoded(kind, obj, unknown)
        meta = new["metadata"]
        if meta.get("generateName") and not meta.get("name"):
            meta["name"] = generated_name(self.table, kind, str(meta["generateName"]), namespace_of(new))
        if meta.get("resourceVersion"):
            raise BadRequest("resourceVersion should not be set on objects to be created")
        admission.check_namespace(self, kind, new)
        if self.table.find(kind, namespace_of(new), name_of(new)):
            raise AlreadyExists(f'{kind.key} "{name_of(new)}" already exists', kind=kind, name=name_of(new))
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"):
            meta.pop(key, None)
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = timestamp(self.clock())
        meta.pop("generation", None)
        if admission.has_generation(kind):
            meta["generation"] = 1
        admission.prepare_create(self, kind, new, dry_run=dry_run)
        if dry_run:
            return clone(new)  # type: ignore[no-any-return]  # clone keeps the type
        self.table.put(kind, new)
        if field_manager:
            self._owners[uid_of(new)] = ownership.created(kind, new, field_manager)
        while kind is EVENT and self.table.count(EVENT) > EVENT_LIMIT:
            self.table.remove(EVENT, self.table.oldest(EVENT))
        admission.after_change(self, kind, None, new)
        result: Object = clone(new)
        deletion.collect_if_orphaned(self, kind, new)
        return result

    def update(
        self,
        kind: Kind,
        obj: Object,
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
        dry_run: bool = False,
        unknown: UnknownFields | None = None,
    ) -> Object:
        """Replace the object, or one subresource of it (status, scale); Conflict on a stale resourceVersion."""
        if subresource == "scale":
            before = self.current(kind, namespace_of(obj), name_of(obj))
            new = scale.scaled(kind, before, obj)
            done = self._replace(kind, before, new, None, field_manager=field_manager, dry_run=dry_run)
            return scale.of(kind, done)
        new = decoded(kind, obj, unknown)
        before = self.current(kind, namespace_of(new), name_of(new))
        return self._replace(kind, before, new, subresource, field_manager=field_manager, dry_run=dry_run)

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Any,
        patch_type: PatchType | str,
        *,
        subresource: str | None = None,
        field_manager: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        unknown: UnknownFields | None = None,
    ) -> Object:
        """Change the object by a JSON, merge, strategic-merge or apply patch; apply creates what is not there."""
        patch_type = patching.patch_type(patch_type, kind)
        if patch_type is PatchType.APPLY:
            return self._apply(kind, namespace, name, patch, subresource, field_manager, force, dry_run, unknown)
        before = self.current(kind, namespace, name)
        view = scale.of(kind, before) if subresource == "scale" else before
        new = patching.patched(kind if subresource != "scale" else None, view, patch, patch_type)
        if name_of(new) != name:
            raise BadRequest(f'the name of the object ("{name_of(new)}") does not match the name on the URL ("{name}")')
        return self.update(
            kind, new, subresource=subresource, field_manager=field_manager, dry_run=dry_run, unknown=unknown
        )

    def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        grace_period_seconds: int | None = None,
        propagation: str = "Background",
        preconditions: dict[str, str] | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Begin or finish a deletion; returns the object as it is now, or as it last was."""
        before = self.current(kind, namespace, name)
        deletion.check_preconditions(kind, before, preconditions)
        after = deletion.begin(self, kind, before, grace_period_seconds, propagation, dry_run=dry_run)
        return clone(after)  # type: ignore[no-any-return]  # clone keeps the type

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        label_selector: str = "",
        since: int | None = None,
        *,
        field_selector: str = "",
        bookmarks: bool = False,
        initial_events: bool | None = None,
        timeout_seconds: float | None = None,
    ) -> Watch:
        """Changes after version `since`, from now on even before the first `anext`; Gone when that is too old.

        Without `since`: what is there now as ADDED, then the changes. Close it (`close()`) or drop it when done.
        """
        by_label, by_field = label_matcher(label_selector), field_matcher(field_selector)

        def matches(obj: Object) -> bool:
            return (not namespace or namespace_of(obj) == namespace) and by_label(obj) and by_field(obj)

        if since is not None and since > self.resource_version:
            raise Gone(f"version {since} lies ahead of {self.resource_version}: it is of another server; list again")
        from_now = since is None or bool(initial_events)
        return Watch(
            self.table.history(kind),
            initial=[obj for obj in self.table.of_kind(kind) if matches(obj)] if from_now else (),
            since=self.resource_version if from_now or since is None else since,
            matches=matches,
            bookmark=(lambda: self._bookmark(kind)) if bookmarks else None,
            mark_initial_end=bool(initial_events),
            timeout_seconds=timeout_seconds,
        )

    def finish(self, kind: Kind, obj: Object) -> Object:
        """Take an object out for good, and all that depends on it; for this package only."""
        final = self.table.remove(kind, obj)
        self._owners.pop(uid_of(obj), None)
        admission.after_change(self, kind, obj, None)
        deletion.after_removal(self, kind, obj)
        return final

    def _bookmark(self, kind: Kind) -> Object:
        meta = {"resourceVersion": str(self.resource_version), "creationTimestamp": None}
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}

    def _replace(
        self,
        kind: Kind,
        before: Object,
        new: Object,
        subresource: str | None,
        *,
        field_manager: str | None = None,
        owners: Owners | None = None,
        dry_run: bool = False,
    ) -> Object:
        """`before` becomes `new` as far as this subresource may say; no version is spent when nothing changes."""
        if subresource and subresource not in kind.subresources:
            raise MethodNotAllowed(f"{kind.key} has no subresource {subresource!r} here", kind=kind)
        version = new["metadata"].get("resourceVersion")
        if version and version != before["metadata"]["resourceVersion"]:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind.key} "{name_of(before)}": the object has been modified;'
                " please apply your changes to the latest version and try again",
                kind=kind,
                name=name_of(before),
            )
        uid = new["metadata"].get("uid")
        if uid and uid != uid_of(before):
            raise Conflict(
                f'Operation cannot be fulfilled on {kind.key} "{name_of(before)}": Precondition failed: UID in'
                f" precondition: {uid}, UID in object meta: {uid_of(before)}",
                kind=kind,
                name=name_of(before),
            )
        after = admission.prepare_update(self, kind, before, new, subresource)
        if dry_run:
            return clone(after)  # type: ignore[no-any-return]  # clone keeps the type
        if owners is not None:
            self._owners[uid_of(before)] = owners
        elif field_manager and after != before:
            known = self._owners.get(uid_of(before), {})
            self._owners[uid_of(before)] = ownership.updated(kind, known, before, after, field_manager)
        if after == before:
            return clone(before)  # type: ignore[no-any-return]  # clone keeps the type
        if deletion.complete(after):
            return self.finish(kind, after)
        self.table.put(kind, after)
        admission.after_change(self, kind, before, after)
        return clone(after)  # type: ignore[no-any-return]  # clone keeps the type

    def _apply(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        config: Any,
        subresource: str | None,
        field_manager: str | None,
        force: bool,
        dry_run: bool,
        unknown: UnknownFields | None,
    ) -> Object:
        if not field_manager:
            raise BadRequest(
                "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
            )
        if subresource == "scale":
            raise MethodNotAllowed("the scale subresource takes no apply patch here; use a merge patch", kind=kind)
        wanted = decoded_config(kind, namespace, name, config, unknown)
        live = self.table.find(kind, namespace_of(wanted), name)
        if live is None:
            if subresource:
                raise NotFound.of(kind, name)
            created = self.create(kind, wanted, dry_run=dry_run)
            if not dry_run:
                self._owners[uid_of(created)] = ownership.applied_first(kind, wanted, field_manager)
            return created
        owners = self._owners.get(uid_of(live), {})
        new, owners = ownership.applied(kind, live, wanted, owners, field_manager, force=force, subresource=subresource)
        return self._replace(kind, live, new, subresource, owners=owners, dry_run=dry_run)
