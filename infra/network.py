"""The network of a public site."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi import Output, ResourceOptions
from pulumi_aws import ec2

from infra import checks, naming
from infra.flow_log import FlowLog, FlowLogArgs

ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class NetworkArgs:
    """The address range, and the availability zones it is spread over."""

    cidr: str
    zones: tuple[str, ...]
    region: str
    flow_log_days: int = 0
    """How long it is kept who talked to whom; 0 for no flow log."""
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.network("cidr", self.cidr, 16, 20)
        checks.between("number of zones", len(self.zones), 2, 4)
        checks.between("flow_log_days", self.flow_log_days, 0, 3653)


class ExistingNetwork:
    """A network that something else keeps, as a cluster needs to know it."""

    def __init__(self, vpc_id: str, public_subnet_ids: Sequence[str], private_subnet_ids: Sequence[str]) -> None:
        self.vpc_id = Output.from_input(vpc_id)
        self.public_subnet_ids = [Output.from_input(each) for each in public_subnet_ids]
        self.private_subnet_ids = [Output.from_input(each) for each in private_subnet_ids]
        self.ready: list[pulumi.Resource] = []


def subnet_blocks(cidr: str, zones: int) -> tuple[list[str], list[str]]:
    """A small public and a large private block for each zone; adding a zone moves none of the others.

    The network is cut into eight: the first seven go to private subnets, the last is cut into eight again for the
    public ones, which hold little but load balancers and gateways.
    """
    eighths = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=3))
    public = list(eighths[-1].subnets(prefixlen_diff=3))
    return [str(block) for block in public[:zones]], [str(block) for block in eighths[:zones]]


class Network(pulumi.ComponentResource):
    """Nodes reach the internet and are not reached from it; losing one zone cuts no other zone off."""

    vpc_id: Output[str]
    public_subnet_ids: list[Output[str]]
    private_subnet_ids: list[Output[str]]
    ready: list[pulumi.Resource]
    """What has to stand before a node in a private subnet can fetch anything, or an address can be reached."""

    def __init__(self, name: str, args: NetworkArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:network:Network", name, {}, opts)
        child = ResourceOptions(parent=self)
        vpc = ec2.Vpc(
            f"{name}-vpc",
            cidr_block=args.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=args.tags,
            opts=child,
        )
        gateway = ec2.InternetGateway(f"{name}-internet", vpc_id=vpc.id, tags=args.tags, opts=child)
        table = ec2.RouteTable(
            f"{name}-public",
            vpc_id=vpc.id,
            routes=[ec2.RouteTableRouteArgs(cidr_block=ANYWHERE, gateway_id=gateway.id)],
            tags=args.tags,
            opts=child,
        )
        self.vpc_id = vpc.id
        self.public_subnet_ids, self.private_subnet_ids, self.ready = [], [], []
        self._tables: list[Output[str]] = []
        public_blocks, private_blocks = subnet_blocks(args.cidr, len(args.zones))
        for zone, public_block, private_block in zip(args.zones, public_blocks, private_blocks, strict=True):
            public = ec2.Subnet(
                f"{name}-public-{zone}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=public_block,
                # The load balancer controller finds subnets by this tag.
                tags={**args.tags, "kubernetes.io/role/elb": "1"},
                opts=child,
            )
            routed = ec2.RouteTableAssociation(
                f"{name}-public-{zone}", subnet_id=public.id, route_table_id=table.id, opts=child
            )
            self.public_subnet_ids.append(public.id)
            self.ready.append(routed)
            self._private_zone(name, args, zone, private_block, vpc, public, routed)
        ec2.VpcEndpoint(
            f"{name}-s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{args.region}.s3",
            vpc_endpoint_type="Gateway",
            # Models come from S3 by gigabytes, and a NAT gateway is paid by them.
            route_table_ids=self._tables,
            tags=args.tags,
            opts=child,
        )
        if args.flow_log_days:
            FlowLog(f"{name}-flows", FlowLogArgs(vpc_id=vpc.id, days=args.flow_log_days, tags=args.tags), child)
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids,
            }
        )

    def _private_zone(
        self,
        name: str,
        args: NetworkArgs,
        zone: str,
        block: str,
        vpc: ec2.Vpc,
        public: ec2.Subnet,
        routed: ec2.RouteTableAssociation,
    ) -> None:
        """A private subnet of `zone` with its way out through a gateway in the same zone."""
        child = ResourceOptions(parent=self)
        address = ec2.Eip(f"{name}-nat-{zone}", domain="vpc", tags={**args.tags, naming.ROLE_KEY: "nat"}, opts=child)
        nat = ec2.NatGateway(
            f"{name}-nat-{zone}",
            subnet_id=public.id,
            allocation_id=address.id,
            tags=args.tags,
            # A gateway whose subnet has no route out yet is created and then fails.
            opts=ResourceOptions.merge(child, ResourceOptions(depends_on=[routed])),
        )
        table = ec2.RouteTable(
            f"{name}-private-{zone}",
            vpc_id=vpc.id,
            routes=[ec2.RouteTableRouteArgs(cidr_block=ANYWHERE, nat_gateway_id=nat.id)],
            tags=args.tags,
            opts=child,
        )
        subnet = ec2.Subnet(
            f"{name}-private-{zone}",
            vpc_id=vpc.id,
            availability_zone=zone,
            cidr_block=block,
            tags={**args.tags, "kubernetes.io/role/internal-elb": "1"},
            opts=child,
        )
        self.private_subnet_ids.append(subnet.id)
        self._tables.append(table.id)
        self.ready.append(
            ec2.RouteTableAssociation(
                f"{name}-private-{zone}", subnet_id=subnet.id, route_table_id=table.id, opts=child
            )
        )
