"""Nobody, or nobody from certain networks, reaches a site's gateways: packets are dropped, nothing is refused."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, ClassVar, Final, Self

from drills.access import cluster
from drills.actions.on_cluster import OnCluster, status_of
from drills.drill import DrillError, Prior
from drills.rights import Right, rights
from stacks.contract import Deployment

CHANGED_MEANWHILE: Final = (409, 422)
"""How an API refuses a patch for another version: in conflict, or because its `test` fails."""
TRIES: Final = 5
RETRY_SECONDS: Final = 0.1

Rules = list[dict[str, Any]]


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

    @property
    def rights(self) -> list[Right]:
        """See drills.rights."""
        return rights("networking.k8s.io", "networkpolicies", self.namespace, "get", "patch")

    async def prepare(self) -> Prior:
        ingress, _ = await self._read()
        if not ingress or self._cut(ingress) == ingress:
            raise DrillError(
                f"{self.site}: NetworkPolicy {self.policy} lets in {ingress}: there is nothing to cut;"
                " bring the site up to date: tandem up"
            )
        return {"ingress": ingress}

    async def apply(self) -> None:
        await self._edit(self._cut)

    async def undo(self, prior: Prior) -> None:
        """As it was before; where somebody has changed the policy since, only what is still ours is taken out."""
        before = prior["ingress"]
        await self._edit(lambda now: before if now == self._cut(before) else self._uncut(now, before))

    async def residue(self, prior: Prior) -> list[str]:
        now, _ = await self._read()
        cut = self._uncut(now, prior["ingress"]) != now if self.networks else not now
        return [f"NetworkPolicy {self.policy} is cut"] if cut else []

    async def _edit(self, change: Callable[[Rules], Rules]) -> None:
        """Change what is there, and nothing that somebody else has changed since it was read."""
        for left in reversed(range(TRIES)):
            now, version = await self._read()
            wanted = change(now)
            if wanted == now:
                return
            try:
                await self._write(wanted, version)
            except DrillError as error:
                if not left or status_of(error) not in CHANGED_MEANWHILE:
                    raise
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _cut(self, ingress: Rules) -> Rules:
        if not self.networks:
            return []
        rules = copy.deepcopy(ingress)
        for block in _blocks(rules):
            if inside := [network for network in self.networks if _within(network, block["cidr"])]:
                block["except"] = sorted({*(block.get("except") or ()), *inside})
        return rules

    def _uncut(self, ingress: Rules, before: Rules) -> Rules:
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

    async def _read(self) -> tuple[Rules, str]:
        """What it lets in, and its version."""
        read = self.cluster.networking.read_namespaced_network_policy
        found = await self.ask(f"read NetworkPolicy {self.policy}", read, self.policy, self.namespace)
        rules: Rules = self.cluster.api.sanitize_for_serialization(  # type: ignore[no-untyped-call]  # their stubs
            found.spec.ingress or []
        )
        return rules, str(found.metadata.resource_version)

    async def _write(self, ingress: Rules, version: str) -> None:
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "add", "path": "/spec/ingress", "value": ingress},
        ]
        write = self.cluster.networking.patch_namespaced_network_policy
        await self.ask(f"change NetworkPolicy {self.policy}", write, self.policy, self.namespace, patch)


def _blocks(rules: Rules) -> list[dict[str, Any]]:
    return [peer["ipBlock"] for rule in rules for peer in rule.get("from") or () if peer.get("ipBlock")]


def _within(network: str, cidr: str) -> bool:
    """Kubernetes refuses an exception that does not lie in its block."""
    inner, outer = ip_network(network), ip_network(cidr)
    return inner.version == outer.version and inner != outer and outer.supernet_of(inner)  # type: ignore[arg-type]  # of one version
