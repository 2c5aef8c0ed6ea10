"""Nodes that have fallen silent: unknown, tainted, their pods not ready; and nodes that are back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import LEASE, NODE, POD, Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, timestamp, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import condition, holds, set_condition
from lab.kubernetes.controller import Controller, Key
from lab.kubernetes.heartbeat import LEASES
from lab.kubernetes.nodes import PRESSURES
from lab.kubernetes.recorder import Recorder

NODE_GRACE_SECONDS: Final = 20.0
"""How long a node may be silent before it is unknown; Kubernetes' default is 50 (node-monitor-grace-period)."""
NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_TAINTS: Final = {"False": NOT_READY, "Unknown": UNREACHABLE}
"""What a node's Ready condition puts on it."""


class NodeLifecycleController(Controller):
    """Tells from the Leases which nodes are there, and says so on the Node and on its pods."""

    primary = NODE

    def __init__(self, store: Store, grace_seconds: float = NODE_GRACE_SECONDS) -> None:
        super().__init__(store)
        self._grace_seconds = grace_seconds
        self._heard: dict[str, tuple[tuple[str, str], float]] = {}
        """By node: its uid and its Lease's last renewal, and when that was first seen. No clock but ours counts."""

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A Lease concerns the node of its name."""
        return {LEASE: lambda lease: [("", name_of(lease))] if namespace_of(lease) == LEASES else []}

    def reconcile(self, key: Key) -> float | None:
        """Judge the silence, then let taints and pods follow the condition."""
        name = key[1]
        try:
            node = self.store.get(NODE, None, name)
        except NotFound:
            self._heard.pop(name, None)
            return None
        left = self._grace_seconds - self._silence(node)
        if left <= 0:
            node = self._unknown(node)
        self._taint(node)
        return left if left > 0 else None

    def _silence(self, node: Object) -> float:
        renewed = ""
        with suppress(NotFound):
            lease = self.store.get(LEASE, LEASES, name_of(node))
            renewed = str((lease.get("spec") or {}).get("renewTime") or "")
        now, sign = asyncio.get_running_loop().time(), (uid_of(node), renewed)
        known = self._heard.get(name_of(node))
        if known is None or known[0] != sign:
            self._heard[name_of(node)] = known = (sign, now)
        return now - known[1]

    def _unknown(self, node: Object) -> Object:
        ready = condition(node, "Ready")
        if ready is None or ready["status"] != "Unknown":
            status = node.setdefault("status", {})
            for kind in ("Ready", *PRESSURES):
                set_condition(status, kind, None, "NodeStatusUnknown", "Kubelet stopped posting node status.")
            node = self.store.update(NODE, node, subresource="status")
            self._recorder.normal(node, "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady")
        for pod in self.store.list(POD, field_selector=f"spec.nodeName={name_of(node)}"):
            if holds(pod, "Ready"):
                set_condition(pod["status"], "Ready", False)
                self.store.update(POD, pod, subresource="status")
                self._recorder.warning(pod, "NodeNotReady", "Node is not ready")
        return node

    def _taint(self, node: Object) -> None:
        wanted = _TAINTS.get((condition(node, "Ready") or {}).get("status", ""), "")
        spec = node.setdefault("spec", {})
        present = list(spec.get("taints") or [])
        taints = [each for each in present if each["key"] not in _TAINTS.values() or each["key"] == wanted]
        for effect in ("NoSchedule", "NoExecute"):
            if wanted and not any((each["key"], each["effect"]) == (wanted, effect) for each in taints):
                taints.append({"key": wanted, "effect": effect, "timeAdded": timestamp()})
        if taints != present:
            spec["taints"] = taints
            if not taints:
                del spec["taints"]
            self.store.update(NODE, node)

    @property
    def _recorder(self) -> Recorder:
        return Recorder(self.store, "node-controller")
