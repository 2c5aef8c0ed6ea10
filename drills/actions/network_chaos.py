"""A link inside a site is late or dead: a Chaos Mesh object of the drill's own, which expires by itself too.

https://chaos-mesh.org/docs/simulate-network-chaos-on-kubernetes/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

from drills.access import COMPONENT, cluster
from drills.actions.on_cluster import OnCluster
from drills.drill import DrillError, Prior
from drills.rights import Right, rights
from stacks.contract import Deployment

GROUP: Final = "chaos-mesh.org"
VERSION: Final = "v1alpha1"
PLURAL: Final = "networkchaos"
OBJECT: Final = "tandem-drill"
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

    @property
    def rights(self) -> list[Right]:
        """See drills.rights."""
        return rights(GROUP, PLURAL, self.namespace, "get", "delete")

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


async def _nobody_asked() -> None:
    return None


@dataclass
class Leave:
    """Who is asked before an action that goes on by itself changes something again."""

    ask: Callable[[], Awaitable[None]] = _nobody_asked
    """Raises DrillError where nothing may be changed any more."""


@dataclass(frozen=True)
class FlappingChaos(NetworkChaos):
    """The same, there for one period and gone for the next."""

    kind: ClassVar[str] = "flapping-chaos"

    period_seconds: float = 8.0
    leave: Leave = field(default_factory=Leave, repr=False, compare=False)

    @property
    def name(self) -> str:
        return f"{super().name}, on and off every {self.period_seconds:g} s"

    async def sustain(self) -> None:
        """Toggle until cancelled; what is in flight then is the undo's to settle. Raises what `leave` does."""
        there = True
        while True:
            await asyncio.sleep(self.period_seconds)
            if there:
                await self.undo({})
            else:
                await self.leave.ask()
                await self.apply()
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
