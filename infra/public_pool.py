"""The GPU cluster of a public site, on EKS."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import eks, iam, kms

from infra.public_nodes import Nodes, NodesArgs
from infra.settings_pool_public import EXTENDED, AccessEntry, InstancePool

BEFORE_NODES: Final = ("vpc-cni", "kube-proxy", "eks-pod-identity-agent")
AFTER_NODES: Final = ("coredns", "metrics-server")
ADDON_SETTINGS: Final = {
    # Without it the network plugin accepts NetworkPolicies and enforces none
    # (https://docs.aws.amazon.com/eks/latest/userguide/cni-network-policy-configure.html).
    "vpc-cni": {"enableNetworkPolicy": "true"},
}
ACCESS_POLICY_ARN: Final = "arn:aws:eks::aws:cluster-access-policy/{}"
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
    kubernetes_support: str = EXTENDED
    region: str
    subnet_ids: list[Output[str]]
    system_instance_type: str
    system_nodes: int
    pools: tuple[InstancePool, ...]
    zones: tuple[str, ...]
    """Of the subnets, in their order."""
    access_entries: tuple[AccessEntry, ...] = ()
    creator_is_admin: bool = True
    addons: dict[str, str] = field(default_factory=dict)
    """Version by name, where the default for the cluster's version is not meant."""
    addons_elsewhere: tuple[str, ...] = ()
    api_allowed_cidrs: tuple[str, ...] = ()
    exec_authentication: bool = True
    """Whether clients of the API fetch a token through the AWS CLI."""
    protect: bool = True
    deletion_protection: bool = True
    """Whether EKS refuses to delete the cluster, whoever asks; nothing where `protect` is off."""
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
    """A cluster whose secrets are encrypted under a key of its own and whose GPU nodes take GPU work only.

    A node group has a name of the engine's making: where a change makes a new one (instance types, image, subnets), the
    new one is there before the old one goes, and EKS drains that one within the budgets of the pods on it.
    """

    cluster_name: Output[str]
    kubeconfig: Output[str]

    def __init__(self, name: str, args: PublicPoolArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:public_pool:PublicPool", name, {}, opts)
        child = ResourceOptions(parent=self)
        cluster = self._cluster(name, args)
        node_role, rights = self._role(f"{name}-node", "ec2.amazonaws.com", NODE_POLICIES, args.tags)
        # Before the first node, or it would come up without what it needs to be ready.
        early = self._addons(name, args, cluster, BEFORE_NODES, [])
        nodes = NodesArgs(
            cluster_name=cluster.name,
            kubernetes_version=args.kubernetes_version,
            role_arn=node_role.arn,
            subnet_ids=args.subnet_ids,
            zones=args.zones,
            labels=args.node_labels,
            ready=[*rights, *args.network, *early],
            tags=args.tags,
        )
        system = Nodes.system(f"{name}-system", nodes, args.system_instance_type, args.system_nodes, child)
        for pool in args.pools:
            Nodes.gpu(f"{name}-{pool.name}", nodes, pool, child)
        self._addons(name, args, cluster, AFTER_NODES, [system.group])
        self._access(name, args, cluster)
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
            upgrade_policy=eks.ClusterUpgradePolicyArgs(support_type=args.kubernetes_support.upper()),
            # By whatever means: https://docs.aws.amazon.com/eks/latest/userguide/deletion-protection.html
            deletion_protection=args.protect and args.deletion_protection,
            access_config=eks.ClusterAccessConfigArgs(
                authentication_mode="API", bootstrap_cluster_creator_admin_permissions=args.creator_is_admin
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

    def _addons(
        self,
        name: str,
        args: PublicPoolArgs,
        cluster: eks.Cluster,
        wanted: tuple[str, ...],
        after: list[pulumi.Resource],
    ) -> list[pulumi.Resource]:
        """The add-ons of `wanted` that nobody else installs; what somebody changes by hand is set back."""
        child = ResourceOptions.merge(ResourceOptions(parent=self), ResourceOptions(depends_on=after))
        return [
            eks.Addon(
                f"{name}-{addon}",
                cluster_name=cluster.name,
                addon_name=addon,
                addon_version=args.addons.get(addon),
                configuration_values=json.dumps(ADDON_SETTINGS[addon]) if addon in ADDON_SETTINGS else None,
                resolve_conflicts_on_create="OVERWRITE",
                resolve_conflicts_on_update="OVERWRITE",
                tags=args.tags,
                opts=child,
            )
            for addon in wanted
            if addon not in args.addons_elsewhere
        ]

    def _access(self, name: str, args: PublicPoolArgs, cluster: eks.Cluster) -> None:
        """Who may do what; an entry without its policy may do nothing."""
        child = ResourceOptions(parent=self)
        for entry in args.access_entries:
            label = f"{name}-{entry.principal.rpartition('/')[2]}"
            there = eks.AccessEntry(
                label, cluster_name=cluster.name, principal_arn=entry.principal, tags=args.tags, opts=child
            )
            eks.AccessPolicyAssociation(
                label,
                cluster_name=cluster.name,
                principal_arn=there.principal_arn,
                policy_arn=ACCESS_POLICY_ARN.format(entry.policy),
                access_scope=eks.AccessPolicyAssociationAccessScopeArgs(
                    type="namespace" if entry.namespaces else "cluster", namespaces=list(entry.namespaces) or None
                ),
                opts=child,
            )
