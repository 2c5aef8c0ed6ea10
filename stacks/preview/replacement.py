"""Which changes replace a resource, and how that is known.

Three answers: REPLACE with the rule it rests on, UPDATE with its rule, MAY_REPLACE where nobody here knows and the
provider decides. For AWS the rules are those of the provider's resources
(https://github.com/hashicorp/terraform-provider-aws, ForceNew of each argument), for Kubernetes those of its API server
and of Pulumi's provider (https://www.pulumi.com/registry/packages/kubernetes/).
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final


class Effect(StrEnum):
    """What a change of one property does to its resource; the worst comes last."""

    UPDATE = "update"
    MAY_REPLACE = "may-replace"
    REPLACE = "replace"


ORDER: Final = (Effect.UPDATE, Effect.MAY_REPLACE, Effect.REPLACE)


@dataclass(frozen=True)
class Verdict:
    """An effect and the rule it rests on."""

    effect: Effect
    rule: str


@dataclass(frozen=True)
class Known:
    """What is known of one AWS resource: arguments that cannot be changed in place, and those that can."""

    fixed: tuple[str, ...] = ()
    changeable: tuple[str, ...] = ()


ANY: Final = ("tags", "tagsAll")
"""Changeable wherever they are."""
PROVIDER_DECIDES: Final = "nothing here knows this argument: the provider decides"
AWS_RULE: Final = "the AWS provider cannot change it in place"
AWS_UPDATE: Final = "the AWS provider changes it in place"
DOCUMENTED: Final = re.compile(
    r"[^.]*\b(?:forces? (?:a )?(?:new|replacement|re-?creation|the creation)|new resource to be created)\b[^.]*",
    re.IGNORECASE,
)

AWS: Final[Mapping[str, Known]] = {
    "aws:acm/certificate:Certificate": Known(
        ("domainName", "subjectAlternativeNames", "validationMethod", "keyAlgorithm"), ("options",)
    ),
    "aws:acm/certificateValidation:CertificateValidation": Known(("certificateArn", "validationRecordFqdns")),
    "aws:cloudwatch/logGroup:LogGroup": Known(
        ("name", "namePrefix", "logGroupClass"), ("retentionInDays", "kmsKeyId", "skipDestroy")
    ),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": Known(("policyName",), ("policyDocument",)),
    "aws:cloudwatch/metricAlarm:MetricAlarm": Known(
        ("name",),
        (
            "actionsEnabled", "alarmActions", "alarmDescription", "comparisonOperator", "datapointsToAlarm",
            "dimensions", "evaluationPeriods", "insufficientDataActions", "metricName", "namespace", "okActions",
            "period", "statistic", "threshold", "treatMissingData",
        ),
    ),
    "aws:ec2/capacityReservation:CapacityReservation": Known(
        (
            "availabilityZone", "ebsOptimized", "instanceMatchCriteria", "instancePlatform", "instanceType",
            "tenancy", "outpostArn",
        ),
        ("endDate", "endDateType", "instanceCount"),
    ),
    "aws:ec2/eip:Eip": Known(("domain", "address", "networkBorderGroup", "publicIpv4Pool"), ("instance",)),
    "aws:ec2/flowLog:FlowLog": Known(
        (
            "deliverCrossAccountRole", "destinationOptions", "eniId", "iamRoleArn", "logDestination",
            "logDestinationType", "logFormat", "maxAggregationInterval", "subnetId", "trafficType", "vpcId",
        )
    ),
    "aws:ec2/internetGateway:InternetGateway": Known((), ("vpcId",)),
    "aws:ec2/launchTemplate:LaunchTemplate": Known(
        ("name", "namePrefix"),
        (
            "blockDeviceMappings", "capacityReservationSpecification", "defaultVersion", "description", "imageId",
            "instanceType", "metadataOptions", "monitoring", "networkInterfaces", "tagSpecifications",
            "updateDefaultVersion", "userData", "vpcSecurityGroupIds",
        ),
    ),
    "aws:ec2/natGateway:NatGateway": Known(("allocationId", "connectivityType", "privateIp", "subnetId")),
    "aws:ec2/routeTable:RouteTable": Known(("vpcId",), ("routes", "propagatingVgws")),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": Known(("subnetId", "gatewayId"), ("routeTableId",)),
    "aws:ec2/securityGroup:SecurityGroup": Known(
        ("name", "namePrefix", "description", "vpcId"), ("ingress", "egress", "revokeRulesOnDelete")
    ),
    "aws:ec2/subnet:Subnet": Known(
        ("availabilityZone", "availabilityZoneId", "cidrBlock", "vpcId", "ipv6Native"),
        ("mapPublicIpOnLaunch", "assignIpv6AddressOnCreation"),
    ),
    "aws:ec2/vpc:Vpc": Known(("cidrBlock",), ("enableDnsHostnames", "enableDnsSupport", "instanceTenancy")),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Known(
        ("serviceName", "vpcEndpointType", "vpcId"),
        ("policy", "routeTableIds", "subnetIds", "securityGroupIds", "privateDnsEnabled"),
    ),
    "aws:eks/accessEntry:AccessEntry": Known(("clusterName", "principalArn", "type"), ("kubernetesGroups", "userName")),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": Known(
        ("accessScope", "clusterName", "policyArn", "principalArn")
    ),
    "aws:eks/addon:Addon": Known(
        ("addonName", "clusterName"),
        (
            "addonVersion", "configurationValues", "podIdentityAssociations", "preserve", "resolveConflictsOnCreate",
            "resolveConflictsOnUpdate", "serviceAccountRoleArn",
        ),
    ),
    "aws:eks/cluster:Cluster": Known(
        (
            "name", "roleArn", "encryptionConfig.provider", "encryptionConfig.resources", "kubernetesNetworkConfig",
            "bootstrapSelfManagedAddons", "accessConfig.bootstrapClusterCreatorAdminPermissions", "outpostConfig",
        ),
        (
            "version", "enabledClusterLogTypes", "vpcConfig", "accessConfig.authenticationMode", "upgradePolicy",
            "deletionProtection", "zonalShiftConfig",
        ),
    ),
    "aws:eks/nodeGroup:NodeGroup": Known(
        (
            "amiType", "capacityType", "clusterName", "diskSize", "instanceTypes", "nodeGroupName",
            "nodeGroupNamePrefix", "nodeRoleArn", "remoteAccess", "subnetIds", "launchTemplate.id",
            "launchTemplate.name",
        ),
        (
            "labels", "launchTemplate.version", "scalingConfig", "taints", "updateConfig", "version",
            "releaseVersion", "forceUpdateVersion", "nodeRepairConfig",
        ),
    ),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": Known(
        ("clusterName", "namespace", "serviceAccount"), ("roleArn", "targetRoleArn", "disableSessionTags")
    ),
    "aws:iam/policy:Policy": Known(("name", "namePrefix", "path", "description"), ("policy",)),
    "aws:iam/role:Role": Known(
        ("name", "namePrefix", "path"),
        ("assumeRolePolicy", "description", "forceDetachPolicies", "maxSessionDuration", "permissionsBoundary"),
    ),
    "aws:iam/rolePolicy:RolePolicy": Known(("name", "namePrefix", "role"), ("policy",)),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": Known(("policyArn", "role")),
    "aws:kms/alias:Alias": Known(("name", "namePrefix"), ("targetKeyId",)),
    "aws:kms/key:Key": Known(
        ("customKeyStoreId", "customerMasterKeySpec", "keyUsage", "multiRegion"),
        (
            "bypassPolicyLockoutSafetyCheck", "deletionWindowInDays", "description", "enableKeyRotation", "isEnabled",
            "policy", "rotationPeriodInDays",
        ),
    ),
    "aws:kms/keyPolicy:KeyPolicy": Known(("keyId",), ("policy", "bypassPolicyLockoutSafetyCheck")),
    "aws:lb/listener:Listener": Known(
        ("loadBalancerArn",), ("alpnPolicy", "certificateArn", "defaultActions", "port", "protocol", "sslPolicy")
    ),
    "aws:lb/loadBalancer:LoadBalancer": Known(
        ("internal", "loadBalancerType", "name", "namePrefix"),
        (
            "accessLogs", "enableCrossZoneLoadBalancing", "enableDeletionProtection", "idleTimeout",
            "enforceSecurityGroupInboundRulesOnPrivateLinkTraffic",
        ),
    ),
    "aws:lb/targetGroup:TargetGroup": Known(
        ("name", "namePrefix", "port", "protocol", "protocolVersion", "targetType", "vpcId", "ipAddressType"),
        (
            "connectionTermination", "deregistrationDelay", "healthCheck", "preserveClientIp", "proxyProtocolV2",
            "stickiness", "targetHealthStates",
        ),
    ),
    "aws:route53/healthCheck:HealthCheck": Known(
        ("measureLatency", "referenceName", "requestInterval", "type"),
        (
            "childHealthThreshold", "childHealthchecks", "cloudwatchAlarmName", "cloudwatchAlarmRegion", "disabled",
            "enableSni", "failureThreshold", "fqdn", "insufficientDataHealthStatus", "invertHealthcheck", "ipAddress",
            "port", "regions", "resourcePath", "searchString", "triggers",
        ),
    ),
    "aws:route53/queryLog:QueryLog": Known(("cloudwatchLogGroupArn", "zoneId")),
    "aws:route53/record:Record": Known(
        ("name", "setIdentifier", "type", "zoneId"),
        ("aliases", "allowOverwrite", "healthCheckId", "records", "ttl", "weightedRoutingPolicies"),
    ),
    "aws:route53/zone:Zone": Known(("name", "delegationSetId"), ("comment", "forceDestroy", "vpcs")),
    "aws:s3/bucket:Bucket": Known(("bucket", "bucketPrefix", "objectLockEnabled"), ("forceDestroy",)),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": Known(("bucket",), ("rules",)),
    "aws:s3/bucketMetric:BucketMetric": Known(("bucket", "name"), ("filter",)),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": Known(("bucket",), ("rule", "token")),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": Known(("bucket",), ("rule",)),
    "aws:s3/bucketPolicy:BucketPolicy": Known(("bucket",), ("policy",)),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": Known(
        ("bucket",), ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    ),
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": Known(("bucket",), ("role", "rules", "token")),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": Known(
        ("bucket",), ("rules",)
    ),
    "aws:s3/bucketVersioning:BucketVersioning": Known(("bucket",), ("mfa", "versioningConfiguration")),
    "aws:sns/topic:Topic": Known(
        ("name", "namePrefix", "fifoTopic"), ("deliveryPolicy", "displayName", "kmsMasterKeyId", "policy")
    ),
    "aws:sns/topicPolicy:TopicPolicy": Known(("arn",), ("policy",)),
    "aws:sns/topicSubscription:TopicSubscription": Known(
        ("endpoint", "protocol", "topic"), ("deliveryPolicy", "filterPolicy", "rawMessageDelivery")
    ),
}  # fmt: skip

API_RULE: Final = "the Kubernetes API keeps it as it was created"
POD_RULE: Final = "Pulumi makes a new one under a new name, so that pods that read it roll"
KUBERNETES_ALWAYS: Final = ("apiVersion", "kind", "metadata.name", "metadata.namespace")
KUBERNETES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "ConfigMap": (("data", "binaryData", "immutable"), POD_RULE),
    "Secret": (("data", "stringData", "type", "immutable"), POD_RULE),
    "DaemonSet": (("spec.selector",), API_RULE),
    "Deployment": (("spec.selector",), API_RULE),
    "StatefulSet": (
        ("spec.selector", "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"), API_RULE
    ),
    "Job": (("spec.completionMode", "spec.completions", "spec.selector", "spec.template"), API_RULE),
    "PersistentVolumeClaim": (
        ("spec.accessModes", "spec.selector", "spec.storageClassName", "spec.volumeMode", "spec.volumeName"), API_RULE
    ),
    "Service": (("spec.clusterIP", "spec.type"), API_RULE),
    "StorageClass": (("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"), API_RULE),
    "RoleBinding": (("roleRef",), API_RULE),
    "ClusterRoleBinding": (("roleRef",), API_RULE),
    "PriorityClass": (("value", "preemptionPolicy"), API_RULE),
    "MachineDeployment": (("spec.clusterName", "spec.selector"), "Cluster API keeps it as it was created"),
    "MachineHealthCheck": (("spec.clusterName",), "Cluster API keeps it as it was created"),
    "TargetGroupBinding": (
        ("spec.targetGroupARN", "spec.targetType", "spec.ipAddressType"), "the controller keeps it as it was created"
    ),
}  # fmt: skip
RELEASE_FIXED: Final = ("name", "namespace")


def verdict(kind: str, path: str) -> Verdict:
    """What a change of the property at `path` does to a resource of this type token."""
    package = kind.partition(":")[0]
    if kind.startswith("pulumi:providers:"):
        return _provider(kind, path)
    if package == "aws":
        return _aws(kind, path)
    if package == "kubernetes":
        return _kubernetes(kind.rpartition(":")[2], path)
    return Verdict(Effect.MAY_REPLACE, PROVIDER_DECIDES)


def _provider(kind: str, path: str) -> Verdict:
    if kind.endswith(":kubernetes") and path.startswith("kubeconfig"):
        return Verdict(Effect.MAY_REPLACE, "another cluster behind it replaces everything that goes to it")
    if kind.endswith(":aws") and path.startswith(("region", "accessKey", "secretKey", "profile", "assumeRoles")):
        return Verdict(Effect.MAY_REPLACE, "another account or region behind it has none of its resources")
    return Verdict(Effect.UPDATE, "a setting of the provider")


def _aws(kind: str, path: str) -> Verdict:
    known = AWS.get(kind, Known())
    if _under(path, known.fixed):
        return Verdict(Effect.REPLACE, AWS_RULE)
    if _under(path, (*ANY, *known.changeable)):
        return Verdict(Effect.UPDATE, AWS_UPDATE)
    said = _documented(kind, path.partition(".")[0].partition("[")[0])
    if said:
        return Verdict(Effect.REPLACE, f"the provider's documentation says: {said}")
    return Verdict(Effect.MAY_REPLACE, PROVIDER_DECIDES)


def _kubernetes(kind: str, path: str) -> Verdict:
    if kind == "Release":
        fixed = _under(path, RELEASE_FIXED)
        return Verdict(
            Effect.REPLACE if fixed else Effect.UPDATE,
            "Helm knows a release by it" if fixed else "Helm upgrades the release",
        )
    paths, rule = KUBERNETES.get(kind, ((), API_RULE))
    if _under(path, (*KUBERNETES_ALWAYS, *paths)):
        return Verdict(Effect.REPLACE, rule if _under(path, paths) else API_RULE)
    return Verdict(Effect.UPDATE, "server-side apply")


def _under(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith((f"{root}.", f"{root}[")) for root in roots)


@cache
def _documented(kind: str, argument: str) -> str:
    """The sentence of the installed SDK that says a change of the argument makes a new resource; empty for none."""
    _, module, name = kind.split(":")
    try:
        found: Any = importlib.import_module(f"pulumi_aws.{module.partition('/')[0]}")
    except ImportError:
        return ""
    attribute = re.sub(r"(?<!^)(?=[A-Z])", "_", argument).lower()
    for holder in (getattr(found, f"{name}Args", None), getattr(found, name, None)):
        text = getattr(getattr(holder, attribute, None), "__doc__", None)
        if text and (said := DOCUMENTED.search(" ".join(text.split()))):
            return said.group(0).strip()
    return ""
