"""Pods leave nodes with a NoExecute taint: at once, or when the time is over for which they tolerate it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from lab.kubernetes import placement
from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import NODE, POD, Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import set_condition
from lab.kubernetes.controller import Controller, Key, key_of
from lab.kubernetes.recorder import Recorder

_EARLY_SECONDS: Final = 0.01
"""Timers may fire this much before their time."""


class TaintEvictionController(Controller):
    """Deletes what a node's NoExecute taints send away; no disruption budget is asked, as in Kubernetes."""

    primary = POD

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._seen: dict[str, dict[tuple[str, str], float]] = {}
        """By node uid: when each of its taints, by key and value, was first seen."""
        self._leaving: set[str] = set()
        """Pods, by uid, whose time runs."""

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A node concerns the pods on it."""
        return {NODE: self._on}

    def _on(self, node: Object) -> list[Key]:
        self._taints(node)  # their time runs from now, whether or not there is a pod
        return [key_of(pod) for pod in self.store.list(POD, field_selector=f"spec.nodeName={name_of(node)}")]

    def reconcile(self, key: Key) -> float | None:
        """Delete the pod, or come back when its time is over."""
        try:
            pod = self.store.get(POD, *key)
            node = self.store.get(NODE, None, pod["spec"].get("nodeName") or "")
        except NotFound:
            return None
        if terminating(pod) or (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}:
            self._leaving.discard(uid_of(pod))
            return None
        left = self._seconds_left(pod, node)
        recorder = Recorder(self.store, "taint-eviction-controller")
        if left is None:
            if uid_of(pod) in self._leaving:
                self._leaving.discard(uid_of(pod))
                recorder.normal(pod, "TaintManagerEviction", f"Cancelling deletion of Pod {'/'.join(key)}")
            return None
        if left > _EARLY_SECONDS:
            self._leaving.add(uid_of(pod))
            return left
        self._leaving.discard(uid_of(pod))
        recorder.normal(pod, "TaintManagerEviction", f"Marking for deletion Pod {'/'.join(key)}")
        why = "Taint manager: deleting due to NoExecute taint"
        set_condition(pod.setdefault("status", {}), "DisruptionTarget", True, "DeletionByTaintManager", why)
        self.store.update(POD, pod, subresource="status")
        self.store.delete(POD, namespace_of(pod), name_of(pod), preconditions={"uid": uid_of(pod)})
        return None

    def _seconds_left(self, pod: Object, node: Object) -> float | None:
        """Until the first taint sends the pod away; None when none does."""
        now, ends = asyncio.get_running_loop().time(), []
        for taint, since in self._taints(node):
            tolerated = placement.tolerated_seconds(pod["spec"].get("tolerations") or [], taint)
            if tolerated is not None:
                ends.append(since + tolerated - now)
        return min(ends, default=None)

    def _taints(self, node: Object) -> list[tuple[Mapping[str, Any], float]]:
        """The node's NoExecute taints, each with the moment since which it is there."""
        taints = {
            (each["key"], each.get("value") or ""): each
            for each in (node.get("spec") or {}).get("taints") or []
            if each.get("effect") == "NoExecute"
        }
        before, now = self._seen.pop(uid_of(node), {}), asyncio.get_running_loop().time()
        if taints:
            self._seen[uid_of(node)] = {name: before.get(name, now) for name in taints}
        return [(taint, before.get(name, now)) for name, taint in taints.items()]
