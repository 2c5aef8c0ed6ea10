"""Where the inputs of networks, machines and load balancers go; see aws_counterparts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lab.schemas.aws_counterpart import ATTRIBUTE, CALL, DELETION, Counterpart

_BALANCER_ATTRIBUTES: Final = (
    *("accessLogs", "clientKeepAlive", "connectionLogs", "desyncMitigationMode", "dnsRecordClientRoutingPolicy"),
    *("dropInvalidHeaderFields", "enableCrossZoneLoadBalancing", "enableDeletionProtection", "enableHttp2"),
    *("enableTlsVersionAndCipherSuiteHeaders", "enableWafFailOpen", "enableXffClientPort", "enableZonalShift"),
    *("healthCheckLogs", "idleTimeout", "preserveHostHeader", "xffHeaderProcessingMode"),
)
_GROUP_ATTRIBUTES: Final = (
    *("connectionTermination", "deregistrationDelay", "lambdaMultiValueHeadersEnabled", "loadBalancingAlgorithmType"),
    *("loadBalancingAnomalyMitigation", "loadBalancingCrossZoneEnabled", "preserveClientIp", "proxyProtocolV2"),
    *("slowStart", "stickiness", "targetFailovers", "targetGroupHealth", "targetHealthStates"),
)
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerAttribute.html and
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html"""
_EC2_TAGS: Final = {"tags": "TagSpecifications[].Tags"}


def _permissions(side: str, operation: str) -> dict[str, str]:
    return {
        f"{side}[]": f"{operation}:IpPermissions[]",
        f"{side}[].protocol": "IpProtocol",
        f"{side}[].cidrBlocks[]": "IpRanges[].CidrIp",
        f"{side}[].ipv6CidrBlocks[]": "Ipv6Ranges[].CidrIpv6",
        f"{side}[].securityGroups[]": "UserIdGroupPairs[].GroupId",
        f"{side}[].prefixListIds[]": "PrefixListIds[].PrefixListId",
        f"{side}[].description": "IpRanges[].Description",
    }


NETWORK: Final[Mapping[str, Counterpart]] = {
    "aws:ec2/capacityReservation:CapacityReservation": Counterpart(
        service="ec2", requests=("CreateCapacityReservation",), places=_EC2_TAGS
    ),
    "aws:ec2/eip:Eip": Counterpart(service="ec2", requests=("AllocateAddress",), places=_EC2_TAGS),
    "aws:ec2/flowLog:FlowLog": Counterpart(
        service="ec2",
        requests=("CreateFlowLogs",),
        places={**_EC2_TAGS, "iamRoleArn": "DeliverLogsPermissionArn", "vpcId": "ResourceIds[]"},
        supplied=("ResourceType",),
    ),
    "aws:ec2/internetGateway:InternetGateway": Counterpart(
        service="ec2", requests=("CreateInternetGateway", "AttachInternetGateway"), places=_EC2_TAGS
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": Counterpart(
        service="ec2",
        requests=("CreateLaunchTemplate", "CreateLaunchTemplate:LaunchTemplateData", "ModifyLaunchTemplate"),
        places={
            "tags": "CreateLaunchTemplate:TagSpecifications[].Tags",
            # By its name alone it would be that of the template's own tags.
            "tagSpecifications": "CreateLaunchTemplate:LaunchTemplateData.TagSpecifications",
            "name": "LaunchTemplateName",
            "description": "VersionDescription",
            "vpcSecurityGroupIds": "SecurityGroupIds",
        },
        supplied=("LaunchTemplateName",),
        without={"updateDefaultVersion": CALL},
    ),
    "aws:ec2/natGateway:NatGateway": Counterpart(
        service="ec2", requests=("CreateNatGateway",), places={**_EC2_TAGS, "privateIp": "PrivateIpAddress"}
    ),
    "aws:ec2/route:Route": Counterpart(
        service="ec2", requests=("CreateRoute",), places={"egressOnlyGatewayId": "EgressOnlyInternetGatewayId"}
    ),
    "aws:ec2/routeTable:RouteTable": Counterpart(
        service="ec2",
        requests=("CreateRouteTable",),
        places={
            **_EC2_TAGS,
            "routes[]": "CreateRoute:",
            "routes[].cidrBlock": "DestinationCidrBlock",
            "routes[].ipv6CidrBlock": "DestinationIpv6CidrBlock",
            "routes[].destinationPrefixListId": "DestinationPrefixListId",
            "routes[].egressOnlyGatewayId": "EgressOnlyInternetGatewayId",
        },
    ),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": Counterpart(
        service="ec2", requests=("AssociateRouteTable",)
    ),
    "aws:ec2/securityGroup:SecurityGroup": Counterpart(
        service="ec2",
        requests=("CreateSecurityGroup",),
        places={
            **_EC2_TAGS,
            "name": "GroupName",
            **_permissions("ingress", "AuthorizeSecurityGroupIngress"),
            **_permissions("egress", "AuthorizeSecurityGroupEgress"),
        },
        supplied=("Description", "GroupName"),
        without={
            "ingress[].self": "the provider names the group itself among the groups",
            "egress[].self": "the provider names the group itself among the groups",
            "revokeRulesOnDelete": DELETION,
        },
    ),
    "aws:ec2/subnet:Subnet": Counterpart(
        service="ec2", requests=("CreateSubnet", "ModifySubnetAttribute"), places=_EC2_TAGS
    ),
    "aws:ec2/vpc:Vpc": Counterpart(service="ec2", requests=("CreateVpc", "ModifyVpcAttribute"), places=_EC2_TAGS),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Counterpart(
        service="ec2", requests=("CreateVpcEndpoint",), places={**_EC2_TAGS, "policy": "PolicyDocument"}
    ),
    "aws:lb/listener:Listener": Counterpart(
        service="elbv2",
        requests=("CreateListener",),
        places={"certificateArn": "Certificates[].CertificateArn"},
        without={"tcpIdleTimeoutSeconds": ATTRIBUTE},
    ),
    "aws:lb/loadBalancer:LoadBalancer": Counterpart(
        service="elbv2",
        requests=("CreateLoadBalancer",),
        places={"loadBalancerType": "Type"},
        supplied=("Name",),
        without={
            **dict.fromkeys(_BALANCER_ATTRIBUTES, ATTRIBUTE),
            "internal": "the provider says it as Scheme, internal or internet-facing",
        },
    ),
    "aws:lb/targetGroup:TargetGroup": Counterpart(
        service="elbv2",
        requests=("CreateTargetGroup",),
        places={
            "healthCheck.enabled": "HealthCheckEnabled",
            "healthCheck.healthyThreshold": "HealthyThresholdCount",
            "healthCheck.interval": "HealthCheckIntervalSeconds",
            "healthCheck.matcher": "Matcher.HttpCode",
            "healthCheck.path": "HealthCheckPath",
            "healthCheck.port": "HealthCheckPort",
            "healthCheck.protocol": "HealthCheckProtocol",
            "healthCheck.timeout": "HealthCheckTimeoutSeconds",
            "healthCheck.unhealthyThreshold": "UnhealthyThresholdCount",
        },
        supplied=("Name",),
        without=dict.fromkeys(_GROUP_ATTRIBUTES, ATTRIBUTE),
    ),
}
"""Pulumi type -> its counterpart."""
