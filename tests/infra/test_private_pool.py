"""GPU pools of a private site, made or adopted, and the address its traffic enters at."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest

from infra.adopted_pool import AdoptedNodes, AdoptedNodesArgs
from infra.private_edge import PrivateEdge, PrivateEdgeArgs
from infra.private_pool import PrivatePool, PrivatePoolArgs, remediation_limit
from infra.settings_pool import AdoptedPool, MachinePool
from tests.infra.recording import Graph, run

A100 = MachinePool(
    name="a100",
    gpu_count=4,
    cpu=32,
    memory_gib=256,
    min=0,
    desired=2,
    max=5,
    autoscaled=True,
    machine_template="dgx",
    labels={"node.cluster.x-k8s.io/rack": "b"},
)
L4 = MachinePool(name="l4", min=1, desired=2, max=2, remediation_template="power-cycle", node_startup_minutes=45)
CAPACITY = "capacity.cluster-autoscaler.kubernetes.io"
BOUND = "cluster.x-k8s.io/cluster-api-autoscaler-node-group"


def made(graph: Graph) -> set[str]:
    """Types of what is really made, besides components, providers and the stack itself."""
    return {kind for kind in graph.types() if not kind.startswith(("pulumi:", "tandem:"))}


def machines(*pools: MachinePool) -> Graph:
    def declare() -> pulumi.Output[str]:
        management = kubernetes.Provider("management", kubeconfig="{}")
        args = PrivatePoolArgs(
            cluster_name="private",
            namespace="metal",
            kubernetes_version="1.34.0",
            pools=pools or (A100, L4),
            labels={"tandem.io/site": "private"},
        )
        return PrivatePool("private", args, pulumi.ResourceOptions(provider=management)).cluster_name

    return run(declare)


def test_each_pool_has_machines_and_a_health_check_of_its_own() -> None:
    graph = machines()
    for kind in ("MachineDeployment", "MachineHealthCheck"):
        names = {each["metadata"]["name"] for each in graph.of(kind).values()}
        assert names == {"private-a100", "private-l4"}
    assert {each["metadata"]["namespace"] for each in graph.of("MachineDeployment").values()} == {"metal"}
    assert graph.one("MachineDeployment", "private-a100")["spec"]["template"]["spec"]["infrastructureRef"] == {
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
        "kind": "Metal3MachineTemplate",
        "name": "dgx",
    }
    assert graph.result == "private"
    assert graph.without_parent() <= {"pulumi:providers:kubernetes"}


def test_an_empty_pool_tells_the_autoscaler_what_a_machine_would_bring() -> None:
    annotations = machines().one("MachineDeployment", "private-a100")["metadata"]["annotations"]
    assert annotations == {
        f"{BOUND}-min-size": "0",
        f"{BOUND}-max-size": "5",
        f"{CAPACITY}/cpu": "32",
        f"{CAPACITY}/memory": "256Gi",
        f"{CAPACITY}/gpu-type": "nvidia.com/gpu",
        f"{CAPACITY}/gpu-count": "4",
        f"{CAPACITY}/labels": "node.cluster.x-k8s.io/pool=a100,node.cluster.x-k8s.io/rack=b",
        f"{CAPACITY}/taints": "nvidia.com/gpu=present:NoSchedule",
    }


def test_what_the_autoscaler_may_move_is_not_fought_and_the_rest_is_not_offered_to_it() -> None:
    graph = machines()
    moved, fixed = (graph.request("MachineDeployment", name) for name in ("private-a100", "private-l4"))
    assert list(moved.ignoreChanges) == ["spec.replicas"]
    assert list(fixed.ignoreChanges) == []
    annotations = graph.one("MachineDeployment", "private-l4")["metadata"]["annotations"]
    assert not [name for name in annotations if name.startswith(BOUND)]
    assert graph.one("MachineDeployment", "private-l4")["spec"]["replicas"] == 2


def test_machine_selectors_find_the_machines_of_their_pool_and_no_other() -> None:
    graph = machines()
    labels = {
        name: each["spec"]["template"]["metadata"]["labels"] for name, each in graph.of("MachineDeployment").items()
    }
    for kind, suffix in (("MachineDeployment", ""), ("MachineHealthCheck", "-health")):
        for name in labels:
            selector = graph.one(kind, name + suffix)["spec"]["selector"]["matchLabels"].items()
            assert [found for found in labels if selector <= labels[found].items()] == [name]


def test_labels_of_a_pool_reach_its_nodes_by_way_of_the_machines() -> None:
    labels = machines().one("MachineDeployment", "private-a100")["spec"]["template"]["metadata"]["labels"]
    assert labels["node.cluster.x-k8s.io/rack"] == "b"
    assert labels["node.cluster.x-k8s.io/pool"] == "a100"


@pytest.mark.parametrize(
    ("pool", "at_once"),
    [
        (MachinePool(name="gpu", desired=0, max=1), 0),
        (MachinePool(name="gpu", desired=1, max=1), 0),
        (MachinePool(name="gpu", desired=2, max=2), 1),
        (MachinePool(name="gpu", desired=5, max=5), 2),
        (MachinePool(name="gpu", desired=10, max=10), 4),
        (A100, "40%"),
    ],
    ids=["none", "one", "two", "five", "ten", "autoscaled"],
)
def test_many_ill_machines_at_once_are_left_alone_and_so_is_a_lone_one(pool: MachinePool, at_once: int | str) -> None:
    assert remediation_limit(pool) == at_once
    checks = machines(pool).one("MachineHealthCheck")["spec"]
    assert checks["maxUnhealthy"] == at_once


def test_a_health_check_waits_for_slow_machines_and_cycles_their_power_first_where_told() -> None:
    graph = machines()
    slow = graph.one("MachineHealthCheck", "private-l4-health")["spec"]
    assert slow["nodeStartupTimeout"] == "45m"
    assert slow["remediationTemplate"] == {
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
        "kind": "Metal3RemediationTemplate",
        "name": "power-cycle",
        "namespace": "metal",
    }
    assert {(each["status"], each["timeout"]) for each in slow["unhealthyConditions"]} == {
        ("False", "300s"),
        ("Unknown", "300s"),
    }
    assert "remediationTemplate" not in graph.one("MachineHealthCheck", "private-a100-health")["spec"]


def adopted(*pools: AdoptedPool) -> Graph:
    def declare() -> pulumi.Output[str]:
        workload = kubernetes.Provider("workload", kubeconfig="{}")
        args = AdoptedNodesArgs(cluster_name="edge", pools=pools, labels={"tandem.io/site": "edge"})
        return AdoptedNodes("edge", args, pulumi.ResourceOptions(provider=workload)).cluster_name

    return run(declare)


def test_nodes_that_exist_get_labels_and_the_taint_and_nothing_else() -> None:
    graph = adopted(
        AdoptedPool(name="gpu", nodes=("gpu-1", "gpu-2.rack.example"), labels={"rack": "b"}),
        AdoptedPool(name="old", nodes=("gpu-3",), taint=False),
    )
    assert set(graph.of("NodePatch")) == {"edge-gpu-gpu-1", "edge-gpu-gpu-2.rack.example", "edge-old-gpu-3"}
    tainted = graph.one("NodePatch", "edge-gpu-gpu-1")
    assert tainted["metadata"] == {
        "name": "gpu-1",
        "labels": {"tandem.io/site": "edge", "tandem.io/pool": "gpu", "rack": "b"},
    }
    assert tainted["spec"] == {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}
    assert "spec" not in graph.one("NodePatch", "edge-old-gpu-3"), "its taint is somebody else's"
    assert made(graph) == {"kubernetes:core/v1:NodePatch"}
    assert graph.result == "edge"


def edge(**changes: Any) -> Graph:
    given: dict[str, Any] = {
        "mode": "metallb",
        "address": "10.0.8.10",
        "public_address": "192.0.2.10",
        "service_labels": {"app.kubernetes.io/name": "gateway"},
        **changes,
    }

    def declare() -> pulumi.Output[Any]:
        workload = kubernetes.Provider("workload", kubeconfig="{}")
        found = PrivateEdge("edge", PrivateEdgeArgs(**given), pulumi.ResourceOptions(provider=workload))
        return pulumi.Output.all(found.address, found.annotations, found.traffic_policy)

    return run(declare)


def test_metallb_keeps_the_address_for_the_service_that_asks_for_it_by_name() -> None:
    graph = edge()
    assert graph.one("IPAddressPool")["spec"] == {"addresses": ["10.0.8.10/32"], "autoAssign": False}
    assert graph.one("L2Advertisement")["spec"] == {"ipAddressPools": ["tandem-edge"]}
    assert graph.result == ["192.0.2.10", {"metallb.io/loadBalancerIPs": "10.0.8.10"}, "Local"]
    assert "::workload::" in graph.request("IPAddressPool", "edge").provider


def test_cilium_keeps_the_address_for_the_gateway_and_answers_for_it_from_any_node() -> None:
    graph = edge(mode="cilium", interfaces=("^eth[0-9]+",))
    only = {"serviceSelector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}}}
    assert graph.one("CiliumLoadBalancerIPPool")["spec"] == {"blocks": [{"cidr": "10.0.8.10/32"}], **only}
    assert graph.one("CiliumL2AnnouncementPolicy")["spec"] == {
        "loadBalancerIPs": True,
        "interfaces": ["^eth[0-9]+"],
        **only,
    }
    assert graph.result == ["192.0.2.10", {"lbipam.cilium.io/ips": "10.0.8.10"}, "Cluster"]
    assert not graph.of("IPAddressPool")


def test_for_somebody_elses_load_balancer_nothing_is_made() -> None:
    graph = edge(mode="external")
    assert made(graph) == set()
    assert graph.result == ["192.0.2.10", {}, "Local"]
