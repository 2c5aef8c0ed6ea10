"""Signs of life of the site's nodes, as kubelets give them: a Lease each, and a Node that says it is ready."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from lab.kubernetes.api.errors import AlreadyExists, ApiError, NotFound
from lab.kubernetes.api.kinds import LEASE, NAMESPACE, NODE
from lab.kubernetes.api.objects import Object, name_of, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import holds
from lab.kubernetes.nodes import set_healthy
from lab.kubernetes.recorder import Recorder

log = logging.getLogger(__name__)

LEASES: Final = "kube-node-lease"
"""Namespace of the nodes' Leases."""
HEARTBEATS_IN_GRACE: Final = 4
"""A node is heard this often in the time after which its silence counts, as with Kubernetes' own settings."""


class Heart:
    """Beats for every node whose machine is up."""

    def __init__(self, store: Store, grace_seconds: float, up: Callable[[str], bool]) -> None:
        self._store = store
        self._grace_seconds = grace_seconds
        self._up = up
        self._recorder = Recorder(store, "kubelet")

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            for node in self._store.list(NODE):
                self.beat(node)
            await asyncio.sleep(self._grace_seconds / HEARTBEATS_IN_GRACE)

    def beat(self, node: Object) -> None:
        """Renew the node's Lease, and say that it is ready where that is in doubt; a machine that is off is silent."""
        if not self._up(name_of(node)):
            return
        try:
            self._renew(node)
            if not holds(node, "Ready"):
                set_healthy(node.setdefault("status", {}))
                self._store.update(NODE, node, subresource="status")
        except ApiError as error:  # a node, or a namespace, that is just going
            log.info("heartbeat of node %s: %s", name_of(node), error)

    def boot(self, name: str) -> None:
        """The machine has started: its node registers again."""
        with suppress(NotFound):
            node = self._store.get(NODE, None, name)
            boot_id = node.setdefault("status", {}).setdefault("nodeInfo", {})["bootID"] = str(uuid4())
            node = self._store.update(NODE, node, subresource="status")
            self._recorder.warning(node, "Rebooted", f"Node {name} has been rebooted, boot id: {boot_id}")
            self.beat(node)

    def _renew(self, node: Object) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        try:
            lease = self._store.get(LEASE, LEASES, name_of(node))
        except NotFound:
            self._create(node, now)
        else:
            lease.setdefault("spec", {})["renewTime"] = now
            self._store.update(LEASE, lease)

    def _create(self, node: Object, now: str) -> None:
        with suppress(AlreadyExists):
            self._store.create(NAMESPACE, {"metadata": {"name": LEASES}})
        owner = {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node)}
        spec = {
            "holderIdentity": name_of(node),
            "leaseDurationSeconds": math.ceil(self._grace_seconds),
            "renewTime": now,
        }
        metadata = {"name": name_of(node), "namespace": LEASES, "ownerReferences": [owner]}
        self._store.create(LEASE, {"metadata": metadata, "spec": spec})
