"""A link inside a site is late or dead: a Chaos Mesh object of the drill's own, which expires by itself too.

https://chaos-mesh.org/docs/simulate-network-chaos-on-kubernetes/
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from drills.access import cluster
from drills.actions.on_cluster import OnCluster
from drills.drill import DrillError, Prior
from stacks.contract import Deployment

GROUP: Final = "chaos-mesh.org"
VERSION: Final = "v1alpha1"
PLURAL: Final = "networkchaos"
OBJECT: Final = "tandem-drill"
COMPONENT: Final = "app.kubernetes.io/name"
DURATION_SECONDS: Final = 900
"""The chaos ends after this whatever becomes of everybody who could delete it."""


@dataclass(frozen=True)
class NetworkChaos(OnCluster):
    """What gateways and model servers of a site tell each other is disturbed."""

    kind: ClassVar[str] = "network-chaos"

    spec: dict[str, Any]
    """Action and its parameters, as Chaos Mesh takes them."""

    @classmethod
    def between(cls, deployment: Deployment, site: str, spec: dict[str, Any]) -> Self:
        """On the way from a site's gateways to its model servers."""
        serving = deployment.serving[site]
        return cls(cluster(deployment, site), site, serving.namespace, {**_between(deployment, site), **spec})

    @property
    def name(self) -> str:
        detail = self.spec.get(self.spec["action"]) or {}
        shown = ", ".join(f"{key} {value}" for key, value in sorted(detail.items()))
        return (
            f"{self.spec['action']} {f'({shown}) ' if shown else ''}between gateways and model servers of {self.site}"
        )

    async def prepare(self) -> Prior:
        listing = self.cluster.custom.list_namespaced_custom_object
        try:
            await self.ask(f"list {PLURAL}", listing, GROUP, VERSION, self.namespace, PLURAL)
        except DrillError as error:
            raise DrillError(f"{error}; this drill needs Chaos Mesh in the site's cluster") from error
        if await self._find() is not None:
            raise DrillError(f"{self.site}: {PLURAL}/{OBJECT} exists already: another drill's; delete it first")
        return {}

    async def apply(self) -> None:
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "NetworkChaos",
            "metadata": {"name": OBJECT, "namespace": self.namespace},
            "spec": {**self.spec, "duration": f"{DURATION_SECONDS}s"},
        }
        create = self.cluster.custom.create_namespaced_custom_object
        await self.ask(f"create {PLURAL}/{OBJECT}", create, GROUP, VERSION, self.namespace, PLURAL, body)

    async def undo(self, prior: Prior) -> None:
        delete = self.cluster.custom.delete_namespaced_custom_object
        await self.find(f"delete {PLURAL}/{OBJECT}", delete, GROUP, VERSION, self.namespace, PLURAL, OBJECT)

    async def residue(self, prior: Prior) -> list[str]:
        return [f"{PLURAL}/{OBJECT} exists"] if await self._find() is not None else []

    async def _find(self) -> Any | None:
        get = self.cluster.custom.get_namespaced_custom_object
        return await self.find(f"read {PLURAL}/{OBJECT}", get, GROUP, VERSION, self.namespace, PLURAL, OBJECT)


@dataclass(frozen=True)
class FlappingChaos(NetworkChaos):
    """The same, there for one period and gone for the next."""

    kind: ClassVar[str] = "flapping-chaos"

    period_seconds: float = 8.0

    @property
    def name(self) -> str:
        return f"{super().name}, on and off every {self.period_seconds:g} s"

    async def sustain(self) -> None:
        """Toggle until cancelled; what is in flight then is the undo's to settle."""
        there = True
        while True:
            await asyncio.sleep(self.period_seconds)
            await (self.undo({}) if there else self.apply())
            there = not there


def _between(deployment: Deployment, site: str) -> dict[str, Any]:
    serving = deployment.serving[site]

    def pods(component: str) -> dict[str, Any]:
        return {"namespaces": [serving.namespace], "labelSelectors": {COMPONENT: component}}

    return {
        "mode": "all",
        "selector": pods(serving.gateway_deployment),
        "direction": "to",
        "target": {"mode": "all", "selector": pods(serving.triton_deployment)},
    }


def delay(seconds: float) -> dict[str, Any]:
    """Every packet comes so much later."""
    return {"action": "delay", "delay": {"latency": f"{round(seconds * 1000)}ms"}}


def partition() -> dict[str, Any]:
    """No packet comes."""
    return {"action": "partition"}
