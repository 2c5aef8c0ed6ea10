"""What stands between a request and the store: strategies of the kinds, defaults, rules, quota."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any, Final

from lab.kubernetes.api import defaults, kinds, published, quota, rules
from lab.kubernetes.api.errors import Cause, Forbidden, Invalid, NotFound
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, terminating, timestamp
from lab.schemas.custom import OPEN

if TYPE_CHECKING:
    from lab.kubernetes.api.store import Store

_PROTECTED: Final = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation")
_NO_GENERATION: Final = frozenset(
    {kinds.NAMESPACE, kinds.NODE, kinds.SERVICE, kinds.RESOURCE_QUOTA, kinds.PERSISTENT_VOLUME_CLAIM}
)
_KEEPS_STATUS_ON_CREATE: Final = frozenset({kinds.NODE})
_SYSTEM_PRIORITIES: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def bootstrap(store: Store) -> None:
    """What every cluster has from the start."""
    for name in ("default", "kube-system"):
        store.create(kinds.NAMESPACE, {"metadata": {"name": name}})
    for name, value in _SYSTEM_PRIORITIES.items():
        store.create(kinds.PRIORITY_CLASS, {"metadata": {"name": name}, "value": value})
    for kind in store.kinds:
        if kind.custom:
            store.create(kinds.CUSTOM_RESOURCE_DEFINITION, _definition(kind, timestamp(store.clock())))


def _definition(kind: Kind, moment: str) -> Object:
    names = {"plural": kind.plural, "singular": kind.singular, "kind": kind.kind, "listKind": kind.list_kind}
    subresources: dict[str, Any] = {"status": {}} if "status" in kind.subresources else {}
    if "scale" in kind.subresources:
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    schema = {"openAPIV3Schema": published.schema(kind) or {"type": "object", OPEN: True}}
    version = {"name": kind.version, "served": True, "storage": True, "schema": schema, "subresources": subresources}
    conditions = [
        {"type": name, "status": "True", "reason": name, "message": "", "lastTransitionTime": moment}
        for name in ("NamesAccepted", "Established")
    ]
    return {
        "metadata": {"name": kind.key},
        "spec": {
            "group": kind.group,
            "names": {**names, "shortNames": list(kind.short_names)},
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
        "status": {"conditions": conditions, "acceptedNames": names, "storedVersions": [kind.version]},
    }


def has_generation(kind: Kind) -> bool:
    """Whether the kind counts changes of what is wanted."""
    return kind not in _NO_GENERATION and ("status" in kind.subresources or kind is kinds.NETWORK_POLICY)


def check_namespace(store: Store, kind: Kind, obj: Object) -> None:
    """NotFound or Forbidden when the object's namespace is not there or is going."""
    if not kind.namespaced:
        return
    space = store.table.find(kinds.NAMESPACE, "", namespace_of(obj))
    if space is None:
        raise NotFound.of(kinds.NAMESPACE, namespace_of(obj))
    if terminating(space):
        message = f"unable to create new content in namespace {name_of(space)} because it is being terminated"
        raise Forbidden(
            f'{kind.key} "{name_of(obj)}" is forbidden: {message}',
            kind=kind,
            name=name_of(obj),
            causes=[Cause("metadata.namespace", "NamespaceTerminating", message)],
        )


def prepare_create(store: Store, kind: Kind, obj: Object, *, dry_run: bool) -> None:
    """Bring a new object into the form it is stored in, or refuse it."""
    if "status" in kind.subresources and kind not in _KEEPS_STATUS_ON_CREATE:
        obj.pop("status", None)
    defaults.fill(kind, obj)
    if kind is kinds.POD:
        _resolve_priority(store, obj)
    rules.check(kind, obj, None)
    if kind is kinds.SERVICE:
        _allocate_address(store, obj, dry_run=dry_run)
    quota.check(store, kind, obj)
    if kind is kinds.POD:
        obj["status"] = {"phase": "Pending", "qosClass": _quality(obj["spec"])}
    elif kind is kinds.NAMESPACE:
        obj["status"] = {"phase": "Active"}
    elif kind is kinds.SERVICE:
        obj["status"] = {"loadBalancer": {}}
    elif "status" in kind.subresources and not kind.custom:
        obj.setdefault("status", {})


