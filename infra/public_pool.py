"""The GPU cluster of a public site, on EKS."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import ec2, eks, iam, kms

GPU_TAINT: Final = "nvidia.com/gpu"
CLUSTER_POLICIES: Final = ("AmazonEKSClusterPolicy",)
NODE_POLICIES: Final = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
)
"""https://docs.aws.amazon.com/eks/latest/userguide/create-node-role.html"""
CONTROL_PLANE_LOGS: Final = ["api", "audit", "authenticator"]


@dataclass(frozen=True, kw_only=True)
class PublicPoolArgs:
    """What the cluster is called, where it stands and which nodes it has."""

    cluster_name: str
    kubernetes_version: str
    region: str
    subnet_ids: list[Output[str]]
    system_instance_type: str
    system_nodes: int
    gpu_instance_types: tuple[str, ...]
    gpu_nodes: int
    gpu_nodes_min: int
    gpu_nodes_max: int
    gpu_disk_gib: int = 100
    api_allowed_cidrs: tuple[str, ...] = ()
    exec_authentication: bool = True
    """Whether clients of the API fetch a token through the AWS CLI."""
    protect: bool = True
    network: list[pulumi.Resource] = field(default_factory=list)
    """What has to stand before a node can reach the cluster and the registries."""
    node_labels: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def kubeconfig(name: str, endpoint: str, authority: str, region: str, *, exec_authentication: bool) -> str:
    """A kubeconfig with no credential in it: at most the command that fetches one."""
    cluster: dict[str, Any] = {"server": endpoint}
    if endpoint.startswith("https:"):
        cluster["certificate-authority-data"] = authority
    fetch = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"],
        "interactiveMode": "Never",
    }
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": {"exec": fetch} if exec_authentication else {}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        },
        sort_keys=True,
    )


def trust(service: str) -> str:
    """The policy that lets one AWS service take a role."""
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
        },
        sort_keys=True,
    )


