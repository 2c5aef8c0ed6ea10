"""DaemonSets: one pod on every node that takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lab.kubernetes import placement
from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import DAEMON_SET, NODE, POD, Kind
from lab.kubernetes.api.objects import Object, clone, labels_of, name_of, namespace_of, terminating
from lab.kubernetes.condition import holds
from lab.kubernetes.controller import Controller, Key, key_of, owned, owned_by, owner_reference
from lab.kubernetes.deployment import template_hash
from lab.kubernetes.replicaset import pod_of
from lab.kubernetes.rollout import resolved

TEMPLATE_LABEL: Final = "controller-revision-hash"
TOLERATIONS: Final = tuple(
    {"key": f"node.kubernetes.io/{condition}", "operator": "Exists", "effect": effect}
    for condition, effect in (
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    )
)
"""What every daemon pod tolerates, as Kubernetes adds it."""


class DaemonSetController(Controller):
    """Keeps one pod of every DaemonSet on each node its template may stand on."""

    primary = DAEMON_SET

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """Its pods, and every node."""
        return {POD: owned_by(DAEMON_SET), NODE: lambda _node: [key_of(each) for each in self.store.list(DAEMON_SET)]}

    def reconcile(self, key: Key) -> float | None:
        """Create what is missing, delete what stands on a wrong node or is over, roll what is of an old template."""
        try:
            daemon = self.store.get(DAEMON_SET, *key)
        except NotFound:
            return None
        if terminating(daemon):
            return None
        pods: dict[str, list[Object]] = {}
        for pod in owned(self.store, POD, daemon):
            pods.setdefault(self._node_of(pod), []).append(pod)
        nodes = self.store.list(NODE)
        wanted = [node for node in nodes if self._fits(daemon, node)]
        names = {name_of(node) for node in wanted}
        staying = {name_of(node) for node in nodes if self._may_stay(daemon, node)}
        for name, standing in pods.items():
            keep = 1 if name in staying else 0
            for index, pod in enumerate(sorted(standing, key=lambda each: terminating(each))):
                over = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
                if (index >= keep or over) and not terminating(pod):
                    self._delete(pod)
        for node in wanted:
            if not pods.get(name_of(node)):
                self._create(daemon, node)
        self._roll(daemon, names)
        self._count(daemon, names)
        return None

    def _fits(self, daemon: Object, node: Object) -> bool:
        pod = self._pod(daemon, node)
        return placement.selected(pod, node) and placement.untolerated(pod, node) is None

    def _may_stay(self, daemon: Object, node: Object) -> bool:
        """Whether a pod that stands there goes on: a taint that only keeps new ones away sends none away."""
        pod = self._pod(daemon, node)
        return placement.selected(pod, node) and placement.untolerated(pod, node, ("NoExecute",)) is None

    def _pod(self, daemon: Object, node: Object) -> Object:
        template = clone(daemon["spec"]["template"])
        label = template_hash(template)
        template.setdefault("metadata", {}).setdefault("labels", {})[TEMPLATE_LABEL] = label
        pod = pod_of(template, namespace_of(daemon), owner_reference(DAEMON_SET, daemon))
        spec = pod["spec"]
        spec["tolerations"] = [*(spec.get("tolerations") or []), *TOLERATIONS]
        here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name_of(node)]}]}
        affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
        required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
        terms = required.get("nodeSelectorTerms") or [{}]
        required["nodeSelectorTerms"] = [{**term, **here} for term in terms]
        return pod

    def _create(self, daemon: Object, node: Object) -> None:
        self.store.create(POD, self._pod(daemon, node))

    def _node_of(self, pod: Object) -> str:
        if pod["spec"].get("nodeName"):
            return str(pod["spec"]["nodeName"])
        affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
        for term in affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", []):
            for expression in term.get("matchFields") or []:
                return str(expression["values"][0])
        return ""

    def _roll(self, daemon: Object, names: set[str]) -> None:
        strategy = daemon["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        limit = (strategy.get("rollingUpdate") or {}).get("maxUnavailable")
        budget = max(1, resolved(limit, 1, len(names), up=True))
        current = template_hash(daemon["spec"]["template"])
        pods = owned(self.store, POD, daemon)
        budget -= sum(1 for pod in pods if terminating(pod) or not holds(pod, "Ready"))
        for pod in pods:
            if labels_of(pod).get(TEMPLATE_LABEL) == current or terminating(pod):
                continue
            if not holds(pod, "Ready"):
                self._delete(pod)  # serves nobody: it costs nothing to replace it
            elif budget > 0:
                budget -= 1
                self._delete(pod)

    def _delete(self, pod: Object) -> None:
        self.store.delete(POD, namespace_of(pod), name_of(pod))

    def _count(self, daemon: Object, names: set[str]) -> None:
        pods = [pod for pod in owned(self.store, POD, daemon) if not terminating(pod)]
        here = [pod for pod in pods if pod["spec"].get("nodeName") in names]
        ready = sum(holds(pod, "Ready") for pod in here)
        current = template_hash(daemon["spec"]["template"])
        status = daemon.setdefault("status", {})
        status["desiredNumberScheduled"] = len(names)
        status["currentNumberScheduled"] = len(here)
        status["numberMisscheduled"] = sum(1 for pod in pods if self._node_of(pod) not in names)
        status["numberReady"] = status["numberAvailable"] = ready
        status["numberUnavailable"] = len(names) - ready
        status["updatedNumberScheduled"] = sum(labels_of(pod).get(TEMPLATE_LABEL) == current for pod in here)
        status["observedGeneration"] = daemon["metadata"].get("generation", 1)
        self.store.update(DAEMON_SET, daemon, subresource="status")
