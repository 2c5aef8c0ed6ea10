"""A machine of a private site loses power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from drills.access import cluster
from drills.actions.on_cluster import OnCluster
from drills.drill import DrillError, NotRun, Prior
from drills.rights import Right, rights
from stacks.contract import Deployment

GROUP: Final = "metal3.io"
VERSION: Final = "v1alpha1"
PLURAL: Final = "baremetalhosts"
SCHEME: Final = "metal3://"


@dataclass(frozen=True)
class PowerOff(OnCluster):
    """Turns a BareMetalHost off and on (https://book.metal3.io/bmo/features)."""

    kind: ClassVar[str] = "power-off"

    host: str

    @classmethod
    def of(cls, deployment: Deployment, site: str, provider_id: str) -> Self:
        """The machine behind a node's providerID. Raises NotRun where nobody here has its switch."""
        namespace = deployment.pool[site].machine_namespace
        if not namespace or not provider_id.startswith(SCHEME):
            raise NotRun(
                f"{site}: the machine {provider_id or 'of the node'} has no power switch a drill may use;"
                " a cloud replaces a stopped instance by itself: choose a private site"
            )
        # metal3://<namespace>/<host>/<machine>
        parts = provider_id.removeprefix(SCHEME).split("/")
        if len(parts) < 2 or parts[0] != namespace:
            raise NotRun(f"{site}: providerID {provider_id!r} names no host of namespace {namespace}")
        return cls(cluster(deployment, site), site, namespace, parts[1])

    @property
    def name(self) -> str:
        return f"power off machine {self.host} of {self.site}"

    @property
    def rights(self) -> list[Right]:
        """See drills.rights."""
        return rights(GROUP, PLURAL, self.namespace, "get", "patch")

    async def prepare(self) -> Prior:
        if not (await self._read())["spec"].get("online"):
            raise DrillError(f"{self.site}: machine {self.host} is off already: there is nothing to turn off")
        return {"online": True}

    async def apply(self) -> None:
        await self._switch(on=False)

    async def undo(self, prior: Prior) -> None:
        if prior["online"]:
            await self._switch(on=True)

    async def residue(self, prior: Prior) -> list[str]:
        off = prior["online"] and not (await self._read())["spec"].get("online")
        return [f"machine {self.host} is off"] if off else []

    async def _read(self) -> dict[str, Any]:
        get = self.cluster.custom.get_namespaced_custom_object
        found: dict[str, Any] = await self.ask(
            f"read {PLURAL}/{self.host}", get, GROUP, VERSION, self.namespace, PLURAL, self.host
        )
        return found

    async def _switch(self, *, on: bool) -> None:
        patch = {"spec": {"online": on}}
        write = self.cluster.custom.patch_namespaced_custom_object
        await self.ask(
            f"turn {self.host} {'on' if on else 'off'}",
            write,
            GROUP,
            VERSION,
            self.namespace,
            PLURAL,
            self.host,
            patch,
        )