class PublicPool(pulumi.ComponentResource):
    """A cluster whose secrets are encrypted under a key of its own and whose GPU nodes take GPU work only."""

    cluster_name: Output[str]
    kubeconfig: Output[str]

    def __init__(self, name: str, args: PublicPoolArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:public_pool:PublicPool", name, {}, opts)
        cluster = self._cluster(name, args)
        node_role, rights = self._role(f"{name}-node", "ec2.amazonaws.com", NODE_POLICIES, args.tags)
        self._nodes(
            f"{name}-system",
            args,
            cluster,
            node_role,
            rights,
            ami_type="AL2023_x86_64_STANDARD",
            instance_types=[args.system_instance_type],
            disk_gib=50,
            scaling=eks.NodeGroupScalingConfigArgs(
                min_size=1, desired_size=args.system_nodes, max_size=args.system_nodes + 1
            ),
        )
        self._nodes(
            f"{name}-gpu",
            args,
            cluster,
            node_role,
            rights,
            ami_type="AL2023_x86_64_NVIDIA",
            # In order of preference: EKS takes the first type that has capacity.
            instance_types=list(args.gpu_instance_types),
            disk_gib=args.gpu_disk_gib,
            scaling=eks.NodeGroupScalingConfigArgs(
                min_size=args.gpu_nodes_min, desired_size=args.gpu_nodes, max_size=args.gpu_nodes_max
            ),
            taints=[eks.NodeGroupTaintArgs(key=GPU_TAINT, value="present", effect="NO_SCHEDULE")],
        )
        self.cluster_name = cluster.name
        self.kubeconfig = Output.all(cluster.name, cluster.endpoint, cluster.certificate_authority).apply(
            lambda known: kubeconfig(
                known[0], known[1], known[2]["data"], args.region, exec_authentication=args.exec_authentication
            )
        )
        self.register_outputs({"cluster_name": self.cluster_name, "kubeconfig": self.kubeconfig})

    def _cluster(self, name: str, args: PublicPoolArgs) -> eks.Cluster:
        child = ResourceOptions(parent=self)
        role, rights = self._role(f"{name}-cluster", "eks.amazonaws.com", CLUSTER_POLICIES, args.tags)
        key = kms.Key(
            f"{name}-secrets",
            description=f"Kubernetes secrets of {args.cluster_name}",
            enable_key_rotation=True,
            deletion_window_in_days=30,
            tags=args.tags,
            # Without the key the cluster cannot read its own secrets, and cannot be given another.
            opts=ResourceOptions.merge(child, ResourceOptions(protect=args.protect)),
        )
        kms.Alias(f"{name}-secrets", target_key_id=key.key_id, opts=child)
        return eks.Cluster(
            name,
            name=args.cluster_name,
            version=args.kubernetes_version,
            role_arn=role.arn,
            access_config=eks.ClusterAccessConfigArgs(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=True
            ),
            encryption_config=eks.ClusterEncryptionConfigArgs(
                provider=eks.ClusterEncryptionConfigProviderArgs(key_arn=key.arn), resources=["secrets"]
            ),
            enabled_cluster_log_types=CONTROL_PLANE_LOGS,
            vpc_config=eks.ClusterVpcConfigArgs(
                subnet_ids=args.subnet_ids,
                endpoint_private_access=True,
                endpoint_public_access=bool(args.api_allowed_cidrs),
                public_access_cidrs=list(args.api_allowed_cidrs) or None,
            ),
            tags=args.tags,
            # The control plane keeps its network interfaces as long as its role may remove them.
            opts=ResourceOptions.merge(child, ResourceOptions(protect=args.protect, depends_on=rights)),
        )

    def _role(
        self, name: str, service: str, policies: tuple[str, ...], tags: dict[str, str]
    ) -> tuple[iam.Role, list[pulumi.Resource]]:
        """A role for `service`, and what has to stand before the role can do anything."""
        child = ResourceOptions(parent=self)
        role = iam.Role(name, assume_role_policy=trust(service), tags=tags, opts=child)
        rights: list[pulumi.Resource] = [
            iam.RolePolicyAttachment(
                f"{name}-{policy}", role=role.name, policy_arn=f"arn:aws:iam::aws:policy/{policy}", opts=child
            )
            for policy in policies
        ]
        return role, rights

    def _nodes(
        self,
        name: str,
        args: PublicPoolArgs,
        cluster: eks.Cluster,
        role: iam.Role,
        rights: list[pulumi.Resource],
        *,
        ami_type: str,
        instance_types: list[str],
        disk_gib: int,
        scaling: eks.NodeGroupScalingConfigArgs,
        taints: list[eks.NodeGroupTaintArgs] | None = None,
    ) -> eks.NodeGroup:
        child = ResourceOptions(parent=self)
        template = ec2.LaunchTemplate(
            name,
            update_default_version=True,
            metadata_options=ec2.LaunchTemplateMetadataOptionsArgs(
                http_endpoint="enabled",
                http_tokens="required",
                # One hop: a pod cannot reach the node's own credentials.
                http_put_response_hop_limit=1,
            ),
            block_device_mappings=[
                ec2.LaunchTemplateBlockDeviceMappingArgs(
                    device_name="/dev/xvda",
                    ebs=ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                        volume_type="gp3", volume_size=disk_gib, encrypted="true", delete_on_termination="true"
                    ),
                )
            ],
            tag_specifications=[
                ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=args.tags)
                for kind in ("instance", "volume")
            ],
            tags=args.tags,
            opts=child,
        )
        return eks.NodeGroup(
            name,
            cluster_name=cluster.name,
            node_role_arn=role.arn,
            subnet_ids=args.subnet_ids,
            ami_type=ami_type,
            capacity_type="ON_DEMAND",
            instance_types=instance_types,
            launch_template=eks.NodeGroupLaunchTemplateArgs(id=template.id, version=template.latest_version.apply(str)),
            scaling_config=scaling,
            update_config=eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            labels=args.node_labels,
            taints=taints,
            tags=args.tags,
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[*rights, *args.network])),
        )
