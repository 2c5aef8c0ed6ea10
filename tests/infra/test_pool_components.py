"""GPU pools of both kinds and the ways into them."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest

from infra.edge import Edge, EdgeArgs
from infra.network import Network, NetworkArgs, subnet_blocks
from infra.private_pool import PrivatePool, PrivatePoolArgs, remediation_limit
from infra.public_pool import PublicPool, PublicPoolArgs, kubeconfig
from tests.infra.recording import Graph, run

PRIVATE = PrivatePoolArgs(
    cluster_name="private",
    namespace="default",
    kubernetes_version="1.34.0",
    machine_template="gpu",
    bootstrap_template="gpu",
    gpu_nodes=2,
    gpu_nodes_min=0,
    gpu_nodes_max=5,
    gpu_type="nvidia.com/gpu",
    gpu_count=4,
    cpu=32,
    memory_gib=256,
    edge_address="192.0.2.10",
    load_balancer_namespace="metallb-system",
    labels={"tandem.io/site": "private"},
)


def private_pool() -> Graph:
    def declare() -> pulumi.Output[str]:
        management = kubernetes.Provider("management", kubeconfig="{}")
        workload = kubernetes.Provider("workload", kubeconfig="{}")
        return PrivatePool("private", PRIVATE, workload, pulumi.ResourceOptions(provider=management)).edge_address

    return run(declare)


def public_pool(**changes: Any) -> Graph:
    def declare() -> pulumi.Output[str]:
        args = PublicPoolArgs(
            cluster_name="public",
            kubernetes_version="1.34",
            region="eu-central-1",
            subnet_ids=[pulumi.Output.from_input("subnet-1"), pulumi.Output.from_input("subnet-2")],
            system_instance_type="m7i.large",
            system_nodes=2,
            gpu_instance_types=("g6.xlarge", "g5.xlarge"),
            gpu_nodes=2,
            gpu_nodes_min=1,
            gpu_nodes_max=4,
            tags={"tandem.io/site": "public"},
        )
        return PublicPool("public", replace(args, **changes)).kubeconfig

    return run(declare)


def test_an_empty_private_pool_tells_the_autoscaler_what_a_machine_would_bring() -> None:
    machines = private_pool().one("MachineDeployment")
    prefix = "capacity.cluster-autoscaler.kubernetes.io"
    annotations = machines["metadata"]["annotations"]
    assert annotations[f"{prefix}/gpu-count"] == "4"
    assert annotations[f"{prefix}/gpu-type"] == "nvidia.com/gpu"
    assert annotations[f"{prefix}/cpu"] == "32"
    assert annotations[f"{prefix}/memory"] == "256Gi"
    assert annotations[f"{prefix}/taints"] == "nvidia.com/gpu=present:NoSchedule"
    assert annotations["cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size"] == "5"
    assert machines["spec"]["replicas"] == 2


def test_machine_selectors_find_the_machines_they_stand_beside() -> None:
    graph = private_pool()
    labels = graph.one("MachineDeployment")["spec"]["template"]["metadata"]["labels"]
    for kind in ("MachineDeployment", "MachineHealthCheck"):
        assert graph.one(kind)["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(("nodes", "at_once"), [(0, 1), (2, 1), (5, 2), (10, 4)])
def test_many_ill_machines_at_once_are_left_alone(nodes: int, at_once: int) -> None:
    assert remediation_limit(nodes) == at_once


def test_machines_go_to_the_management_cluster_and_the_address_to_the_workload_cluster() -> None:
    graph = private_pool()
    assert "::management::" in graph.request("MachineDeployment", "private-gpu").provider
    assert "::workload::" in graph.request("IPAddressPool", "private-edge").provider
    assert graph.one("IPAddressPool")["spec"] == {"addresses": ["192.0.2.10/32"], "autoAssign": False}
    assert graph.result == "192.0.2.10"
    assert graph.without_parent() <= {"pulumi:providers:kubernetes"}


def test_the_secrets_of_a_public_cluster_are_encrypted_under_its_own_key() -> None:
    cluster = public_pool().one("Cluster")
    assert cluster["encryptionConfig"] == {
        "provider": {"keyArn": "arn:aws:kms:::key/public-secrets"},
        "resources": ["secrets"],
    }
    assert "audit" in cluster["enabledClusterLogTypes"]
    assert cluster["tags"]["tandem.io/site"] == "public"


@pytest.mark.parametrize(
    ("allowed", "public"), [((), False), (("192.0.2.0/24",), True)], ids=["nobody named", "one network"]
)
def test_the_public_api_is_open_to_named_networks_only(allowed: tuple[str, ...], public: bool) -> None:
    network = public_pool(api_allowed_cidrs=allowed).one("Cluster")["vpcConfig"]
    assert network["endpointPublicAccess"] is public
    assert network.get("publicAccessCidrs", []) == list(allowed)
    assert network["endpointPrivateAccess"] is True


def test_gpu_nodes_take_gpu_work_only_and_the_preferred_type_comes_first() -> None:
    gpu = public_pool().one("NodeGroup", "public-gpu")
    assert gpu["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}]
    assert gpu["instanceTypes"] == ["g6.xlarge", "g5.xlarge"]
    assert gpu["amiType"] == "AL2023_x86_64_NVIDIA"
    assert gpu["scalingConfig"] == {"minSize": 1, "desiredSize": 2, "maxSize": 4}


def test_system_nodes_have_no_taint() -> None:
    assert "taints" not in public_pool().one("NodeGroup", "public-system")


@pytest.mark.parametrize("name", ["public-system", "public-gpu"])
def test_every_node_refuses_old_metadata_requests_and_encrypts_its_disk(name: str) -> None:
    template = public_pool().one("LaunchTemplate", name)
    assert template["metadataOptions"]["httpTokens"] == "required"
    assert template["metadataOptions"]["httpPutResponseHopLimit"] == 1
    [disk] = template["blockDeviceMappings"]
    assert disk["ebs"]["encrypted"] == "true"
    assert disk["ebs"]["volumeType"] == "gp3"


def test_nodes_wait_for_their_rights() -> None:
    graph = public_pool()
    waits = " ".join(graph.request("NodeGroup", "public-gpu").dependencies)
    assert "AmazonEKSWorkerNodePolicy" in waits
    assert graph.without_parent() == set()


def test_a_kubeconfig_holds_the_command_that_fetches_a_token_and_no_token() -> None:
    config = json.loads(public_pool().result)
    [user] = config["users"]
    assert user["user"]["exec"]["args"][:2] == ["eks", "get-token"]
    assert config["clusters"][0]["cluster"]["certificate-authority-data"] == "Y2VydA=="


def test_an_api_that_asks_for_nothing_gets_nothing() -> None:
    config = json.loads(kubeconfig("lab", "http://127.20.0.1:6443", "x", "eu-central-1", exec_authentication=False))
    assert config["users"] == [{"name": "lab", "user": {}}]
    assert config["clusters"][0]["cluster"] == {"server": "http://127.20.0.1:6443"}


@pytest.mark.parametrize("zones", [2, 3, 4])
@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "10.0.0.0/20"])
def test_subnets_of_a_network_do_not_overlap_and_stay_when_a_zone_is_added(cidr: str, zones: int) -> None:
    public, private = subnet_blocks(cidr, zones)
    blocks = [ipaddress.IPv4Network(block) for block in public + private]
    assert all(block.subnet_of(ipaddress.IPv4Network(cidr)) for block in blocks)
    assert not any(one.overlaps(other) for one in blocks for other in blocks if one is not other)
    assert all(block.prefixlen <= 28 for block in blocks), "AWS takes no subnet smaller than /28"
    assert subnet_blocks(cidr, 4)[0][:zones] == public
    assert subnet_blocks(cidr, 4)[1][:zones] == private


def network() -> Graph:
    zones = ("eu-central-1a", "eu-central-1b")
    return run(lambda: Network("public", NetworkArgs(cidr="10.0.0.0/16", zones=zones)).vpc_id)


def test_each_zone_has_its_own_way_out() -> None:
    graph = network()
    assert len(graph.of("NatGateway")) == 2
    for zone in ("eu-central-1a", "eu-central-1b"):
        [route] = graph.one("RouteTable", f"public-private-{zone}")["routes"]
        assert route["natGatewayId"] == f"public-nat-{zone}-id"


def test_no_private_subnet_is_routed_from_the_internet() -> None:
    graph = network()
    [route] = graph.one("RouteTable", "public-public")["routes"]
    assert route["gatewayId"] == "public-internet-id"
    assert all(
        "gatewayId" not in route
        for name, table in graph.of("RouteTable").items()
        if name != "public-public"
        for route in table["routes"]
    )
    assert graph.without_parent() == set()


def test_the_edge_keeps_its_addresses_and_opens_one_port() -> None:
    subnets = [pulumi.Output.from_input(f"subnet-{number}") for number in (1, 2)]
    args = EdgeArgs(vpc_id="vpc", subnet_ids=subnets, port=443, target_port=8080, health_path="/healthz")
    graph = run(lambda: Edge("edge", args).address)
    assert [entry["allocationId"] for entry in graph.one("LoadBalancer")["subnetMappings"]] == [
        "edge-1-id",
        "edge-2-id",
    ]
    assert [(rule["fromPort"], rule["toPort"]) for rule in graph.one("SecurityGroup")["ingress"]] == [(443, 443)]
    assert graph.one("TargetGroup")["targetType"] == "ip"
    assert graph.one("TargetGroup")["preserveClientIp"] == "true", "or policies see the balancer in a client's place"
    assert graph.one("TargetGroup")["healthCheck"]["path"] == "/healthz"
    assert graph.request("Eip", "edge-1").protect is True
    assert graph.result == "192.0.2.1"
    assert graph.without_parent() == set()
