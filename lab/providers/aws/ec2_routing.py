"""EC2: route tables, routes and security groups."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of, from_tag_list
from lab.providers.aws.ec2 import Ec2Type
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import cidr_rules, known
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming

_TARGETS: Final = {
    "gatewayId": "GatewayId",
    "natGatewayId": "NatGatewayId",
    "networkInterfaceId": "NetworkInterfaceId",
    "transitGatewayId": "TransitGatewayId",
    "vpcEndpointId": "VpcEndpointId",
    "vpcPeeringConnectionId": "VpcPeeringConnectionId",
    "egressOnlyGatewayId": "EgressOnlyInternetGatewayId",
}


class RouteTable(Ec2Type):
    """A route table with the routes written inside it, if any."""

    type_name = "aws:ec2/routeTable:RouteTable"
    describe = ("describe_route_tables", "RouteTableIds", "RouteTables")
    replace_on = ("vpcId", "region")
    in_place = ("routes",)
    unordered = frozenset({"routes"})
    blank: ClassVar = {"propagatingVgws": []}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        routes = inputs.get("routes")
        for route in routes if isinstance(routes, list) else []:
            if isinstance(route, dict):
                yield from _route_rules({**route, "destinationCidrBlock": route.get("cidrBlock")}, "routes.")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        identity: str = cloud.client("ec2").create_route_table(VpcId=inputs["vpcId"])["RouteTable"]["RouteTableId"]
        self.tag(cloud, identity, tags, [])
        self.update(cloud, identity, {}, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        routes = [route for route in found.get("Routes", []) if route.get("GatewayId") != "local"]
        return {
            "arn": cloud.arn("ec2", f"route-table/{identity}"),
            "ownerId": found.get("OwnerId") or cloud.account,
            "vpcId": found["VpcId"],
            "routes": inputs["routes"] if inputs.get("routes") else [_inline(route) for route in routes],
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        before = {route["cidrBlock"]: route for route in old.get("routes") or []}
        after = {route["cidrBlock"]: route for route in new.get("routes") or []}
        for block in sorted(set(before) - set(after)):
            _drop_route(cloud, identity, block)
        for block, route in after.items():
            if before.get(block) != route:
                _put_route(cloud, identity, {**route, "destinationCidrBlock": block})

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        found = self.live(cloud, identity)
        if found is not None:
            client = cloud.client("ec2")
            for association in found.get("Associations", []):
                if not association.get("Main"):
                    client.disassociate_route_table(AssociationId=association["RouteTableAssociationId"])
            client.delete_route_table(RouteTableId=identity)


class Route(AwsType):
    """One route of a table; writing it twice is writing it once."""

    type_name = "aws:ec2/route:Route"
    replace_on = (
        "routeTableId",
        "destinationCidrBlock",
        "destinationIpv6CidrBlock",
        "destinationPrefixListId",
        "region",
    )
    in_place = tuple(_TARGETS)
    delete_first = True  # old and new may share table and destination
    blank: ClassVar = {"instanceId": "", "instanceOwnerId": "", "networkInterfaceId": ""}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from _route_rules(inputs, "")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        _put_route(cloud, inputs["routeTableId"], inputs)
        return f"r-{inputs['routeTableId']}{inputs['destinationCidrBlock']}"

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = _route(cloud, inputs["routeTableId"], inputs["destinationCidrBlock"])
        return found and {"origin": found.get("Origin", "CreateRoute"), "state": found.get("State", "active")}

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        _put_route(cloud, new["routeTableId"], new)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        _drop_route(cloud, state["routeTableId"], state["destinationCidrBlock"])


class RouteTableAssociation(AwsType):
    """Which table a subnet or gateway uses."""

    type_name = "aws:ec2/routeTableAssociation:RouteTableAssociation"
    replace_on = ("subnetId", "gatewayId", "routeTableId", "region")
    delete_first = True  # a subnet has one table

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        if (inputs.get("subnetId") is None) == (inputs.get("gatewayId") is None):
            yield Failure("subnetId", "exactly one of subnetId and gatewayId has to be set: give one of the two")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        for present in self._associations(cloud, inputs["routeTableId"]):
            if inputs.get("subnetId") and present.get("SubnetId") == inputs["subnetId"]:
                return str(present["RouteTableAssociationId"])
        wire = {name[0].upper() + name[1:]: inputs[name] for name in ("subnetId", "gatewayId") if inputs.get(name)}
        answer = cloud.client("ec2").associate_route_table(RouteTableId=inputs["routeTableId"], **wire)
        return str(answer["AssociationId"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self._associations(cloud, inputs["routeTableId"])
        present = any(item["RouteTableAssociationId"] == identity for item in found)
        return {"routeTableId": inputs["routeTableId"]} if present else None

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """A change of the table gives the association a new id, so it is a replacement here."""

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        try:
            cloud.client("ec2").disassociate_route_table(AssociationId=identity)
        except ClientError as error:
            if "NotFound" not in code_of(error):
                raise

    def _associations(self, cloud: Cloud, table: str) -> list[dict[str, Any]]:
        try:
            found = cloud.client("ec2").describe_route_tables(RouteTableIds=[table])["RouteTables"]
        except ClientError as error:
            if "NotFound" in code_of(error):
                return []
            raise
        return [item for entry in found for item in entry.get("Associations", [])]


class SecurityGroup(Ec2Type):
    """A firewall; its rules are recorded and compared, no packet of the lab passes it."""

    type_name = "aws:ec2/securityGroup:SecurityGroup"
    describe = ("describe_security_groups", "GroupIds", "SecurityGroups")
    naming = Naming(longest=255, instead=("namePrefix",))
    defaults: ClassVar = {"description": "Managed by Pulumi", "revokeRulesOnDelete": False}
    replace_on = ("name", "namePrefix", "description", "vpcId", "region")
    in_place = ("ingress", "egress", "revokeRulesOnDelete")
    unordered = frozenset({"ingress", "egress"})
    blank: ClassVar = {"namePrefix": "", "ingress": [], "egress": []}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        name = inputs.get("name")
        if known(name) and str(name).startswith("sg-"):
            yield Failure("name", f"name is {name!r}; names may not begin with sg-: choose another one")
        for side in ("ingress", "egress"):
            rules = inputs.get(side)
            for rule in rules if isinstance(rules, list) else []:
                yield from _rule_rules(rule, side) if isinstance(rule, dict) else ()

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments = {"GroupName": inputs["name"], "Description": inputs["description"]}
        if inputs.get("vpcId"):
            arguments["VpcId"] = inputs["vpcId"]
        client = cloud.client("ec2")
        identity: str = client.create_security_group(**arguments)["GroupId"]
        self.tag(cloud, identity, tags, [])
        allow_all = self.live(cloud, identity) or {}
        if allow_all.get("IpPermissionsEgress"):  # as the real provider, which starts from nothing
            client.revoke_security_group_egress(GroupId=identity, IpPermissions=allow_all["IpPermissionsEgress"])
        self.update(cloud, identity, {}, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        return found and {
            "arn": cloud.arn("ec2", f"security-group/{identity}"),
            "name": found["GroupName"],
            "description": found["Description"],
            "ownerId": found.get("OwnerId") or cloud.account,
            "vpcId": found.get("VpcId") or "",
            "tagsAll": from_tag_list(found.get("Tags")),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        for side in ("ingress", "egress"):
            before, after = old.get(side) or [], new.get(side) or []
            for action, rules in (
                ("revoke", [rule for rule in before if rule not in after]),
                ("authorize", [rule for rule in after if rule not in before]),
            ):
                for rule in rules:
                    call = getattr(cloud.client("ec2"), f"{action}_security_group_{side}")
                    call(GroupId=identity, IpPermissions=[_permission(rule, identity)])

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("ec2").delete_security_group(GroupId=identity)


def _rule_rules(rule: Mapping[str, Any], side: str) -> Iterator[Failure]:
    first, last = rule.get("fromPort"), rule.get("toPort")
    if known(first) and known(last) and not -1 <= int(str(first)) <= int(str(last)) <= 65535:
        yield Failure(side, f"{side} has ports {first} to {last}; they lie within 0 and 65535 in order: correct them")
    for index, block in enumerate(rule.get("cidrBlocks") or []):
        for failure in cidr_rules({"block": block}, "block", 0, 32):
            yield Failure(f"{side}.cidrBlocks[{index}]", failure.reason)


def _permission(rule: Mapping[str, Any], group: str) -> dict[str, Any]:
    permission: dict[str, Any] = {"IpProtocol": str(rule["protocol"]).lower().replace("all", "-1")}
    if permission["IpProtocol"] != "-1":
        permission |= {"FromPort": rule["fromPort"], "ToPort": rule["toPort"]}
    note = {"Description": rule["description"]} if rule.get("description") else {}
    permission["IpRanges"] = [{"CidrIp": block, **note} for block in rule.get("cidrBlocks") or []]
    permission["Ipv6Ranges"] = [{"CidrIpv6": block, **note} for block in rule.get("ipv6CidrBlocks") or []]
    groups = [*(rule.get("securityGroups") or []), *([group] if rule.get("self") else [])]
    permission["UserIdGroupPairs"] = [{"GroupId": other, **note} for other in groups]
    return permission


def _route_rules(route: Mapping[str, Any], path: str) -> Iterator[Failure]:
    yield from cidr_rules(dict(route), "destinationCidrBlock", 0, 32)
    if route.get("destinationCidrBlock") is None:
        yield Failure(
            f"{path}cidrBlock", "the route has no destination block; the lab knows IPv4 routes only: give one"
        )
    if len([name for name in _TARGETS if route.get(name)]) != 1:
        yield Failure(f"{path}gatewayId", f"a route has exactly one target; choose one of {', '.join(_TARGETS)}")


def _route(cloud: Cloud, table: str, block: str) -> dict[str, Any] | None:
    try:
        found = cloud.client("ec2").describe_route_tables(RouteTableIds=[table])["RouteTables"]
    except ClientError as error:
        if "NotFound" in code_of(error):
            return None
        raise
    routes = [route for entry in found for route in entry.get("Routes", [])]
    return next((route for route in routes if route.get("DestinationCidrBlock") == block), None)


def _put_route(cloud: Cloud, table: str, route: Mapping[str, Any]) -> None:
    block = route["destinationCidrBlock"]
    target = {wire: route[name] for name, wire in _TARGETS.items() if route.get(name)}
    present = _route(cloud, table, block)
    if present is not None and present.get("GatewayId") == "local":
        raise ProviderError(
            f"route {block} of {table} is the network's own; it cannot be changed: choose another block"
        )
    if present is not None:
        _drop_route(cloud, table, block)
    cloud.client("ec2").create_route(RouteTableId=table, DestinationCidrBlock=block, **target)


def _drop_route(cloud: Cloud, table: str, block: str) -> None:
    if _route(cloud, table, block) is not None:
        cloud.client("ec2").delete_route(RouteTableId=table, DestinationCidrBlock=block)


def _inline(route: Mapping[str, Any]) -> dict[str, Any]:
    targets = {name: route[wire] for name, wire in _TARGETS.items() if route.get(wire)}
    return {"cidrBlock": route.get("DestinationCidrBlock", ""), **targets}


TYPES: Final = (RouteTable, Route, RouteTableAssociation, SecurityGroup)
