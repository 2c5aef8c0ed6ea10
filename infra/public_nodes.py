"""The nodes of an EKS cluster: one managed node group each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import ec2, eks

from infra.settings_pool_public import BOTTLEROCKET, SPOT, InstancePool

GPU_TAINT: Final = "nvidia.com/gpu"
SYSTEM_IMAGE: Final = "AL2023_x86_64_STANDARD"
SYSTEM_DISK_GIB: Final = 50
ROOT_DISK: Final = "/dev/xvda"
DATA_DISK: Final = "/dev/xvdb"
"""Where Bottlerocket keeps images and pods' files; its root disk holds the system alone."""
BOTTLEROCKET_ROOT_GIB: Final = 4


@dataclass(frozen=True, kw_only=True)
class NodesArgs:
    """What all node groups of a cluster have in common."""

    cluster_name: Output[str]
    kubernetes_version: str
    role_arn: Output[str]
    subnet_ids: list[Output[str]]
    zones: tuple[str, ...]
    """Of the subnets, in their order."""
    labels: dict[str, str] = field(default_factory=dict)
    ready: list[pulumi.Resource] = field(default_factory=list)
    """What has to stand before a node can join."""
    tags: dict[str, str] = field(default_factory=dict)


class Nodes(pulumi.ComponentResource):
    """Machines whose disks are encrypted and whose own credentials no pod can ask for."""

    group: eks.NodeGroup

    def __init__(
        self,
        name: str,
        args: NodesArgs,
        pool: InstancePool,
        opts: ResourceOptions | None = None,
        *,
        image: str,
        taints: list[eks.NodeGroupTaintArgs] | None = None,
    ) -> None:
        super().__init__("tandem:public_nodes:Nodes", name, {}, opts)
        child = ResourceOptions(parent=self)
        reserved = self._reservation(name, args, pool)
        template = self._template(name, args, pool, image)
        # A number that an autoscaler moves is not moved back by the next `up`.
        moved = ["scalingConfig.desiredSize"] if pool.autoscaled else None
        subnets = args.subnet_ids
        if pool.reserve_in:
            subnets = [args.subnet_ids[args.zones.index(pool.reserve_in)]]
        self.group = eks.NodeGroup(
            name,
            cluster_name=args.cluster_name,
            # Named, or nodes would stay behind when the control plane is upgraded.
            version=args.kubernetes_version,
            node_role_arn=args.role_arn,
            subnet_ids=subnets,
            ami_type=image,
            capacity_type="SPOT" if pool.capacity == SPOT else "ON_DEMAND",
            # In order of preference: on demand EKS takes the first type that has capacity.
            instance_types=list(pool.instance_types),
            launch_template=eks.NodeGroupLaunchTemplateArgs(id=template.id, version=template.latest_version.apply(str)),
            scaling_config=eks.NodeGroupScalingConfigArgs(
                min_size=pool.min, desired_size=pool.desired, max_size=pool.max
            ),
            update_config=eks.NodeGroupUpdateConfigArgs(max_unavailable=1),
            labels={**args.labels, **pool.labels},
            taints=taints,
            tags=args.tags,
            opts=ResourceOptions.merge(
                child, ResourceOptions(depends_on=[*args.ready, *reserved], ignore_changes=moved)
            ),
        )
        self.register_outputs({"name": self.group.node_group_name})

    @classmethod
    def system(cls, name: str, args: NodesArgs, instance_type: str, number: int, opts: ResourceOptions) -> Self:
        """Nodes for what the cluster itself runs."""
        pool = InstancePool(
            name="system",
            instance_types=(instance_type,),
            min=1,
            desired=number,
            max=number + 1,
            disk_gib=SYSTEM_DISK_GIB,
        )
        return cls(name, args, pool, opts, image=SYSTEM_IMAGE)

    @classmethod
    def gpu(cls, name: str, args: NodesArgs, pool: InstancePool, opts: ResourceOptions) -> Self:
        """Nodes that take GPU work only."""
        taint = eks.NodeGroupTaintArgs(key=GPU_TAINT, value="present", effect="NO_SCHEDULE")
        return cls(name, args, pool, opts, image=pool.image, taints=[taint])

    def _reservation(self, name: str, args: NodesArgs, pool: InstancePool) -> list[pulumi.Resource]:
        """The reservation made here, where the pool says in which zone.

        It is open: nodes that fit take it first, and those above its size are on demand. It grows in place, before the
        pool does; another instance type makes another one, before its nodes come and before the old one goes
        (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CapacityReservationSpecification.html).
        """
        if not pool.reserve_in:
            return []
        made = ec2.CapacityReservation(
            name,
            availability_zone=pool.reserve_in,
            instance_type=pool.instance_types[0],
            instance_platform="Linux/UNIX",
            instance_count=pool.min,
            # Targeted, it would refuse the node above its size: that of an upgrade, or of a full pool.
            instance_match_criteria="open",
            end_date_type="unlimited",
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )
        return [made]

    def _template(self, name: str, args: NodesArgs, pool: InstancePool, image: str) -> ec2.LaunchTemplate:
        return ec2.LaunchTemplate(
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
                    device_name=device,
                    ebs=ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                        volume_type="gp3", volume_size=gib, encrypted="true", delete_on_termination="true"
                    ),
                )
                for device, gib in disks(image, pool.disk_gib).items()
            ],
            capacity_reservation_specification=taken_from(pool),
            tag_specifications=[
                ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=args.tags)
                for kind in ("instance", "volume")
            ],
            tags=args.tags,
            opts=ResourceOptions(parent=self),
        )


def taken_from(pool: InstancePool) -> ec2.LaunchTemplateCapacityReservationSpecificationArgs | None:
    """Where its machines come from: a reservation that exists and nothing else, one that fits first, or anywhere."""
    if pool.reserve_in:
        return ec2.LaunchTemplateCapacityReservationSpecificationArgs(capacity_reservation_preference="open")
    if not pool.reservation:
        return None
    return ec2.LaunchTemplateCapacityReservationSpecificationArgs(
        capacity_reservation_target=ec2.LaunchTemplateCapacityReservationSpecificationCapacityReservationTargetArgs(
            capacity_reservation_id=pool.reservation
        )
    )


def disks(image: str, gib: int) -> dict[str, int]:
    """Devices and their sizes in GiB; images and pods' files get `gib`."""
    if image == BOTTLEROCKET:
        return {ROOT_DISK: BOTTLEROCKET_ROOT_GIB, DATA_DISK: gib}
    return {ROOT_DISK: gib}
