"""Where the inputs of each AWS type go: operations of botocore's service models, and what has no place in them.

A property goes to the member of its name, whatever the case, singular or plural; here stands only what does not. A
place is written like `Member.Member[].Member` and lies in the structure around the property, or in another operation's
request: `Operation:Member`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lab.schemas.aws_counterpart import ATTRIBUTE, CALL, DELETION, Counterpart
from lab.schemas.aws_counterparts_network import NETWORK

EVERYWHERE: Final = {
    "namePrefix": "the provider makes a name of it, which is asked about instead",
    "region": "picks the endpoint that is asked and stands in no request",
}
"""Properties of any type."""

_ZONE_TAGS: Final = {"tags": "ChangeTagsForResource:AddTags"}


def _setting(operation: str, structure: str = "", places: Mapping[str, str] | None = None) -> Counterpart:
    """A setting of a bucket: what it holds lies in one structure beside the bucket's name."""
    inner = (f"{operation}:{structure}",) if structure else ()
    return Counterpart(service="s3", requests=(operation, *inner), places=places or {})


COUNTERPARTS: Final[Mapping[str, Counterpart]] = {
    **NETWORK,
    "aws:acm/certificate:Certificate": Counterpart(service="acm", requests=("RequestCertificate",)),
    "aws:acm/certificateValidation:CertificateValidation": Counterpart(
        service="acm",
        requests=("DescribeCertificate",),
        without={"validationRecordFqdns": "compared by the provider with what the certificate asks for"},
    ),
    "aws:cloudwatch/logGroup:LogGroup": Counterpart(
        service="logs",
        requests=("CreateLogGroup", "PutRetentionPolicy"),
        places={"name": "logGroupName"},
        supplied=("logGroupName",),
        without={"skipDestroy": DELETION},
    ),
    "aws:cloudwatch/logResourcePolicy:LogResourcePolicy": Counterpart(service="logs", requests=("PutResourcePolicy",)),
    "aws:cloudwatch/metricAlarm:MetricAlarm": Counterpart(
        service="cloudwatch",
        requests=("PutMetricAlarm",),
        places={"name": "AlarmName"},
        supplied=("AlarmName",),
    ),
    "aws:eks/accessEntry:AccessEntry": Counterpart(service="eks", requests=("CreateAccessEntry",)),
    "aws:eks/accessPolicyAssociation:AccessPolicyAssociation": Counterpart(
        service="eks", requests=("AssociateAccessPolicy",)
    ),
    "aws:eks/addon:Addon": Counterpart(
        service="eks",
        requests=("CreateAddon",),
        places={
            "resolveConflictsOnCreate": "resolveConflicts",
            "resolveConflictsOnUpdate": "UpdateAddon:resolveConflicts",
        },
        without={"preserve": DELETION},
    ),
    "aws:eks/cluster:Cluster": Counterpart(
        service="eks",
        requests=("CreateCluster",),
        places={
            "enabledClusterLogTypes": "logging.clusterLogging[].types",
            "encryptionConfig": "encryptionConfig[]",
            "vpcConfig": "resourcesVpcConfig",
        },
    ),
    "aws:eks/nodeGroup:NodeGroup": Counterpart(
        service="eks",
        requests=("CreateNodegroup",),
        places={
            "nodeRoleArn": "nodeRole",
            "subnetIds": "subnets",
            "forceUpdateVersion": "UpdateNodegroupVersion:force",
        },
        supplied=("nodegroupName",),
    ),
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": Counterpart(
        service="eks", requests=("CreatePodIdentityAssociation",)
    ),
    "aws:iam/role:Role": Counterpart(
        service="iam",
        requests=("CreateRole",),
        places={"name": "RoleName", "assumeRolePolicy": "AssumeRolePolicyDocument"},
        supplied=("RoleName",),
        without={"forceDetachPolicies": DELETION},
    ),
    "aws:iam/rolePolicy:RolePolicy": Counterpart(
        service="iam",
        requests=("PutRolePolicy",),
        places={"name": "PolicyName", "policy": "PolicyDocument", "role": "RoleName"},
        supplied=("PolicyName",),
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": Counterpart(
        service="iam", requests=("AttachRolePolicy",), places={"role": "RoleName"}
    ),
    "aws:kms/alias:Alias": Counterpart(
        service="kms", requests=("CreateAlias",), places={"name": "AliasName"}, supplied=("AliasName",)
    ),
    "aws:kms/key:Key": Counterpart(
        service="kms",
        requests=("CreateKey", "EnableKeyRotation"),
        places={
            "customerMasterKeySpec": "KeySpec",
            "deletionWindowInDays": "ScheduleKeyDeletion:PendingWindowInDays",
        },
        without={"enableKeyRotation": CALL, "isEnabled": CALL},
    ),
    "aws:kms/keyPolicy:KeyPolicy": Counterpart(service="kms", requests=("PutKeyPolicy",)),
    "aws:route53/healthCheck:HealthCheck": Counterpart(
        service="route53",
        requests=("CreateHealthCheck:HealthCheckConfig",),
        places={
            **_ZONE_TAGS,
            "childHealthThreshold": "HealthThreshold",
            "cloudwatchAlarmName": "AlarmIdentifier.Name",
            "cloudwatchAlarmRegion": "AlarmIdentifier.Region",
            "fqdn": "FullyQualifiedDomainName",
            "invertHealthcheck": "Inverted",
            "referenceName": "CreateHealthCheck:CallerReference",
        },
        supplied=("CallerReference",),
        without={"triggers": "makes the provider tell the alarm again when it changes, and is sent to nobody"},
    ),
    "aws:route53/queryLog:QueryLog": Counterpart(
        service="route53",
        requests=("CreateQueryLoggingConfig",),
        places={"cloudwatchLogGroupArn": "CloudWatchLogsLogGroupArn", "zoneId": "HostedZoneId"},
    ),
    "aws:route53/record:Record": Counterpart(
        service="route53",
        requests=("ChangeResourceRecordSets:ChangeBatch.Changes[].ResourceRecordSet",),
        places={
            "aliases[]": "AliasTarget",
            "aliases[].name": "DNSName",
            "aliases[].zoneId": "HostedZoneId",
            "records[]": "ResourceRecords[].Value",
            "weightedRoutingPolicies[].weight": "Weight",
            "zoneId": "ChangeResourceRecordSets:HostedZoneId",
        },
        supplied=("Action",),
        without={"allowOverwrite": CALL},
    ),
    "aws:route53/zone:Zone": Counterpart(
        service="route53",
        requests=("CreateHostedZone",),
        places={**_ZONE_TAGS, "comment": "HostedZoneConfig.Comment"},
        supplied=("CallerReference",),
        without={"forceDestroy": DELETION},
    ),
    "aws:s3/bucket:Bucket": Counterpart(
        service="s3",
        requests=("CreateBucket",),
        places={"objectLockEnabled": "ObjectLockEnabledForBucket", "tags": "PutBucketTagging:Tagging.TagSet"},
        supplied=("Bucket",),
        without={"forceDestroy": DELETION},
    ),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": _setting(
        "PutBucketLifecycleConfiguration", "LifecycleConfiguration"
    ),
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": _setting(
        "PutObjectLockConfiguration", "ObjectLockConfiguration"
    ),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": _setting(
        "PutBucketOwnershipControls", places={"rule": "OwnershipControls.Rules[]"}
    ),
    "aws:s3/bucketPolicy:BucketPolicy": _setting("PutBucketPolicy"),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": _setting(
        "PutPublicAccessBlock", "PublicAccessBlockConfiguration"
    ),
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": _setting(
        "PutBucketReplication", "ReplicationConfiguration"
    ),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": _setting(
        "PutBucketEncryption", "ServerSideEncryptionConfiguration"
    ),
    "aws:s3/bucketVersioning:BucketVersioning": Counterpart(
        service="s3",
        requests=("PutBucketVersioning",),
        beyond={"versioningConfiguration.status": ("Disabled",)},
    ),
    "aws:sns/topic:Topic": Counterpart(
        service="sns",
        requests=("CreateTopic",),
        supplied=("Name",),
        without=dict.fromkeys(("displayName", "kmsMasterKeyId", "policy"), ATTRIBUTE),
    ),
    "aws:sns/topicSubscription:TopicSubscription": Counterpart(
        service="sns",
        requests=("Subscribe",),
        places={"topic": "TopicArn"},
        without={
            "confirmationTimeoutInMinutes": "how long the provider waits for a confirmation",
            "endpointAutoConfirms": "whether the provider waits for a confirmation",
            "rawMessageDelivery": ATTRIBUTE,
        },
    ),
}
"""Pulumi type -> its counterpart."""
