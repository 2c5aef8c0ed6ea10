"""Nobody, or nobody from certain networks, reaches a site's gateways: packets are dropped, nothing is refused."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, ClassVar, Self

from drills.access import cluster
from drills.actions.on_cluster import OnCluster
from drills.drill import DrillError, Prior
from stacks.contract import Deployment


@dataclass(frozen=True)
class CutSources(OnCluster):
    """Takes networks, or everybody, out of the NetworkPolicy that lets traffic in.

    Policies only add up: beside one that allows, another that does not changes nothing. So the allowing one is edited.
    """

    kind: ClassVar[str] = "cut-sources"

    policy: str
    networks: list[str] = field(default_factory=list)
    """None: everybody."""

    @classmethod
    def of(cls, deployment: Deployment, site: str, networks: list[str] | None = None) -> Self:
        """At the gateways of a site."""
        serving = deployment.serving[site]
        return cls(cluster(deployment, site), site, serving.namespace, serving.gateway_policy, networks or [])

    @property
    def name(self) -> str:
        return f"drop what {', '.join(self.networks) or 'anybody'} sends to the gateways of {self.site}"

    async def prepare(self) -> Prior:
        ingress = await self._read()
        if not ingress or self._cut(ingress) == ingress:
            raise DrillError(
                f"{self.site}: NetworkPolicy {self.policy} lets in {ingress}: there is nothing to cut;"
                " bring the site up to date: tandem up"
            )
        return {"ingress": ingress}

    async def apply(self) -> None:
        await self._write(self._cut(await self._read()))

    async def undo(self, prior: Prior) -> None:
        """As it was before; where somebody has changed the policy since, only what is still ours is taken out."""
        now, before = await self._read(), prior["ingress"]
        if now == self._cut(before):
            await self._write(before)
        elif await self.residue(prior):
            await self._write(self._uncut(now, before))

    async def residue(self, prior: Prior) -> list[str]:
        now, before = await self._read(), prior["ingress"]
        cut = self._uncut(now, before) != now if self.networks else not now
        return [f"NetworkPolicy {self.policy} is cut"] if cut else []

    def _cut(self, ingress: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self.networks:
            return []
        rules = copy.deepcopy(ingress)
        for block in _blocks(rules):
            if inside := [network for network in self.networks if _within(network, block["cidr"])]:
                block["except"] = sorted({*(block.get("except") or ()), *inside})
        return rules

    def _uncut(self, ingress: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Without the exceptions that are ours: what blocks of the same network did not have before."""
        theirs = {(block["cidr"], each) for block in _blocks(before) for each in block.get("except") or ()}
        rules = copy.deepcopy(ingress)
        for block in _blocks(rules):
            had = block.get("except") or []
            left = [each for each in had if each not in self.networks or (block["cidr"], each) in theirs]
            if left:
                block["except"] = left
            elif had:
                del block["except"]
        return rules

    async def _read(self) -> list[dict[str, Any]]:
        read = self.cluster.networking.read_namespaced_network_policy
        found = await self.ask(f"read NetworkPolicy {self.policy}", read, self.policy, self.namespace)
        rules: list[dict[str, Any]] = self.cluster.api.sanitize_for_serialization(  # type: ignore[no-untyped-call]  # their stubs
            found.spec.ingress or []
        )
        return rules

    async def _write(self, ingress: list[dict[str, Any]]) -> None:
        patch = [{"op": "add", "path": "/spec/ingress", "value": ingress}]
        write = self.cluster.networking.patch_namespaced_network_policy
        await self.ask(f"change NetworkPolicy {self.policy}", write, self.policy, self.namespace, patch)


def _blocks(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [peer["ipBlock"] for rule in rules for peer in rule.get("from") or () if peer.get("ipBlock")]


def _within(network: str, cidr: str) -> bool:
    """Kubernetes refuses an exception that does not lie in its block."""
    inner, outer = ip_network(network), ip_network(cidr)
    return inner.version == outer.version and inner != outer and outer.supernet_of(inner)  # type: ignore[arg-type]  # of one version
