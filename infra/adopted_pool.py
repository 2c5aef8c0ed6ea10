"""GPU nodes of a private site that exist already: labelled and kept for GPU work, by their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_kubernetes.core.v1 import NodePatch, NodeSpecPatchArgs, TaintPatchArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaPatchArgs

from infra.settings_pool import AdoptedPool

POOL_LABEL: Final = "tandem.io/pool"
TAINT_KEY: Final = "nvidia.com/gpu"


@dataclass(frozen=True, kw_only=True)
class AdoptedNodesArgs:
    """Which nodes, in which pools, of which cluster."""

    cluster_name: str
    pools: tuple[AdoptedPool, ...]
    labels: dict[str, str] = field(default_factory=dict)


class AdoptedNodes(pulumi.ComponentResource):
    """Nodes that carry the site's labels and take GPU work only, for as long as they are declared here.

    A node's list of taints is one field: where something else has set it, server-side apply refuses to overwrite it
    and names who did. Nothing is forced. A node that is no longer declared gets its own labels and taints back.
    """

    cluster_name: Output[str]

    def __init__(self, name: str, args: AdoptedNodesArgs, opts: ResourceOptions | None = None) -> None:
        """`opts` carries the provider of the cluster the nodes belong to."""
        super().__init__("tandem:adopted_pool:AdoptedNodes", name, {}, opts)
        child = ResourceOptions(parent=self)
        patches = [
            NodePatch(
                f"{name}-{pool.name}-{node}",
                metadata=ObjectMetaPatchArgs(name=node, labels={**args.labels, **pool.labels, POOL_LABEL: pool.name}),
                spec=NodeSpecPatchArgs(taints=[TaintPatchArgs(key=TAINT_KEY, value="present", effect="NoSchedule")])
                if pool.taint
                else None,
                opts=child,
            )
            for pool in args.pools
            for node in pool.nodes
        ]
        # Known only once every node is patched: what reads it waits for them.
        self.cluster_name = Output.all(*(each.id for each in patches)).apply(lambda _: args.cluster_name)
        self.register_outputs({"cluster_name": self.cluster_name})
