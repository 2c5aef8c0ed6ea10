"""Evicting a pod: a deletion that respects disruption budgets; binding a pod to a node."""

from __future__ import annotations

import math
from typing import Any, Final

from lab.kubernetes.api.errors import BadRequest, Cause, Conflict, TooManyRequests
from lab.kubernetes.api.kinds import DEPLOYMENT, POD, POD_DISRUPTION_BUDGET, REPLICA_SET
from lab.kubernetes.api.objects import Object, labels_of, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.api.selectors import matches_selector
from lab.kubernetes.api.store import Store

_SCALED: Final = {kind.kind: kind for kind in (REPLICA_SET, DEPLOYMENT)}
"""Controllers that say how many pods they want."""


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return not terminating(pod) and any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _amount(value: Any, total: int) -> int:
    text = str(value)
    return math.ceil(total * int(text.removesuffix("%")) / 100) if text.endswith("%") else int(text)


def _wanted_by(store: Store, obj: Object) -> Object:
    """The topmost controller of a pod that says how many it wants; the pod itself where there is none."""
    references = obj["metadata"].get("ownerReferences") or ()
    owner = next((each for each in references if each.get("controller") and each["kind"] in _SCALED), None)
    found = owner and store.table.find(_SCALED[owner["kind"]], namespace_of(obj), owner["name"])
    return _wanted_by(store, found) if owner and found and uid_of(found) == owner["uid"] else obj


def _expected(store: Store, pods: list[Object]) -> int:
    """As many as the pods' controllers want, whatever of it there is; a pod without a number counts for itself."""
    wanting = {uid_of(found): found for found in (_wanted_by(store, pod) for pod in pods)}
    return sum(int(found["spec"].get("replicas", 1)) for found in wanting.values())


def allowed(store: Store, budget: Object) -> int:
    """How many of the budget's pods may go now."""
    spec = budget.get("spec") or {}
    selector = spec.get("selector")
    pods = [
        pod
        for pod in store.table.of_kind(POD, budget["metadata"]["namespace"])
        if matches_selector(selector, labels_of(pod))
    ]
    expected = _expected(store, pods)
    if "maxUnavailable" in spec:
        wanted = expected - _amount(spec["maxUnavailable"], expected)
    else:
        wanted = _amount(spec.get("minAvailable", 1), expected)
    return sum(map(_ready, pods)) - wanted


def evict(store: Store, namespace: str, name: str, grace: int | None, *, dry_run: bool) -> None:
    """Delete the pod; TooManyRequests when a disruption budget does not allow it."""
    pod = store.current(POD, namespace, name)
    if _ready(pod):
        for budget in store.table.of_kind(POD_DISRUPTION_BUDGET, namespace):
            selector = (budget.get("spec") or {}).get("selector")
            if matches_selector(selector, labels_of(pod)) and allowed(store, budget) < 1:
                rule = f"The disruption budget {name_of(budget)} does not allow it now"
                raise TooManyRequests(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    kind=POD,
                    name=name,
                    causes=[Cause("", "DisruptionBudget", rule)],
                )
    store.delete(POD, namespace, name, grace_period_seconds=grace, dry_run=dry_run)


def bind(store: Store, namespace: str, name: str, binding: Object, *, dry_run: bool) -> None:
    """Give the pod its node; Conflict when it has one."""
    node = (binding.get("target") or {}).get("name")
    if not node:
        raise BadRequest("target.name: Required value; name the node the pod is bound to")
    pod = store.get(POD, namespace, name)
    if pod["spec"].get("nodeName"):
        message = f"pod {name} is already assigned to node {pod['spec']['nodeName']!r}"
        raise Conflict(f'Operation cannot be fulfilled on pods/binding "{name}": {message}', kind=POD, name=name)
    pod["spec"]["nodeName"] = node
    store.update(POD, pod, dry_run=dry_run)
