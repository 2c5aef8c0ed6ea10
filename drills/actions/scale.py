"""A site's serving pods are gone; the declarations stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from drills.actions.on_cluster import OnServing
from drills.drill import DrillError, Prior
from drills.rights import Right, rights


@dataclass(frozen=True)
class ScaleToZero(OnServing):
    """Scales Deployments to zero, in the order given, and back in the other."""

    kind: ClassVar[str] = "scale-to-zero"

    @property
    def name(self) -> str:
        return f"scale {' and '.join(self.deployments)} of {self.site} to zero"

    @property
    def rights(self) -> list[Right]:
        """See drills.rights."""
        return rights("apps", "deployments/scale", self.namespace, "get", "patch")

    async def prepare(self) -> Prior:
        prior = {name: await self._read(name) for name in self.deployments}
        if idle := [name for name, count in prior.items() if not count]:
            raise DrillError(f"{self.site}: {' and '.join(idle)} has no replicas: there is nothing to scale down")
        return prior

    async def apply(self) -> None:
        for name in self.deployments:
            await self._scale(name, 0)

    async def undo(self, prior: Prior) -> None:
        """Raises DrillError unless the scales read back as they were."""
        for name in reversed(self.deployments):
            if await self._read(name) == 0:
                await self._scale(name, int(prior[name]))
        if left := await self.residue(prior):
            raise DrillError(f"{self.site}: scaled back, but {'; '.join(left)}: somebody else changes them too")

    async def residue(self, prior: Prior) -> list[str]:
        found = {name: await self._read(name) for name in self.deployments}
        return [f"{name} has {found[name]} replicas, {prior[name]} before" for name in found if not found[name]]

    async def _read(self, name: str) -> int:
        read = self.cluster.apps.read_namespaced_deployment_scale
        scale = await self.ask(f"read the scale of {name}", read, name, self.namespace)
        return int(scale.spec.replicas or 0)

    async def _scale(self, name: str, count: int) -> None:
        patch = self.cluster.apps.patch_namespaced_deployment_scale
        await self.ask(f"scale {name} to {count}", patch, name, self.namespace, {"spec": {"replicas": count}})
