"""One pod of each Deployment dies without a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drills.access import COMPONENT, ready
from drills.actions.on_cluster import OnServing
from drills.drill import DrillError, Prior


@dataclass(frozen=True)
class KillPods(OnServing):
    """Deletes one ready pod of each Deployment with no grace; its ReplicaSet brings the successor, so no undo does."""

    kind: ClassVar[str] = "kill-pods"

    @property
    def name(self) -> str:
        return f"kill one pod each of {' and '.join(self.deployments)} in {self.site}"

    async def prepare(self) -> Prior:
        return {"pods": [await self._one(name) for name in self.deployments]}

    async def apply(self) -> None:
        for name in self.deployments:
            pod = await self._one(name)
            delete = self.cluster.core.delete_namespaced_pod
            await self.ask(f"delete pod {pod}", delete, pod, self.namespace, grace_period_seconds=0)

    async def undo(self, prior: Prior) -> None:
        return None

    async def residue(self, prior: Prior) -> list[str]:
        return []

    async def _one(self, component: str) -> str:
        listing = self.cluster.core.list_namespaced_pod
        pods = await self.ask("list pods", listing, self.namespace, label_selector=f"{COMPONENT}={component}")
        able = sorted(pod.metadata.name for pod in pods.items if pod.metadata.deletion_timestamp is None and ready(pod))
        if not able:
            raise DrillError(f"{self.site}: no pod of {component} is ready, so none can be killed")
        return str(able[0])
