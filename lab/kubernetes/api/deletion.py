"""How objects go: grace periods, finalizers, dependents and namespaces."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from lab.kubernetes.api.errors import BadRequest, Conflict, Forbidden
from lab.kubernetes.api.kinds import NAMESPACE, POD, Kind
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, terminating, timestamp, uid_of

if TYPE_CHECKING:
    from lab.kubernetes.api.store import Store

FOREGROUND: Final = "foregroundDeletion"
PROPAGATIONS: Final = ("Background", "Foreground", "Orphan")
_LASTING: Final = frozenset({"default", "kube-system"})


def check_preconditions(kind: Kind, obj: Object, preconditions: dict[str, str] | None) -> None:
    """Conflict unless uid and resourceVersion, where given, are the object's."""
    for key, wanted in (preconditions or {}).items():
        have = obj["metadata"].get(key)
        if key in ("uid", "resourceVersion") and wanted and wanted != have:
            raise Conflict(
                f'Operation cannot be fulfilled on {kind.key} "{name_of(obj)}": Precondition failed: {key} in'
                f" precondition: {wanted}, {key} in object meta: {have}",
                kind=kind,
                name=name_of(obj),
            )


def grace_of(kind: Kind, obj: Object, asked: int | None) -> int:
    """Seconds this deletion waits for somebody else to stop what the object stands for."""
    if kind is not POD:
        return 0
    if not obj["spec"].get("nodeName") or obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    return int(obj["spec"].get("terminationGracePeriodSeconds", 30)) if asked is None else max(0, asked)


def complete(obj: Object) -> bool:
    """Whether nothing holds a deleted object back any more."""
    meta = obj["metadata"]
    return terminating(obj) and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")


def begin(
    store: Store, kind: Kind, before: Object, grace: int | None, propagation: str, *, dry_run: bool = False
) -> Object:
    """Mark the object deleted, and remove it when nothing holds it back."""
    if propagation not in PROPAGATIONS:
        raise BadRequest(f"propagationPolicy: {propagation!r} is none of {', '.join(PROPAGATIONS)}")
    if kind is NAMESPACE and name_of(before) in _LASTING:
        raise Forbidden(f'namespaces "{name_of(before)}" is forbidden: this namespace may not be deleted', kind=kind)
    seconds = grace_of(kind, before, grace)
    after: Object = clone(before)
    meta = after["metadata"]
    if propagation == "Foreground" and _blocking(store, before) and FOREGROUND not in meta.get("finalizers", ()):
        meta["finalizers"] = [*meta.get("finalizers", ()), FOREGROUND]
    if not terminating(before) or seconds < int(meta.get("deletionGracePeriodSeconds", 0)):
        meta["deletionTimestamp"] = timestamp(store.clock() + timedelta(seconds=seconds))
        meta["deletionGracePeriodSeconds"] = seconds
        if "generation" in meta and not terminating(before):
            meta["generation"] += 1
    if dry_run:
        return after
    if kind is NAMESPACE:
        return _empty_namespace(store, after)
    if propagation == "Orphan":
        _orphan(store, before)
    if complete(after):
        return store.finish(kind, after)
    if after != before:
        store.table.put(kind, after)
    if FOREGROUND in meta.get("finalizers", ()):
        for dependent_kind, dependent in store.table.dependents(uid_of(after)):
            if not terminating(dependent):
                begin(store, dependent_kind, dependent, None, "Foreground")
    return store.table.find(kind, namespace_of(after), name_of(after)) or after


def after_removal(store: Store, kind: Kind, removed: Object) -> None:
    """Dependents without another owner follow; owners that waited for this one, and namespaces, may go now."""
    for dependent_kind, dependent in store.table.dependents(uid_of(removed)):
        collect_if_orphaned(store, dependent_kind, dependent)
    for owner in removed["metadata"].get("ownerReferences") or ():
        found = store.table.by_uid(str(owner.get("uid")))
        if found and FOREGROUND in found[1]["metadata"].get("finalizers", ()) and not _blocking(store, found[1]):
            _release(store, *found)
    if kind.namespaced:
        space = store.table.find(NAMESPACE, "", namespace_of(removed))
        if space and terminating(space):
            _finish_namespace(store, space)


def collect_if_orphaned(store: Store, kind: Kind, obj: Object) -> None:
    """Delete an object all of whose owners are gone."""
    owners = obj["metadata"].get("ownerReferences")
    if owners and not terminating(obj) and not any(store.table.by_uid(str(owner.get("uid"))) for owner in owners):
        begin(store, kind, obj, None, "Background")


def _blocking(store: Store, owner: Object) -> bool:
    uid = uid_of(owner)
    return any(
        reference.get("uid") == uid and reference.get("blockOwnerDeletion")
        for _, dependent in store.table.dependents(uid)
        for reference in dependent["metadata"]["ownerReferences"]
    )


def _release(store: Store, kind: Kind, owner: Object) -> None:
    after: Object = clone(owner)
    after["metadata"]["finalizers"].remove(FOREGROUND)
    if complete(after):
        store.finish(kind, after)
    else:
        store.table.put(kind, after)


def _orphan(store: Store, owner: Object) -> None:
    uid = uid_of(owner)
    for kind, dependent in store.table.dependents(uid):
        after: Object = clone(dependent)
        kept = [reference for reference in after["metadata"]["ownerReferences"] if reference.get("uid") != uid]
        after["metadata"]["ownerReferences"] = kept
        if not kept:
            del after["metadata"]["ownerReferences"]
        store.table.put(kind, after)


def _empty_namespace(store: Store, space: Object) -> Object:
    """Mark the namespace Terminating and delete what is in it."""
    space.setdefault("status", {})["phase"] = "Terminating"
    current = store.table.find(NAMESPACE, "", name_of(space))
    if current != space:
        store.table.put(NAMESPACE, space)
    for kind in store.kinds:
        if kind.namespaced:
            for obj in store.table.of_kind(kind, name_of(space)):
                present = store.table.find(kind, namespace_of(obj), name_of(obj))
                if present and not terminating(present):
                    begin(store, kind, present, None, "Background")
    _finish_namespace(store, space)
    return space


def _finish_namespace(store: Store, space: Object) -> None:
    name = name_of(space)
    current = store.table.find(NAMESPACE, "", name)
    if current is None or any(kind.namespaced and store.table.of_kind(kind, name) for kind in store.kinds):
        return
    after: Object = clone(current)
    after.get("spec", {}).pop("finalizers", None)
    if complete(after):
        store.finish(NAMESPACE, after)
