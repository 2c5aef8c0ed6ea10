"""Binds pods to nodes that have room for them; a pod that fits nowhere stays Pending and says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Final

from lab.kubernetes import placement
from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import NODE, POD, PRIORITY_CLASS, Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.condition import holds, set_condition
from lab.kubernetes.controller import Controller, Key, key_of, owner_of
from lab.kubernetes.recorder import Recorder

SCHEDULER: Final = "default-scheduler"


def waits_for_node(pod: Object) -> bool:
    """Whether this scheduler has to place the pod."""
    ours = (pod["spec"].get("schedulerName") or SCHEDULER) == SCHEDULER
    over = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
    return ours and not over and not pod["spec"].get("nodeName") and not terminating(pod)


def explanation(reasons: Mapping[str, int], nodes: int) -> str:
    """Why no node fits, worded as kube-scheduler does."""
    if not nodes:
        return "no nodes available to schedule pods"
    parts = ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
    return (
        f"0/{nodes} nodes are available: {parts}. preemption: 0/{nodes} nodes are available:"
        f" {nodes} Preemption is not helpful for scheduling."
    )


class Scheduler(Controller):
    """Gives every pod the node that suits it best, the most important pods first."""

    primary = POD

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A node that comes, changes or goes may make room."""
        return {NODE: lambda _node: self._waiting()}

    def reconcile(self, key: Key) -> float | None:
        """Place the pod; where one has ended, those that wait may fit now."""
        try:
            pod = self.store.get(POD, *key)
        except NotFound:
            self._again()
            return None
        if (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            self._again()
        if waits_for_node(pod):
            for each in self._in_order():
                self._place(each)
        return None

    def _again(self) -> None:
        for waiting in self._waiting():
            self.enqueue(waiting)

    def _waiting(self) -> list[Key]:
        return [key_of(pod) for pod in self.store.list(POD) if waits_for_node(pod)]

    def _in_order(self) -> list[Object]:
        pods = [pod for pod in self.store.list(POD) if waits_for_node(pod)]
        return sorted(pods, key=lambda pod: (-self._priority(pod), pod["metadata"]["creationTimestamp"], name_of(pod)))

    def _priority(self, pod: Object) -> int:
        if pod["spec"].get("priority") is not None:
            return int(pod["spec"]["priority"])
        with suppress(NotFound):
            return int(self.store.get(PRIORITY_CLASS, None, pod["spec"].get("priorityClassName") or "").get("value", 0))
        return 0

    def _place(self, pod: Object) -> None:
        nodes = self.store.list(NODE)
        by_node: dict[str, list[Object]] = {}
        for other in self.store.list(POD):
            if other["spec"].get("nodeName") and (other.get("status") or {}).get("phase") not in {
                "Succeeded",
                "Failed",
            }:
                by_node.setdefault(other["spec"]["nodeName"], []).append(other)
        fitting: list[Object] = []
        reasons: Counter[str] = Counter()
        for node in nodes:
            reason = self._refusal(pod, node, by_node.get(name_of(node), []))
            if reason:
                reasons.update(reason)
            else:
                fitting.append(node)
        if fitting:
            self._bind(pod, max(fitting, key=lambda node: self._score(pod, node, by_node.get(name_of(node), []))))
        else:
            self._refuse(pod, explanation(reasons, len(nodes)))

    def _refusal(self, pod: Object, node: Object, others: Sequence[Object]) -> list[str]:
        if not holds(node, "Ready") and placement.untolerated(pod, node) is None:
            return ["node(s) were not ready"]  # and no taint says so yet
        if node["spec"].get("unschedulable") and placement.untolerated(pod, node) == placement.UNSCHEDULABLE:
            return ["node(s) were unschedulable"]
        if not placement.selected(pod, node):
            return ["node(s) didn't match Pod's node affinity/selector"]
        if taint := placement.untolerated(pod, node):
            return [f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value') or ''}}}"]
        short = placement.lacking(placement.requests(pod), placement.sum_of(others), placement.allocatable(node))
        return ["Too many pods" if name == "pods" else f"Insufficient {name}" for name in short]

    def _score(self, pod: Object, node: Object, others: Sequence[Object]) -> tuple[int, Decimal, str]:
        """Spread pods of one owner first, then prefer the emptier node; the name breaks ties, always the same way."""
        owner = owner_of(pod)
        siblings = sum(1 for other in others if owner and (owner_of(other) or {}).get("uid") == owner["uid"])
        offered, used = placement.allocatable(node), placement.sum_of(others)
        shares = [used.get(name, Decimal(0)) / amount for name, amount in offered.items() if amount]
        return -siblings, -max(shares, default=Decimal(0)), name_of(node)

    def _bind(self, pod: Object, node: Object) -> None:
        bound = self.store.get(POD, namespace_of(pod), name_of(pod))
        if uid_of(bound) != uid_of(pod):
            return
        bound["spec"]["nodeName"] = name_of(node)
        bound = self.store.update(POD, bound)
        set_condition(bound["status"], "PodScheduled", True)
        self.store.update(POD, bound, subresource="status")
        Recorder(self.store, SCHEDULER).normal(
            pod, "Scheduled", f"Successfully assigned {namespace_of(pod)}/{name_of(pod)} to {name_of(node)}"
        )

    def _refuse(self, pod: Object, message: str) -> None:
        status = pod.setdefault("status", {})
        if set_condition(status, "PodScheduled", False, "Unschedulable", message):
            status["phase"] = "Pending"
            self.store.update(POD, pod, subresource="status")
            Recorder(self.store, SCHEDULER).warning(pod, "FailedScheduling", message)
