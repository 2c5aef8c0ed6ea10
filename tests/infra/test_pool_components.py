"""The cluster of a public site, its network and the way into it."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any

import pulumi
import pytest

from infra.edge import Edge, EdgeArgs
from infra.identity import bind_targets
from infra.network import Network, NetworkArgs, subnet_blocks
from infra.public_pool import AFTER_NODES, BEFORE_NODES, PublicPool, PublicPoolArgs, kubeconfig
from infra.settings_pool_public import BOTTLEROCKET, SPOT, AccessEntry, InstancePool
from tests.infra.recording import Graph, run


def public_pool(**changes: Any) -> Graph:
    def declare() -> pulumi.Output[str]:
        args = PublicPoolArgs(
            cluster_name="public",
            kubernetes_version="1.34",
            region="eu-central-1",
            subnet_ids=[pulumi.Output.from_input("subnet-1"), pulumi.Output.from_input("subnet-2")],
            system_instance_type="m7i.large",
            system_nodes=2,
            zones=("eu-central-1a", "eu-central-1b"),
            pools=(InstancePool(name="gpu", instance_types=("g6.xlarge", "g5.xlarge"), min=1, desired=2, max=4),),
            tags={"tandem.io/site": "public"},
        )
        return PublicPool("public", replace(args, **changes)).kubeconfig

    return run(declare)


def edge(subnets: int, **changes: Any) -> Graph:
    def declare() -> pulumi.Output[str]:
        ids = [pulumi.Output.from_input(f"subnet-{number}") for number in range(1, subnets + 1)]
        args = EdgeArgs(vpc_id="vpc", subnet_ids=ids, port=443, target_port=8080, health_path="/healthz")
        return Edge("edge", replace(args, **changes)).address

    return run(declare)


@pytest.mark.parametrize("name", ["public-gpu", "public-system"])
def test_two_node_groups_of_one_role_can_stand_side_by_side(name: str) -> None:
    graph = public_pool()
    group, request = graph.one("NodeGroup", name), graph.request("NodeGroup", name)
    assert "nodeGroupName" not in group, "a name of its own would have to be free before the new one can take it"
    assert not request.deleteBeforeReplaceDefined
    assert "name" not in graph.one("LaunchTemplate", name)


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


def gpu_pool(**changes: Any) -> Graph:
    return public_pool(pools=(InstancePool(name="gpu", **{"min": 1, "desired": 1, "max": 3, **changes}),))


def test_each_pool_has_a_group_of_its_own() -> None:
    pools = (InstancePool(name="gpu"), InstancePool(name="burst", capacity=SPOT, min=0, desired=0, max=3))
    graph = public_pool(pools=pools)
    assert set(graph.of("NodeGroup")) == {"public-system", "public-gpu", "public-burst"}
    assert graph.one("NodeGroup", "public-burst")["capacityType"] == "SPOT"
    assert graph.one("NodeGroup", "public-gpu")["capacityType"] == "ON_DEMAND"


@pytest.mark.parametrize("autoscaled", [True, False])
def test_a_number_an_autoscaler_moves_is_left_to_it(autoscaled: bool) -> None:
    request = gpu_pool(autoscaled=autoscaled).request("NodeGroup", "public-gpu")
    assert list(request.ignoreChanges) == (["scalingConfig.desiredSize"] if autoscaled else [])


def test_bottlerocket_keeps_images_on_a_second_encrypted_disk() -> None:
    disks = gpu_pool(image=BOTTLEROCKET, disk_gib=200).one("LaunchTemplate", "public-gpu")["blockDeviceMappings"]
    assert {disk["deviceName"]: disk["ebs"]["volumeSize"] for disk in disks} == {"/dev/xvda": 4, "/dev/xvdb": 200}
    assert {disk["ebs"]["encrypted"] for disk in disks} == {"true"}


def test_a_reservation_is_made_where_the_pool_says_and_its_nodes_stand_there() -> None:
    graph = gpu_pool(instance_types=("g6.xlarge",), reserve_in="eu-central-1b", min=2, desired=2)
    made = graph.one("CapacityReservation")
    assert made["instanceCount"] == 2
    assert made["availabilityZone"] == "eu-central-1b"
    assert graph.one("NodeGroup", "public-gpu")["subnetIds"] == ["subnet-2"]


def test_a_pool_larger_than_its_reservation_gets_nodes_on_top() -> None:
    graph = gpu_pool(instance_types=("g6.xlarge",), reserve_in="eu-central-1b", min=2, desired=2, max=5)
    assert graph.one("CapacityReservation")["instanceMatchCriteria"] == "open"
    taken = graph.one("LaunchTemplate", "public-gpu")["capacityReservationSpecification"]
    assert taken == {"capacityReservationPreference": "open"}, "a target would refuse what is above it"


def test_a_reservation_comes_before_its_nodes_and_goes_after_them() -> None:
    graph = gpu_pool(instance_types=("g6.xlarge",), reserve_in="eu-central-1b", min=2, desired=2)
    urns = graph.request("NodeGroup", "public-gpu").dependencies
    assert any("CapacityReservation::public-gpu" in urn for urn in urns)
    assert not graph.request("CapacityReservation", "public-gpu").deleteBeforeReplaceDefined


def test_a_reservation_that_exists_is_named_and_none_is_made() -> None:
    graph = gpu_pool(instance_types=("g6.xlarge",), reservation="cr-0123456789abcdef0")
    assert graph.of("CapacityReservation") == {}
    target = graph.one("LaunchTemplate", "public-gpu")["capacityReservationSpecification"]["capacityReservationTarget"]
    assert target["capacityReservationId"] == "cr-0123456789abcdef0"


@pytest.mark.parametrize(("protect", "kept"), [(True, True), (False, False)])
def test_eks_refuses_to_delete_a_cluster_as_long_as_it_is_protected(protect: bool, kept: bool) -> None:
    cluster = public_pool(protect=protect).one("Cluster")
    assert cluster["deletionProtection"] is kept
    assert public_pool(protect=protect, deletion_protection=False).one("Cluster")["deletionProtection"] is False


def test_what_happens_at_the_end_of_a_versions_support_is_always_said() -> None:
    """Left out, EKS would keep what it was told before."""
    assert public_pool().one("Cluster")["upgradePolicy"] == {"supportType": "EXTENDED"}
    assert public_pool(kubernetes_support="standard").one("Cluster")["upgradePolicy"] == {"supportType": "STANDARD"}


def test_nodes_have_the_control_planes_version_and_wait_for_it() -> None:
    graph = public_pool(kubernetes_version="1.35")
    assert {group["version"] for group in graph.of("NodeGroup").values()} == {"1.35"}
    assert graph.one("Cluster")["version"] == "1.35"
    assert any("eks/cluster:Cluster" in urn for urn in graph.request("NodeGroup", "public-gpu").dependencies)


def test_the_network_plugin_enforces_policies_before_a_node_joins() -> None:
    graph = public_pool()
    assert set(graph.of("Addon")) == {f"public-{name}" for name in (*BEFORE_NODES, *AFTER_NODES)}
    assert json.loads(graph.one("Addon", "public-vpc-cni")["configurationValues"]) == {"enableNetworkPolicy": "true"}
    waits = " ".join(graph.request("NodeGroup", "public-gpu").dependencies)
    assert "public-vpc-cni" in waits
    assert "public-system" in " ".join(graph.request("Addon", "public-coredns").dependencies)


def test_an_add_on_has_the_version_asked_for_and_is_left_out_where_something_else_installs_it() -> None:
    graph = public_pool(addons={"coredns": "v1.12.4-eksbuild.1"}, addons_elsewhere=("metrics-server",))
    assert graph.one("Addon", "public-coredns")["addonVersion"] == "v1.12.4-eksbuild.1"
    assert "public-metrics-server" not in graph.of("Addon")


def test_an_access_entry_has_its_policy_where_it_says() -> None:
    reader = AccessEntry(principal="arn:aws:iam::111122223333:role/readers", namespaces=("tandem",))
    admin = AccessEntry(principal="arn:aws:iam::111122223333:role/ops", policy="AmazonEKSClusterAdminPolicy")
    graph = public_pool(access_entries=(reader, admin), creator_is_admin=False)
    assert graph.one("Cluster")["accessConfig"]["bootstrapClusterCreatorAdminPermissions"] is False
    of_reader = graph.one("AccessPolicyAssociation", "public-readers")
    assert of_reader["accessScope"] == {"type": "namespace", "namespaces": ["tandem"]}
    assert of_reader["policyArn"].endswith("cluster-access-policy/AmazonEKSViewPolicy")
    assert graph.one("AccessPolicyAssociation", "public-ops")["accessScope"] == {"type": "cluster"}


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
    return run(
        lambda: (
            Network(
                "public", NetworkArgs(cidr="10.0.0.0/16", zones=zones, region="eu-central-1", flow_log_days=30)
            ).vpc_id
        )
    )


def test_each_zone_has_its_own_way_out() -> None:
    graph = network()
    assert len(graph.of("NatGateway")) == 2
    for zone in ("eu-central-1a", "eu-central-1b"):
        [route] = graph.one("RouteTable", f"public-private-{zone}")["routes"]
        assert route["natGatewayId"] == f"public-nat-{zone}-id"


def test_models_come_from_the_store_past_the_nat_gateways() -> None:
    endpoint = network().one("VpcEndpoint")
    assert endpoint["serviceName"] == "com.amazonaws.eu-central-1.s3"
    assert endpoint["routeTableIds"] == ["public-private-eu-central-1a-id", "public-private-eu-central-1b-id"]


def test_flows_are_kept_for_the_days_asked_for_by_a_role_that_may_do_nothing_else() -> None:
    graph = network()
    assert graph.one("FlowLog")["trafficType"] == "ALL"
    assert graph.one("LogGroup")["retentionInDays"] == 30
    [statement] = json.loads(graph.one("RolePolicy")["policy"])["Statement"]
    assert all(action.startswith("logs:") for action in statement["Action"])
    assert statement["Resource"] != "*"


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


@pytest.mark.parametrize("bucket", ["", "tandem-audit"])
def test_who_connects_is_logged_where_a_bucket_takes_it(bucket: str) -> None:
    graph = edge(1, certificate_arn="arn:aws:acm:::certificate", log_bucket=bucket)
    logs = graph.one("LoadBalancer").get("accessLogs")
    assert logs == ({"bucket": "tandem-audit", "prefix": "edge", "enabled": True} if bucket else None)


def test_who_binds_gateways_may_open_the_clusters_own_security_group_for_them_and_no_other() -> None:
    statements = {each["Sid"]: each for each in bind_targets("arn:aws:tg:::edge", "public")["Statement"]}
    opening = statements["Open"]
    assert opening["Action"] == ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
    assert opening["Condition"] == {"StringEquals": {"aws:ResourceTag/kubernetes.io/cluster/public": "owned"}}
    assert statements["Bind"]["Resource"] == "arn:aws:tg:::edge"


def test_the_edge_keeps_its_addresses_and_opens_one_port() -> None:
    graph = edge(2)
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
