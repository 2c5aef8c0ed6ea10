"""ResourceQuota: what a namespace may use, enforced when something is created, counted when something changes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from lab.kubernetes.api.errors import Forbidden
from lab.kubernetes.api.kinds import POD, RESOURCE_QUOTA, Kind
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of
from lab.kubernetes.api.syntax import quantity, quantity_text

if TYPE_CHECKING:
    from lab.kubernetes.api.store import Store

_COUNTED: Final = frozenset(
    {"pods", "services", "secrets", "configmaps", "persistentvolumeclaims", "resourcequotas", "endpoints"}
)
_COMPUTE: Final = frozenset({"cpu", "memory", "ephemeral-storage"})


def _canonical(key: str) -> str:
    return f"requests.{key}" if key in _COMPUTE else key


def pod_requests(spec: dict[str, Any], side: str = "requests") -> dict[str, Decimal]:
    """What a pod asks for in all: the sum of its containers, or its largest init container where that is more."""

    def of(container: dict[str, Any]) -> dict[str, Decimal]:
        listed = (container.get("resources") or {}).get(side) or {}
        return {name: quantity(amount) or Decimal(0) for name, amount in listed.items()}

    total: dict[str, Decimal] = {}
    beside: dict[str, Decimal] = {}
    for container in spec.get("containers") or ():
        for name, amount in of(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            for name, amount in of(container).items():
                beside[name] = beside.get(name, Decimal(0)) + amount
                total[name] = total.get(name, Decimal(0)) + amount
        else:
            for name, amount in of(container).items():
                total[name] = max(total.get(name, Decimal(0)), amount + beside.get(name, Decimal(0)))
    return total


def usage(kind: Kind, obj: Object, hard: str) -> Decimal:
    """How much of one quota key an object uses."""
    key = _canonical(hard)
    if key in (f"count/{kind.key}", kind.key if kind.key in _COUNTED else None):
        finished = kind is POD and _finished(obj)
        return Decimal(0) if finished else Decimal(1)
    side, dot, resource = key.partition(".")
    if kind is POD and dot and side in ("requests", "limits") and not _finished(obj):
        return pod_requests(obj.get("spec") or {}, side).get(resource, Decimal(0))
    return Decimal(0)


def _finished(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def used(store: Store, namespace: str, hard: str) -> Decimal:
    """How much of one quota key the namespace uses."""
    key = _canonical(hard)
    kinds = [kind for kind in store.kinds if key in (f"count/{kind.key}", kind.key if kind.key in _COUNTED else None)]
    if not kinds and key.partition(".")[0] in ("requests", "limits"):
        kinds = [POD]
    return sum((usage(kind, obj, key) for kind in kinds for obj in store.table.of_kind(kind, namespace)), Decimal(0))


def check(store: Store, kind: Kind, obj: Object) -> None:
    """Forbidden, naming the quota, when creating `obj` would take the namespace over it."""
    if not kind.namespaced or kind is RESOURCE_QUOTA:
        return
    namespace = namespace_of(obj)
    for entry in store.table.of_kind(RESOURCE_QUOTA, namespace):
        hard = (entry.get("spec") or {}).get("hard") or {}
        if (entry.get("spec") or {}).get("scopes") or (entry.get("spec") or {}).get("scopeSelector"):
            continue  # scoped quotas are recorded only
        over: list[tuple[str, Decimal, Decimal, str]] = []
        for key, limit in sorted(hard.items()):
            _must_specify(kind, obj, name_of(entry), key)
            asked = usage(kind, obj, key)
            taken = used(store, namespace, key) if asked else Decimal(0)
            if asked and taken + asked > (quantity(limit) or Decimal(0)):
                over.append((key, asked, taken, str(limit)))
        if over:
            asked_text, used_text, limit_text = (
                ",".join(
                    f"{row[0]}={quantity_text(value) if isinstance(value := row[column], Decimal) else value}"
                    for row in over
                )
                for column in (1, 2, 3)
            )
            raise Forbidden(
                f'{kind.key} "{name_of(obj)}" is forbidden: exceeded quota: {name_of(entry)},'
                f" requested: {asked_text}, used: {used_text}, limited: {limit_text}",
                kind=kind,
                name=name_of(obj),
            )


def _must_specify(kind: Kind, obj: Object, quota: str, hard: str) -> None:
    side, _, resource = _canonical(hard).partition(".")
    if kind is not POD or side not in ("requests", "limits") or resource not in _COMPUTE:
        return
    for container in obj["spec"]["containers"]:
        if resource not in ((container.get("resources") or {}).get(side) or {}):
            raise Forbidden(
                f'pods "{name_of(obj)}" is forbidden: failed quota: {quota}: must specify {_canonical(hard)}'
                f" for: {container['name']}",
                kind=kind,
                name=name_of(obj),
            )


def recount(store: Store, kind: Kind, before: Object | None, after: Object | None) -> None:
    """Bring status.used of the namespace's quotas up to date after a change."""
    changed = after or before
    if changed is None or not kind.namespaced:
        return
    quotas = store.table.of_kind(RESOURCE_QUOTA, namespace_of(changed))
    if not quotas or not (
        kind is RESOURCE_QUOTA or before is None or after is None or _finished(before) != _finished(after)
    ):
        return
    for entry in quotas:
        hard = (entry.get("spec") or {}).get("hard") or {}
        status = {
            "hard": dict(hard),
            "used": {key: quantity_text(used(store, namespace_of(entry), key)) for key in sorted(hard)},
        }
        if entry.get("status") != status:
            new: Object = clone(entry)
            new["status"] = status
            store.table.put(RESOURCE_QUOTA, new)
