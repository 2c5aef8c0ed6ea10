"""ELBv2: target groups and listeners."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud, to_tag_list
from lab.providers.aws.elbv2 import ElbType, name_rules, refuse_taken
from lab.providers.aws.rules import between, one_of
from lab.providers.errors import Failure

_NLB_PROTOCOLS: Final = ("TCP", "UDP", "TLS", "TCP_UDP")
_ALB_PROTOCOLS: Final = ("HTTP", "HTTPS")
_HEALTH_CHECK: Final = {
    "enabled": "HealthCheckEnabled",
    "protocol": "HealthCheckProtocol",
    "port": "HealthCheckPort",
    "path": "HealthCheckPath",
    "interval": "HealthCheckIntervalSeconds",
    "timeout": "HealthCheckTimeoutSeconds",
    "healthyThreshold": "HealthyThresholdCount",
    "unhealthyThreshold": "UnhealthyThresholdCount",
}
_ATTRIBUTES: Final = {
    "deregistrationDelay": "deregistration_delay.timeout_seconds",
    "preserveClientIp": "preserve_client_ip.enabled",
}


class TargetGroup(ElbType):
    """What a listener forwards to; a TargetGroupBinding in the cluster fills it."""

    type_name = "aws:lb/targetGroup:TargetGroup"
    listing = ("describe_target_groups", "TargetGroupArns", "TargetGroups", "TargetGroupArn")
    defaults: ClassVar = {
        "deregistrationDelay": 300,
        "lambdaMultiValueHeadersEnabled": False,
        "proxyProtocolV2": False,
        "slowStart": 0,
        "targetType": "instance",
    }
    replace_on = ("name", "namePrefix", "port", "protocol", "protocolVersion", "targetType", "vpcId", "ipAddressType")
    in_place = (*_ATTRIBUTES, "healthCheck")
    lasting = (
        "preserveClientIp",
        "healthCheck",
        "healthCheck.matcher",
        *(f"healthCheck.{name}" for name in _HEALTH_CHECK),
    )
    blank: ClassVar = {
        "connectionTermination": False,
        "ipAddressType": "ipv4",
        "loadBalancingAlgorithmType": "",
        "loadBalancingAnomalyMitigation": "",
        "loadBalancingCrossZoneEnabled": "use_load_balancer_configuration",
        "namePrefix": "",
        "preserveClientIp": "true",
        "protocolVersion": "",
        "stickiness": {"type": "source_ip", "enabled": False, "cookieDuration": 0, "cookieName": ""},
        "targetFailovers": [{"onDeregistration": "", "onUnhealthy": ""}],
        "targetGroupHealth": {},
        "targetHealthStates": [{"enableUnhealthyConnectionTermination": True, "unhealthyDrainingInterval": 0}],
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from name_rules(inputs)
        yield from one_of(inputs, "targetType", "instance", "ip", "alb")
        yield from one_of(inputs, "protocol", *_NLB_PROTOCOLS, *_ALB_PROTOCOLS)
        yield from between(inputs, "port", 1, 65535)
        yield from between(inputs, "deregistrationDelay", 0, 3600)
        yield from one_of(inputs, "preserveClientIp", "true", "false")
        for name in ("port", "protocol", "vpcId"):
            if inputs.get(name) is None:
                yield Failure(name, f"{name} is missing; a target group of this kind needs it: give a value")
        check = inputs.get("healthCheck")
        if isinstance(check, dict):
            for name, low, high in (("interval", 5, 300), ("healthyThreshold", 2, 10), ("unhealthyThreshold", 2, 10)):
                for failure in between(check, name, low, high):
                    yield Failure(f"healthCheck.{name}", failure.reason)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        arguments: dict[str, Any] = {
            "Name": inputs["name"],
            "Protocol": inputs["protocol"],
            "Port": inputs["port"],
            "VpcId": inputs["vpcId"],
            "TargetType": inputs["targetType"],
            "Tags": to_tag_list(tags),
            **_health_check(inputs),
        }
        client = cloud.client("elbv2")
        refuse_taken(client, "describe_target_groups", "target group", inputs["name"])
        identity: str = client.create_target_group(**arguments)["TargetGroups"][0]["TargetGroupArn"]
        self._set_attributes(cloud, identity, inputs)
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        if found is None:
            return None
        check = {
            "enabled": True,
            "protocol": found.get("HealthCheckProtocol") or "TCP",
            "port": str(found.get("HealthCheckPort") or "traffic-port"),
            "interval": int(found.get("HealthCheckIntervalSeconds") or 30),
            "timeout": int(found.get("HealthCheckTimeoutSeconds") or 10),
            "healthyThreshold": int(found.get("HealthyThresholdCount") or 3),
            "unhealthyThreshold": int(found.get("UnhealthyThresholdCount") or 3),
            "path": found.get("HealthCheckPath") or "",
            "matcher": str((found.get("Matcher") or {}).get("HttpCode") or ""),
        }
        return {
            "arn": identity,
            "arnSuffix": identity.rpartition(":")[2],
            "healthCheck": {**check, **(inputs.get("healthCheck") or {})},
            "loadBalancerArns": list(found.get("LoadBalancerArns") or []),
            "name": found["TargetGroupName"],
            "tagsAll": self.tags(cloud, identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        if old.get("healthCheck") != new.get("healthCheck"):
            cloud.client("elbv2").modify_target_group(TargetGroupArn=identity, **_health_check(new))
        self._set_attributes(cloud, identity, new)

    def _set_attributes(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> None:
        attributes = [
            {"Key": key, "Value": str(inputs[name])}
            for name, key in _ATTRIBUTES.items()
            if inputs.get(name) is not None
        ]
        cloud.client("elbv2").modify_target_group_attributes(TargetGroupArn=identity, Attributes=attributes)

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("elbv2").delete_target_group(TargetGroupArn=identity)


class Listener(ElbType):
    """A port of a load balancer."""

    type_name = "aws:lb/listener:Listener"
    naming = None
    listing = ("describe_listeners", "ListenerArns", "Listeners", "ListenerArn")
    replace_on = ("loadBalancerArn", "region")
    in_place = ("port", "protocol", "defaultActions")
    delete_first = True  # a port has one listener

    @property
    def blank(self) -> dict[str, Any]:  # type: ignore[override]  # computed from the schema, never assigned
        """Every routing header is an ALB's; a network load balancer leaves them empty."""
        headers = dict.fromkeys((name for name in self.schema.always if name.startswith("routingHttp")), "")
        headers["routingHttpResponseServerEnabled"] = False  # type: ignore[assignment]  # the one flag among them
        return {**headers, "mutualAuthentication": {}, "sslPolicy": "", "tcpIdleTimeoutSeconds": 350}

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from between(inputs, "port", 1, 65535)
        yield from one_of(inputs, "protocol", *_NLB_PROTOCOLS)
        for name in ("port", "protocol"):
            if inputs.get(name) is None:
                yield Failure(name, f"{name} is missing; a listener of a network load balancer needs it: give a value")
        actions = inputs.get("defaultActions")
        for action in actions if isinstance(actions, list) else []:
            if isinstance(action, dict) and (
                action.get("type") not in (None, "forward") or "targetGroupArn" not in action
            ):
                reason = f"defaultActions has {action.get('type')!r}; the lab forwards to one targetGroupArn: use that"
                yield Failure("defaultActions", reason)

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        answer = cloud.client("elbv2").create_listener(
            LoadBalancerArn=inputs["loadBalancerArn"], Tags=to_tag_list(tags), **_listener(inputs)
        )
        identity: str = answer["Listeners"][0]["ListenerArn"]
        return identity

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = self.live(cloud, identity)
        return found and {
            "arn": identity,
            "loadBalancerArn": found["LoadBalancerArn"],
            "port": int(found["Port"]),
            "protocol": found["Protocol"],
            "defaultActions": [
                {"type": "forward", "order": index + 1, "targetGroupArn": action.get("TargetGroupArn", "")}
                for index, action in enumerate(found.get("DefaultActions") or [])
            ],
            "tagsAll": self.tags(cloud, identity),
        }

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        cloud.client("elbv2").modify_listener(ListenerArn=identity, **_listener(new))

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        if self.live(cloud, identity) is not None:
            cloud.client("elbv2").delete_listener(ListenerArn=identity)


def _health_check(inputs: dict[str, Any]) -> dict[str, Any]:
    given = inputs.get("healthCheck") or {}
    wire = {wire: given[name] for name, wire in _HEALTH_CHECK.items() if given.get(name) is not None}
    if given.get("matcher"):
        wire["Matcher"] = {"HttpCode": given["matcher"]}
    return wire


def _listener(inputs: dict[str, Any]) -> dict[str, Any]:
    actions = [{"Type": "forward", "TargetGroupArn": action["targetGroupArn"]} for action in inputs["defaultActions"]]
    return {"Port": inputs["port"], "Protocol": inputs["protocol"], "DefaultActions": actions}


TYPES: Final = (TargetGroup, Listener)