def prepare_update(store: Store, kind: Kind, before: Object, new: Object, subresource: str | None) -> Object:
    """The object as it will be stored when `new` replaces it, or one part of it."""
    if subresource == "status":
        after: Object = clone(before)
        after.pop("status", None)
        if "status" in new:
            after["status"] = new["status"]
    else:
        after = new
        if "status" in kind.subresources:
            after.pop("status", None)
            if "status" in before:
                after["status"] = clone(before["status"])
        for key in (*_PROTECTED, "resourceVersion"):
            after["metadata"].pop(key, None)
            if key in before["metadata"]:
                after["metadata"][key] = before["metadata"][key]
        for key in ("managedFields", "selfLink"):
            after["metadata"].pop(key, None)
        if terminating(before):
            _no_new_finalizers(kind, before, after)
        if kind is kinds.SERVICE:
            _keep_address(store, before, after)
        defaults.fill(kind, after)
        rules.check(kind, after, before)
    if has_generation(kind) and _wanted(before) != _wanted(after):
        after["metadata"]["generation"] = int(before["metadata"].get("generation", 0)) + 1
    return after


def after_change(store: Store, kind: Kind, before: Object | None, after: Object | None) -> None:
    """What follows from a stored change inside the API server itself."""
    quota.recount(store, kind, before, after)


def _wanted(obj: Object) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def _no_new_finalizers(kind: Kind, before: Object, after: Object) -> None:
    added = set(after["metadata"].get("finalizers") or ()) - set(before["metadata"].get("finalizers") or ())
    if added:
        rule = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
        raise Invalid.of(
            kind, name_of(after), [Cause("metadata.finalizers", "FieldValueForbidden", f"Forbidden: {rule}")]
        )


def _resolve_priority(store: Store, pod: Object) -> None:
    name = pod["spec"].get("priorityClassName")
    classes = store.table.of_kind(kinds.PRIORITY_CLASS)
    if name:
        chosen = store.table.find(kinds.PRIORITY_CLASS, "", name)
        if chosen is None:
            raise Forbidden(
                f'pods "{name_of(pod)}" is forbidden: no PriorityClass with name {name} was found',
                kind=kinds.POD,
                name=name_of(pod),
            )
    else:
        chosen = max(
            (entry for entry in classes if entry.get("globalDefault")), key=lambda entry: entry["value"], default=None
        )
        if chosen is not None:
            pod["spec"]["priorityClassName"] = name_of(chosen)
    pod["spec"]["priority"] = chosen["value"] if chosen else 0
    if chosen:
        pod["spec"]["preemptionPolicy"] = chosen["preemptionPolicy"]


def _allocate_address(store: Store, service: Object, *, dry_run: bool) -> None:
    spec = service["spec"]
    if spec["type"] == "ExternalName" or dry_run:
        return
    taken = {str(entry["spec"].get("clusterIP")) for entry in store.table.of_kind(kinds.SERVICE)}
    asked = spec.get("clusterIP")
    rule = ""
    if asked and asked != "None" and asked in taken:
        rule = "failed to allocate IP: provided IP is already allocated"
    elif asked and asked != "None" and not _within(asked, store.service_network):
        rule = f"failed to allocate IP {asked}: the range of valid IPs is {store.service_network}"
    if rule:
        cause = Cause("spec.clusterIPs", "FieldValueInvalid", f'Invalid value: ["{asked}"]: {rule}')
        raise Invalid.of(kinds.SERVICE, name_of(service), [cause])
    if not asked and store.cluster_ips is not None:
        asked = next((address for address in store.cluster_ips if address not in taken), None)
        if asked is None:
            cause = Cause("spec.clusterIP", "FieldValueInvalid", "no address is left in the block of this cluster")
            raise Invalid.of(kinds.SERVICE, name_of(service), [cause])
    if asked:
        spec["clusterIP"] = asked
        spec["clusterIPs"] = [asked]


def _within(address: str, network: IPv4Network) -> bool:
    try:
        return IPv4Address(address) in network
    except ValueError:
        return False


def _keep_address(store: Store, before: Object, after: Object) -> None:
    """An update that does not say the address keeps it."""
    old, new = before["spec"], after.setdefault("spec", {})
    if new.get("type") == "ExternalName":
        return
    for key in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"):
        if key in old and not new.get(key):
            new[key] = clone(old[key])
    if not old.get("clusterIP"):
        new.setdefault("type", "ClusterIP")
        _allocate_address(store, after, dry_run=False)
    elif new.get("clusterIP"):
        new["clusterIPs"] = [new["clusterIP"]]


def _quality(spec: dict[str, Any]) -> str:
    """The pod's quality-of-service class."""
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    named = [
        {side: container["resources"].get(side, {}) for side in ("requests", "limits")} for container in containers
    ]
    native = ("cpu", "memory")
    if not any(name in side for entry in named for side in entry.values() for name in native):
        return "BestEffort"
    full = all(
        name in entry["limits"] and entry["limits"][name] == entry["requests"].get(name)
        for entry in named
        for name in native
    )
    return "Guaranteed" if full else "Burstable"
