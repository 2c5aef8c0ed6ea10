"""AWS resources as the provider declares them: arguments that cannot be changed in place, and those that can.

Read from the provider's own schemas (ForceNew, RequiresReplace):
https://github.com/hashicorp/terraform-provider-aws/tree/main/internal/service. Pulumi's provider is that one; where it
overrides ForceNew (https://github.com/pulumi/pulumi-aws/blob/master/provider/resources.go) was looked up for the types
from `efs` on.
What hangs on both values of an argument stands in `aws_conditions.py`; what stands in neither, nobody here knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Known:
    """What is known of one AWS resource: arguments that cannot be changed in place, and those that can."""

    fixed: tuple[str, ...] = ()
    changeable: tuple[str, ...] = ()


ANY: Final = ("tags", "tagsAll")
"""Changeable wherever they are."""

AWS: Final[Mapping[str, Known]] = {
    "aws:acm/certificate:Certificate": Known(
        (
            "certificateAuthorityArn", "domainName", "keyAlgorithm", "subjectAlternativeNames", "validationMethod",
            "validationOptions",
        ),
        (
            "certificateBody", "certificateChain", "earlyRenewalDuration",
            "options.certificateTransparencyLoggingPreference", "privateKey",
        ),
    ),
    "aws:acm/certificateValidation:CertificateValidation": Known(("certificateArn", "validationRecordFqdns")),
    "aws:cloudwatch/logGroup:LogGroup": Known(
        ("name", "namePrefix", "logGroupClass"),
        ("kmsKeyId", "retentionInDays", "skipDestroy"),
    ),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": Known(("policyName",), ("policyDocument",)),
    "aws:cloudwatch/metricAlarm:MetricAlarm": Known(
        ("name",),
        (
            "actionsEnabled", "alarmActions", "alarmDescription", "comparisonOperator", "datapointsToAlarm",
            "dimensions", "evaluateLowSampleCountPercentiles", "evaluationPeriods", "extendedStatistic",
            "insufficientDataActions", "metricName", "metricQueries", "namespace", "okActions", "period", "statistic",
            "threshold", "thresholdMetricId", "treatMissingData", "unit",
        ),
    ),
    "aws:ec2/capacityReservation:CapacityReservation": Known(
        (
            "availabilityZone", "ebsOptimized", "ephemeralStorage", "instanceMatchCriteria", "instancePlatform",
            "instanceType", "tenancy",
        ),
        ("endDate", "endDateType", "instanceCount"),
    ),
    "aws:ec2/eip:Eip": Known(
        ("address", "domain", "networkBorderGroup", "publicIpv4Pool"),
        ("associateWithPrivateIp", "instance", "networkInterface"),
    ),
    "aws:ec2/flowLog:FlowLog": Known(
        (
            "deliverCrossAccountRole", "destinationOptions", "eniId", "iamRoleArn", "logDestination",
            "logDestinationType", "logFormat", "maxAggregationInterval", "subnetId", "trafficType",
            "transitGatewayAttachmentId", "transitGatewayId", "vpcId",
        )
    ),
    "aws:ec2/internetGateway:InternetGateway": Known((), ("vpcId",)),
    "aws:ec2/launchTemplate:LaunchTemplate": Known(
        ("name", "namePrefix"),
        (
            "blockDeviceMappings", "capacityReservationSpecification", "cpuOptions", "creditSpecification",
            "defaultVersion", "description", "disableApiStop", "disableApiTermination", "ebsOptimized",
            "enclaveOptions", "hibernationOptions", "iamInstanceProfile", "imageId",
            "instanceInitiatedShutdownBehavior", "instanceMarketOptions", "instanceRequirements", "instanceType",
            "kernelId", "keyName", "licenseSpecifications", "maintenanceOptions", "metadataOptions", "monitoring",
            "networkInterfaces", "placement", "privateDnsNameOptions", "ramDiskId", "securityGroupNames",
            "tagSpecifications", "updateDefaultVersion", "userData", "vpcSecurityGroupIds",
        ),
    ),
    "aws:ec2/natGateway:NatGateway": Known(("allocationId", "connectivityType", "privateIp", "subnetId")),
    "aws:ec2/routeTable:RouteTable": Known(("vpcId",), ("routes", "propagatingVgws")),
    "aws:ec2/routeTableAssociation:RouteTableAssociation": Known(("subnetId", "gatewayId"), ("routeTableId",)),
    "aws:ec2/securityGroup:SecurityGroup": Known(
        ("name", "namePrefix", "description", "vpcId"), ("ingress", "egress", "revokeRulesOnDelete")
    ),
    "aws:ec2/subnet:Subnet": Known(
        ("availabilityZone", "availabilityZoneId", "cidrBlock", "ipv6Native", "outpostArn", "vpcId"),
        (
            "assignIpv6AddressOnCreation", "customerOwnedIpv4Pool", "enableDns64", "enableLniAtDeviceIndex",
            "enableResourceNameDnsARecordOnLaunch", "enableResourceNameDnsAaaaRecordOnLaunch", "ipv6CidrBlock",
            "mapCustomerOwnedIpOnLaunch", "mapPublicIpOnLaunch", "privateDnsHostnameTypeOnLaunch",
        ),
    ),
    "aws:ec2/vpc:Vpc": Known(
        ("cidrBlock", "ipv4IpamPoolId", "ipv4NetmaskLength"),
        (
            "assignGeneratedIpv6CidrBlock", "enableDnsHostnames", "enableDnsSupport",
            "enableNetworkAddressUsageMetrics", "ipv6CidrBlock", "ipv6CidrBlockNetworkBorderGroup", "ipv6IpamPoolId",
            "ipv6NetmaskLength",
        ),
    ),
    "aws:ec2/vpcEndpoint:VpcEndpoint": Known(
        ("serviceName", "vpcEndpointType", "vpcId"),
        ("autoAccept", "dnsOptions", "ipAddressType", "policy", "routeTableIds", "securityGroupIds", "subnetIds"),
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
            "accessConfig.bootstrapClusterCreatorAdminPermissions", "bootstrapSelfManagedAddons",
            "kubernetesNetworkConfig.ipFamily", "kubernetesNetworkConfig.serviceIpv4Cidr", "name",
            "outpostConfig.controlPlaneInstanceType", "outpostConfig.controlPlanePlacement.groupName",
            "remoteNetworkConfig", "roleArn",
        ),
        (
            "accessConfig.authenticationMode", "computeConfig.enabled", "computeConfig.nodePools", "deletionProtection",
            "enabledClusterLogTypes", "kubernetesNetworkConfig.elasticLoadBalancing",
            "storageConfig", "upgradePolicy", "version", "vpcConfig", "zonalShiftConfig",
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
    "aws:kms/keyPolicy:KeyPolicy": Known((), ("policy", "bypassPolicyLockoutSafetyCheck")),
    "aws:lb/listener:Listener": Known(
        ("loadBalancerArn",),
        (
            "alpnPolicy", "certificateArn", "defaultActions", "port", "protocol", "sslPolicy",
        ),
    ),
    "aws:lb/loadBalancer:LoadBalancer": Known(
        ("customerOwnedIpv4Pool", "internal", "loadBalancerType", "name", "namePrefix"),
        (
            "accessLogs", "clientKeepAlive", "connectionLogs", "desyncMitigationMode", "dnsRecordClientRoutingPolicy",
            "dropInvalidHeaderFields", "enableCrossZoneLoadBalancing", "enableDeletionProtection", "enableHttp2",
            "enableTlsVersionAndCipherSuiteHeaders", "enableWafFailOpen", "enableXffClientPort", "enableZonalShift",
            "enforceSecurityGroupInboundRulesOnPrivateLinkTraffic", "idleTimeout", "ipAddressType", "ipamPools",
            "minimumLoadBalancerCapacity", "preserveHostHeader", "xffHeaderProcessingMode",
        ),
    ),
    "aws:lb/targetGroup:TargetGroup": Known(
        ("name", "namePrefix", "port", "protocol", "protocolVersion", "targetType", "vpcId", "ipAddressType"),
        (
            "connectionTermination", "deregistrationDelay", "healthCheck", "lambdaMultiValueHeadersEnabled",
            "loadBalancingAlgorithmType", "loadBalancingAnomalyMitigation", "loadBalancingCrossZoneEnabled",
            "preserveClientIp", "proxyProtocolV2", "slowStart", "stickiness", "targetFailovers", "targetGroupHealth",
            "targetHealthStates",
        ),
    ),
    "aws:route53/healthCheck:HealthCheck": Known(
        ("measureLatency", "referenceName", "requestInterval", "routingControlArn", "type"),
        (
            "childHealthThreshold", "childHealthchecks", "cloudwatchAlarmName", "cloudwatchAlarmRegion", "disabled",
            "enableSni", "failureThreshold", "fqdn", "insufficientDataHealthStatus", "invertHealthcheck", "ipAddress",
            "port", "regions", "resourcePath", "searchString", "triggers",
        ),
    ),
    "aws:route53/queryLog:QueryLog": Known(("cloudwatchLogGroupArn", "zoneId")),
    "aws:route53/record:Record": Known(
        ("name", "zoneId"),
        (
            "aliases", "allowOverwrite", "cidrRoutingPolicy", "failoverRoutingPolicies", "geolocationRoutingPolicies",
            "geoproximityRoutingPolicy", "healthCheckId", "latencyRoutingPolicies", "multivalueAnswerRoutingPolicy",
            # The provider deletes and creates such a record in one transaction and keeps the resource.
            "records", "setIdentifier", "ttl", "type", "weightedRoutingPolicies",
        ),
    ),
    "aws:route53/zone:Zone": Known(("name", "delegationSetId"), ("comment", "forceDestroy", "vpcs")),
    "aws:s3/bucket:Bucket": Known(("bucket", "bucketPrefix", "objectLockEnabled"), ("forceDestroy",)),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": Known(
        ("bucket", "expectedBucketOwner"), ("rules",)
    ),
    "aws:s3/bucketMetric:BucketMetric": Known(("bucket", "name"), ("filter",)),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": Known(
        ("bucket", "expectedBucketOwner", "objectLockEnabled"), ("rule", "token")
    ),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": Known(("bucket",), ("rule",)),
    "aws:s3/bucketPolicy:BucketPolicy": Known(("bucket",), ("policy",)),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": Known(
        ("bucket",), ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    ),
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": Known(("bucket",), ("role", "rules", "token")),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": Known(
        ("bucket", "expectedBucketOwner"), ("rules",)
    ),
    "aws:s3/bucketVersioning:BucketVersioning": Known(
        ("bucket", "expectedBucketOwner"), ("mfa", "versioningConfiguration")
    ),
    "aws:sns/topic:Topic": Known(
        ("fifoTopic", "name", "namePrefix"),
        (
            "contentBasedDeduplication", "deliveryPolicy", "displayName", "kmsMasterKeyId", "policy",
            "signatureVersion", "tracingConfig",
        ),
    ),
    "aws:sns/topicPolicy:TopicPolicy": Known(("arn",), ("policy",)),
    "aws:sns/topicSubscription:TopicSubscription": Known(
        ("endpoint", "protocol", "topic"),
        (
            "confirmationTimeoutInMinutes", "deliveryPolicy", "endpointAutoConfirms", "filterPolicy",
            "filterPolicyScope", "rawMessageDelivery", "redrivePolicy", "subscriptionRoleArn",
        ),
    ),
}  # fmt: skip
