"""Where traffic enters a public site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import ec2, lb

from infra import naming
from infra.network import ANYWHERE

TLS_POLICY: Final = "ELBSecurityPolicy-TLS13-1-2-2021-06"
"""TLS 1.2 and 1.3; https://docs.aws.amazon.com/elasticloadbalancing/latest/network/describe-ssl-policies.html"""


@dataclass(frozen=True, kw_only=True)
class EdgeArgs:
    """Where the load balancer stands, what it listens on and which port it passes connections to."""

    vpc_id: Input[str]
    subnet_ids: list[Output[str]]
    port: int
    target_port: int
    health_path: str
    network: list[pulumi.Resource] = field(default_factory=list)
    """What has to stand before an address can be reached."""
    certificate_arn: str = ""
    """What the balancer ends TLS with; empty passes connections on as they come."""
    deregistration_seconds: int = 30
    """How long a pod that leaves still gets what is under way to it."""
    log_bucket: str = ""
    """What takes the balancer's access log, under the edge's name; empty for no log."""
    protect: bool = True
    tags: dict[str, str] = field(default_factory=dict)


class Edge(pulumi.ComponentResource):
    """Addresses that outlive every node and pod behind them."""

    address: Output[str]
    dns_name: Output[str]
    zone_id: Output[str]
    target_group_arn: Output[str]

    def __init__(self, name: str, args: EdgeArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:edge:Edge", name, {}, opts)
        child = ResourceOptions(parent=self)
        # Records and allow-lists elsewhere hold these addresses; a new one is a new site to the world.
        lasting = ResourceOptions.merge(child, ResourceOptions(protect=args.protect))
        tags = {**args.tags, naming.ROLE_KEY: "edge"}
        addresses = [
            ec2.Eip(f"{name}-{number}", domain="vpc", tags=tags, opts=lasting)
            for number in range(1, len(args.subnet_ids) + 1)
        ]
        firewall = ec2.SecurityGroup(
            f"{name}-firewall",
            description="Users to the edge, the edge to the gateway",
            vpc_id=args.vpc_id,
            ingress=[
                ec2.SecurityGroupIngressArgs(
                    protocol="tcp", from_port=args.port, to_port=args.port, cidr_blocks=[ANYWHERE]
                )
            ],
            egress=[
                ec2.SecurityGroupEgressArgs(
                    protocol="tcp", from_port=args.target_port, to_port=args.target_port, cidr_blocks=[ANYWHERE]
                )
            ],
            tags=tags,
            opts=child,
        )
        balancer = lb.LoadBalancer(
            name,
            load_balancer_type="network",
            internal=False,
            security_groups=[firewall.id],
            subnet_mappings=[
                lb.LoadBalancerSubnetMappingArgs(subnet_id=subnet, allocation_id=address.id)
                for subnet, address in zip(args.subnet_ids, addresses, strict=True)
            ],
            enable_cross_zone_load_balancing=True,
            # Aliases in DNS hold its name; a new one is a new site to the world.
            enable_deletion_protection=args.protect,
            # https://docs.aws.amazon.com/elasticloadbalancing/latest/network/enable-access-logs.html
            access_logs=lb.LoadBalancerAccessLogsArgs(bucket=args.log_bucket, prefix=name, enabled=True)
            if args.log_bucket
            else None,
            tags=tags,
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=args.network)),
        )
        group = lb.TargetGroup(
            name,
            target_type="ip",
            protocol="TCP",
            port=args.target_port,
            vpc_id=args.vpc_id,
            deregistration_delay=args.deregistration_seconds,
            # Off by default for addresses over TCP, and then every client looks like the balancer to a NetworkPolicy
            # (https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html).
            preserve_client_ip="true",
            health_check=lb.TargetGroupHealthCheckArgs(
                protocol="HTTP", path=args.health_path, matcher="200", interval=10, healthy_threshold=2
            ),
            tags=tags,
            opts=child,
        )
        lb.Listener(
            name,
            load_balancer_arn=balancer.arn,
            protocol="TLS" if args.certificate_arn else "TCP",
            port=args.port,
            certificate_arn=args.certificate_arn or None,
            ssl_policy=TLS_POLICY if args.certificate_arn else None,
            default_actions=[lb.ListenerDefaultActionArgs(type="forward", target_group_arn=group.arn)],
            opts=child,
        )
        self.address = addresses[0].public_ip
        self.dns_name = balancer.dns_name
        self.zone_id = balancer.zone_id
        self.target_group_arn = group.arn
        self.register_outputs(
            {
                "address": self.address,
                "dns_name": self.dns_name,
                "zone_id": self.zone_id,
                "target_group_arn": self.target_group_arn,
            }
        )
