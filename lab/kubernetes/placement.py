"""Whether a pod may stand on a node: selectors, required affinity, taints, and what is left of its resources."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from lab.kubernetes.api.objects import Object, labels_of, name_of
from lab.kubernetes.api.quota import pod_requests
from lab.kubernetes.api.syntax import quantity

UNSCHEDULABLE: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}

Amounts = dict[str, Decimal]


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """Whether one of the tolerations fits the taint."""
    return any(_fits(each, taint) for each in tolerations)


def tolerated_seconds(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> float | None:
    """How long a NoExecute taint is tolerated: 0 when not at all, None when without end; the first that fits counts."""
    first = next((each for each in tolerations if _fits(each, taint)), None)
    seconds = 0 if first is None else first.get("tolerationSeconds")
    return None if seconds is None else max(0.0, float(seconds))


def _fits(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    exists = (toleration.get("operator") or "Equal") == "Exists"
    if not toleration.get("key"):
        return exists
    same = (toleration.get("value") or "") == (taint.get("value") or "")
    return bool(toleration["key"] == taint["key"]) and (exists or same)


def untolerated(
    pod: Object, node: Object, effects: Collection[str] = ("NoSchedule", "NoExecute")
) -> Mapping[str, Any] | None:
    """The first taint that keeps the pod off the node."""
    tolerations = pod["spec"].get("tolerations") or []
    taints = list(node["spec"].get("taints") or [])
    if node["spec"].get("unschedulable"):
        taints.append(UNSCHEDULABLE)
    hard = (taint for taint in taints if taint.get("effect") in effects)
    return next((taint for taint in hard if not tolerates(tolerations, taint)), None)


def _expression_holds(expression: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    key, operator, wanted = expression["key"], expression["operator"], expression.get("values") or []
    present, value = key in values, values.get(key, "")
    match operator:
        case "In":
            return present and value in wanted
        case "NotIn":
            return not present or value not in wanted
        case "Exists":
            return present
        case "DoesNotExist":
            return not present
        case "Gt" | "Lt":
            if not present or not value.lstrip("-").isdigit():
                return False
            return int(value) > int(wanted[0]) if operator == "Gt" else int(value) < int(wanted[0])
        case _:
            return False


def selected(pod: Object, node: Object) -> bool:
    """Whether nodeSelector and the required node affinity name this node."""
    labels = labels_of(node)
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not required:
        return True
    fields = {"metadata.name": name_of(node)}
    for term in required.get("nodeSelectorTerms") or []:
        expressions, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
        if not expressions and not by_field:
            continue  # an empty term matches nothing
        if all(_expression_holds(each, labels) for each in expressions) and all(
            _expression_holds(each, fields) for each in by_field
        ):
            return True
    return False


def requests(pod: Object) -> Amounts:
    """What the pod takes of its node."""
    return {"pods": Decimal(1), **pod_requests(pod["spec"])}


def allocatable(node: Object) -> Amounts:
    """What the node offers to pods."""
    offered = (node.get("status") or {}).get("allocatable") or {}
    return {name: quantity(amount) or Decimal(0) for name, amount in offered.items()}


def lacking(asked: Amounts, used: Amounts, offered: Amounts) -> list[str]:
    """The resources that are not left in the amount asked for, by name."""
    zero = Decimal(0)
    return [
        name
        for name, amount in sorted(asked.items())
        if amount > zero and used.get(name, zero) + amount > offered.get(name, zero)
    ]


def sum_of(pods: Iterable[Object]) -> Amounts:
    """What these pods ask for together."""
    total: Amounts = {}
    for pod in pods:
        for name, amount in requests(pod).items():
            total[name] = total.get(name, Decimal(0)) + amount
    return total
