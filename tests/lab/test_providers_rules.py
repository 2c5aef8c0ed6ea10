"""Each rule of the aws types: what is refused, by which property, with which remedy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.providers.aws.provider import AwsPackage
from lab.providers.aws.s3_policy import is_public
from lab.providers.difference import Change, compare
from lab.providers.kubernetes.immutable import replaced
from lab.providers.loopback import require_loopback
from lab.providers.package import Subject
from lab.providers.values import UNKNOWN
from lab.topology import Topology

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
OPEN = json.dumps({"Statement": {"Effect": "Allow", "Principal": "*", "Resource": "arn:aws:s3:::b/drain/*"}})
COPIED: dict[str, Any] = {
    "id": "replica",
    "priority": 1,
    "status": "Enabled",
    "filter": {"prefix": ""},
    "deleteMarkerReplication": {"status": "Enabled"},
    "sourceSelectionCriteria": {"sseKmsEncryptedObjects": {"status": "Enabled"}},
    "destination": {
        "bucket": "arn:aws:s3:::c",
        "encryptionConfiguration": {"replicaKmsKeyId": "arn:aws:kms:eu-west-1:1:key/k"},
        "metrics": {"status": "Enabled", "eventThreshold": {"minutes": 15}},
        "replicationTime": {"status": "Enabled", "time": {"minutes": 15}},
    },
}
GOOD: dict[str, dict[str, Any]] = {
    "aws:s3/bucket:Bucket": {},
    "aws:s3/bucketVersioning:BucketVersioning": {"bucket": "b", "versioningConfiguration": {"status": "Enabled"}},
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": {
        "bucket": "b",
        "rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "AES256"}}],
    },
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": {
        "bucket": "b",
        "rule": {"objectOwnership": "ObjectWriter"},
    },
    "aws:s3/bucketPolicy:BucketPolicy": {"bucket": "b", "policy": OPEN},
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": {
        "bucket": "b",
        "rules": [
            {
                "id": "old",
                "status": "Enabled",
                "filter": {"prefix": ""},
                "transitions": [{"days": 30, "storageClass": "STANDARD_IA"}],
                "expiration": {"days": 60},
            }
        ],
    },
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": {
        "bucket": "b",
        "rule": {"defaultRetention": {"mode": "GOVERNANCE", "days": 1}},
    },
    "aws:s3/bucketReplicationConfig:BucketReplicationConfig": {
        "bucket": "b",
        "role": "arn:aws:iam::1:role/r",
        "rules": [COPIED],
    },
    "aws:iam/rolePolicy:RolePolicy": {"role": "r", "policy": TRUST},
    "aws:kms/key:Key": {},
    "aws:kms/alias:Alias": {"targetKeyId": "k"},
    "aws:iam/role:Role": {"assumeRolePolicy": TRUST},
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": {"role": "r", "policyArn": "arn:aws:iam::aws:policy/P"},
    "aws:ec2/vpc:Vpc": {"cidrBlock": "10.0.0.0/16"},
    "aws:ec2/subnet:Subnet": {"vpcId": "vpc-1", "cidrBlock": "10.0.0.0/24"},
    "aws:ec2/eip:Eip": {"domain": "vpc"},
    "aws:ec2/natGateway:NatGateway": {"subnetId": "subnet-1", "allocationId": "eipalloc-1"},
    "aws:ec2/routeTable:RouteTable": {"vpcId": "vpc-1"},
    "aws:ec2/route:Route": {"routeTableId": "rtb-1", "destinationCidrBlock": "0.0.0.0/0", "gatewayId": "igw-1"},
    "aws:ec2/routeTableAssociation:RouteTableAssociation": {"routeTableId": "rtb-1", "subnetId": "subnet-1"},
    "aws:ec2/securityGroup:SecurityGroup": {"vpcId": "vpc-1"},
    "aws:ec2/launchTemplate:LaunchTemplate": {},
    "aws:eks/cluster:Cluster": {
        "roleArn": "arn:aws:iam::1:role/r",
        "vpcConfig": {"subnetIds": ["a", "b"]},
        "tags": {"tandem.io/site": "public"},
    },
    "aws:eks/nodeGroup:NodeGroup": {
        "clusterName": "c",
        "nodeRoleArn": "arn:aws:iam::1:role/r",
        "scalingConfig": {"minSize": 1, "desiredSize": 1, "maxSize": 2},
        "subnetIds": ["a"],
    },
    "aws:lb/loadBalancer:LoadBalancer": {
        "loadBalancerType": "network",
        "subnets": ["a"],
        "tags": {"tandem.io/site": "public"},
    },
    "aws:lb/targetGroup:TargetGroup": {"port": 8080, "protocol": "TCP", "vpcId": "vpc-1"},
    "aws:lb/listener:Listener": {
        "loadBalancerArn": "arn",
        "port": 80,
        "protocol": "TCP",
        "defaultActions": [{"type": "forward", "targetGroupArn": "arn"}],
    },
    "aws:route53/zone:Zone": {"name": "tandem.example"},
    "aws:route53/healthCheck:HealthCheck": {"type": "HTTP", "ipAddress": "127.10.0.10", "requestInterval": 10},
    "aws:route53/record:Record": {"zoneId": "Z", "name": "w", "type": "A", "ttl": 5, "records": ["127.10.0.10"]},
}
WEIGHTED = {"setIdentifier": "s", "weightedRoutingPolicies": [{"weight": 1}]}
ABSENT: Any = None

COPIES = "s3/bucketReplicationConfig:BucketReplicationConfig"
LIFE = "s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
LOCK = "s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"


def copied(**destination: Any) -> dict[str, Any]:
    """The rule with another destination."""
    return {**COPIED, "destination": {**COPIED["destination"], **destination}}


def old(**changes: Any) -> dict[str, Any]:
    """The rule of old objects with something else in it."""
    return {**GOOD[f"aws:{LIFE}"]["rules"][0], **changes}


BROKEN = [
    (COPIES, {"role": "copier"}, "role", "named by its ARN"),
    (COPIES, {"rules": [COPIED, {**COPIED, "id": "backup"}]}, "rules", "each rule has its own"),
    (COPIES, {"rules": [{**COPIED, "status": "On"}]}, "status", "Enabled, Disabled"),
    (COPIES, {"rules": [{**COPIED, "deleteMarkerReplication": None}]}, "rules", "says nothing of delete markers"),
    (COPIES, {"rules": [copied(metrics=None)]}, "rules", "wants both or none"),
    (COPIES, {"rules": [copied(metrics={"status": "Enabled", "eventThreshold": {"minutes": 5}})]}, "rules", "15 only"),
    (COPIES, {"rules": [copied(replicationTime={"status": "Enabled", "time": {"minutes": 60}})]}, "rules", "15 only"),
    (COPIES, {"rules": [copied(encryptionConfiguration=None)]}, "rules", "no replica key is named"),
    (LIFE, {"rules": [old(), old()]}, "rules", "each has its own"),
    (LIFE, {"rules": [old(status="On")]}, "status", "Enabled, Disabled"),
    (LIFE, {"rules": [old(transitions=[{"days": 29, "storageClass": "STANDARD_IA"}])]}, "rules", "nothing there"),
    (LIFE, {"rules": [old(expiration={"days": 30})]}, "rules", "it is later"),
    (LOCK, {"rule": {"defaultRetention": {"mode": "LEGAL", "days": 1}}}, "rule", "GOVERNANCE, COMPLIANCE"),
    (LOCK, {"rule": {"defaultRetention": {"mode": "GOVERNANCE", "days": 0}}}, "rule", "one of them, above 0"),
    (LOCK, {"rule": {"defaultRetention": {"mode": "GOVERNANCE", "days": 1, "years": 1}}}, "rule", "one of them"),
    ("iam/rolePolicy:RolePolicy", {"policy": "all"}, "policy", "no JSON object"),
    ("route53/healthCheck:HealthCheck", {"requestInterval": 7}, "requestInterval", "allowed are 10, 30"),
    ("route53/healthCheck:HealthCheck", {"failureThreshold": 0}, "failureThreshold", "within 1 and 10"),
    ("route53/healthCheck:HealthCheck", {"failureThreshold": 11}, "failureThreshold", "within 1 and 10"),
    ("route53/healthCheck:HealthCheck", {"port": 0}, "port", "within 1 and 65535"),
    ("route53/healthCheck:HealthCheck", {"type": "PING"}, "type", "HTTP_STR_MATCH"),
    ("route53/healthCheck:HealthCheck", {"type": "HTTP_STR_MATCH"}, "searchString", "needs one"),
    ("route53/healthCheck:HealthCheck", {"searchString": "ok"}, "searchString", "use HTTP_STR_MATCH"),
    ("route53/healthCheck:HealthCheck", {"ipAddress": ABSENT}, "ipAddress", "ipAddress or fqdn"),
    ("route53/healthCheck:HealthCheck", {"ipAddress": "host"}, "ipAddress", "use fqdn"),
    ("route53/healthCheck:HealthCheck", {"resourcePath": "healthz"}, "resourcePath", "begin with /"),
    ("route53/healthCheck:HealthCheck", {"regions": ["a"]}, "regions", "at least three"),
    ("route53/healthCheck:HealthCheck", {"type": "CALCULATED"}, "childHealthchecks", "needs one"),
    (
        "route53/healthCheck:HealthCheck",
        {"type": "CALCULATED", "ipAddress": ABSENT, "childHealthchecks": [UNKNOWN], "childHealthThreshold": 2},
        "childHealthThreshold",
        "no more than there are",
    ),
    ("route53/healthCheck:HealthCheck", {"type": "CLOUDWATCH_METRIC"}, "cloudwatchAlarmName", "goes by an alarm"),
    ("route53/healthCheck:HealthCheck", {"type": "RECOVERY_CONTROL"}, "type", "CALCULATED"),
    ("route53/healthCheck:HealthCheck", {"cloudwatchAlarmName": "a"}, "cloudwatchAlarmName", "remove it"),
    ("route53/healthCheck:HealthCheck", {"fqdn": "bad..name"}, "fqdn", "single dots"),
    ("route53/record:Record", {"type": "MX", "records": ["1 mail"]}, "type", "A, AAAA, CNAME, NS, SOA, TXT"),
    (
        "route53/record:Record",
        {"setIdentifier": "s", "failoverRoutingPolicies": [{"type": "PRIMARY"}]},
        "failover",
        "use weightedRoutingPolicies",
    ),
    (
        "route53/record:Record",
        {"setIdentifier": "s", "multivalueAnswerRoutingPolicy": True},
        "multivalue",
        "use weightedRoutingPolicies",
    ),
    (
        "route53/record:Record",
        {
            "records": ABSENT,
            "ttl": ABSENT,
            "aliases": [{"name": "e.elb.amazonaws.com", "zoneId": "Z", "evaluateTargetHealth": True}],
        },
        "evaluateTargetHealth",
        "set it to false",
    ),
    ("route53/record:Record", {"ttl": -1}, "ttl", "at least 0"),
    ("route53/record:Record", {"ttl": ABSENT}, "ttl", "missing"),
    ("route53/record:Record", {"type": "B"}, "type", "CNAME"),
    ("route53/record:Record", {"records": ["host"]}, "records", "IPv4"),
    ("route53/record:Record", {"records": ABSENT, "ttl": ABSENT}, "records", "neither"),
    ("route53/record:Record", {"type": "CNAME", "records": ["a", "b"]}, "records", "exactly one"),
    ("route53/record:Record", {"setIdentifier": "s"}, "setIdentifier", "without a routing policy"),
    ("route53/record:Record", {"weightedRoutingPolicies": [{"weight": 1}]}, "setIdentifier", "needs one"),
    ("route53/record:Record", {**WEIGHTED, "weightedRoutingPolicies": [{"weight": 256}]}, "weight", "within 0 and 255"),
    ("route53/record:Record", {**WEIGHTED, "weightedRoutingPolicies": [{"weight": -1}]}, "weight", "within 0 and 255"),
    ("route53/record:Record", {**WEIGHTED, "weightedRoutingPolicies": [{"weight": 0.5}]}, "weight", "integer"),
    ("route53/record:Record", {**WEIGHTED, "multivalueAnswerRoutingPolicy": True}, "multivalue", "keep one"),
    (
        "route53/record:Record",
        {"setIdentifier": "s", "latencyRoutingPolicies": [{"region": "r"}]},
        "latency",
        "resolver",
    ),
    ("route53/record:Record", {"zoneId": ABSENT}, "zoneId", "required"),
    ("route53/record:Record", {"wieght": 1}, "wieght", "no property"),
    ("route53/zone:Zone", {"vpcs": [{"vpcId": "v"}]}, "vpcs", "public zones only"),
    ("route53/zone:Zone", {"name": "two words"}, "name", "like a domain"),
    ("s3/bucket:Bucket", {"bucket": "No_Such"}, "bucket", "lower-case"),
    ("s3/bucket:Bucket", {"versioning": {"enabled": True}}, "versioning", "declare a BucketVersioning"),
    ("s3/bucket:Bucket", {"forceDestroy": "perhaps"}, "forceDestroy", "boolean"),
    ("s3/bucket:Bucket", {"forceDestory": True}, "forceDestory", "did you mean 'forceDestroy'"),
    ("s3/bucketVersioning:BucketVersioning", {"versioningConfiguration": {"status": "On"}}, "status", "Enabled"),
    ("s3/bucketVersioning:BucketVersioning", {"versioningConfiguration": {"state": "x"}}, "state", "no property"),
    (
        "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
        {"rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "ROT13"}}]},
        "sseAlgorithm",
        "AES256",
    ),
    ("s3/bucketOwnershipControls:BucketOwnershipControls", {"rule": {"objectOwnership": "Me"}}, "rule", "ObjectWriter"),
    ("s3/bucketPolicy:BucketPolicy", {"policy": "everybody"}, "policy", "JSON"),
    ("s3/bucketPolicy:BucketPolicy", {"bucket": "c"}, "policy", "its own bucket"),
    ("lb/targetGroup:TargetGroup", {"preserveClientIp": "perhaps"}, "preserveClientIp", "true, false"),
    ("kms/key:Key", {"deletionWindowInDays": 3}, "deletionWindowInDays", "within 7 and 30"),
    ("kms/key:Key", {"policy": "allow all"}, "policy", "JSON"),
    ("kms/alias:Alias", {"name": "models"}, "name", "alias/"),
    ("iam/role:Role", {"assumeRolePolicy": "everybody"}, "assumeRolePolicy", "JSON"),
    ("iam/role:Role", {"maxSessionDuration": 60}, "maxSessionDuration", "within 3600"),
    ("iam/role:Role", {"managedPolicyArns": ["a"]}, "managedPolicyArns", "RolePolicyAttachment"),
    ("iam/rolePolicyAttachment:RolePolicyAttachment", {"policyArn": "Admin"}, "policyArn", "ARN"),
    ("ec2/vpc:Vpc", {"cidrBlock": "10.0.0.1/16"}, "cidrBlock", "IPv4 block"),
    ("ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/8"}, "cidrBlock", "/16 and /28"),
    ("ec2/vpc:Vpc", {"cidrBlock": ABSENT}, "cidrBlock", "missing"),
    ("ec2/subnet:Subnet", {"availabilityZone": "us-east-1a"}, "availabilityZone", "eu-central-1"),
    ("ec2/eip:Eip", {"tags": {"tandem.io/site": "moon"}}, "tags", "private, public"),
    ("ec2/natGateway:NatGateway", {"allocationId": ABSENT}, "allocationId", "Eip"),
    ("ec2/routeTable:RouteTable", {"routes": [{"cidrBlock": "0.0.0.0/0"}]}, "routes", "exactly one target"),
    ("ec2/route:Route", {"natGatewayId": "nat-1"}, "gatewayId", "exactly one target"),
    ("ec2/routeTableAssociation:RouteTableAssociation", {"subnetId": ABSENT}, "subnetId", "exactly one"),
    ("ec2/securityGroup:SecurityGroup", {"name": "sg-mine"}, "name", "begin with sg-"),
    (
        "ec2/securityGroup:SecurityGroup",
        {"ingress": [{"protocol": "tcp", "fromPort": 9, "toPort": 1}]},
        "ingress",
        "in order",
    ),
    ("ec2/launchTemplate:LaunchTemplate", {"metadataOptions": {"httpTokens": "maybe"}}, "httpTokens", "required"),
    ("ec2/launchTemplate:LaunchTemplate", {"userData": "#!/bin/sh"}, "userData", "base64"),
    ("eks/cluster:Cluster", {"tags": {}}, "tags", "is missing"),
    ("eks/cluster:Cluster", {"tags": {"tandem.io/site": "moon"}}, "tags", "the sites private, public"),
    ("eks/cluster:Cluster", {"vpcConfig": {"subnetIds": ["a"]}}, "subnetIds", "two zones"),
    ("eks/cluster:Cluster", {"version": "latest"}, "version", "1.34"),
    ("eks/cluster:Cluster", {"enabledClusterLogTypes": ["all"]}, "enabledClusterLogTypes", "audit"),
    (
        "eks/nodeGroup:NodeGroup",
        {"scalingConfig": {"minSize": 2, "desiredSize": 1, "maxSize": 2}},
        "scalingConfig",
        "rise in this order",
    ),
    ("eks/nodeGroup:NodeGroup", {"capacityType": "CHEAP"}, "capacityType", "SPOT"),
    ("eks/nodeGroup:NodeGroup", {"taints": [{"key": "k", "effect": "NoSchedule"}]}, "taints", "NO_SCHEDULE"),
    ("lb/loadBalancer:LoadBalancer", {"loadBalancerType": "application"}, "loadBalancerType", "network"),
    ("lb/loadBalancer:LoadBalancer", {"subnets": ABSENT}, "subnets", "exactly one"),
    ("lb/loadBalancer:LoadBalancer", {"name": "-edge"}, "name", "hyphen"),
    ("lb/loadBalancer:LoadBalancer", {"tags": ABSENT}, "tags", "is missing"),
    ("lb/targetGroup:TargetGroup", {"port": 70000}, "port", "within 1 and 65535"),
    ("lb/targetGroup:TargetGroup", {"healthCheck": {"interval": 1}}, "healthCheck", "within 5 and 300"),
    ("lb/listener:Listener", {"defaultActions": [{"type": "redirect"}]}, "defaultActions", "targetGroupArn"),
    ("lb/listener:Listener", {"protocol": "HTTP"}, "protocol", "TCP"),
]


@pytest.fixture(scope="module")
def package() -> AwsPackage:
    """Nothing listens at its endpoint: these rules ask no API."""
    package = AwsPackage(Topology.default())
    services = ("s3", "ec2", "iam", "eks", "elbv2", "route53", "kms")
    package.configure({"region": "eu-central-1", "endpoints": [dict.fromkeys(services, "http://127.82.0.8:9")]})
    return package


def refused(package: AwsPackage, type_name: str, inputs: dict[str, Any]) -> list[tuple[str, str]]:
    subject = Subject(urn=f"urn:pulumi:test::tandem::{type_name}::thing", type=type_name, name="thing")
    checked = package.check(subject, {}, inputs, b"seed")
    return [(failure.property, failure.reason) for failure in checked.failures]


@pytest.mark.parametrize("type_name", GOOD, ids=lambda name: name.rpartition(":")[2])
def test_good_inputs_pass(package: AwsPackage, type_name: str) -> None:
    assert refused(package, type_name, GOOD[type_name]) == []


@pytest.mark.parametrize("type_name", GOOD, ids=lambda name: name.rpartition(":")[2])
def test_values_that_are_not_known_yet_break_no_rule(package: AwsPackage, type_name: str) -> None:
    fixed = {"assumeRolePolicy", "loadBalancerType", "type", "tags", "versioningConfiguration"}
    inputs = {key: value if key in fixed else UNKNOWN for key, value in GOOD[type_name].items()}
    assert refused(package, type_name, inputs) == []


@pytest.mark.parametrize(
    ("type_name", "change", "property_name", "remedy"),
    BROKEN,
    ids=[f"{row[0].rpartition(':')[2]}-{'-'.join(row[1])}-{index}" for index, row in enumerate(BROKEN)],
)
def test_a_bad_value_is_refused_with_rule_and_remedy(
    package: AwsPackage, type_name: str, change: dict[str, Any], property_name: str, remedy: str
) -> None:
    inputs = {key: value for key, value in {**GOOD[f"aws:{type_name}"], **change}.items() if value is not ABSENT}
    failures = refused(package, f"aws:{type_name}", inputs)
    told = [(name, reason) for name, reason in failures if property_name in name and remedy in reason]
    assert told, failures
    assert "'thing'" in told[0][1], "the message names the resource"


@pytest.mark.parametrize(
    ("change", "public"),
    [
        ({}, True),
        ({"Principal": {"AWS": "*"}}, True),
        ({"Principal": {"AWS": "arn:aws:iam::1:root"}}, False),
        ({"Effect": "Deny"}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24"]}}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.1/32"}}}, False),
        ({"Condition": {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "0.0.0.0/1"]}}}, True),
        ({"Condition": {"IpAddress": {"aws:SourceIp": ["${aws:x}"]}}}, True),
        ({"Condition": {"StringLike": {"aws:Referer": "*"}}}, True),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_a_policy_is_public_unless_principals_or_networks_are_fixed(change: dict[str, Any], public: bool) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", **change}
    assert is_public({"Statement": [statement]}) is public


def test_numbers_as_text_are_read_as_the_real_provider_reads_them(package: AwsPackage) -> None:
    subject = Subject(
        urn="urn:pulumi:test::t::aws:lb/targetGroup:TargetGroup::g", type="aws:lb/targetGroup:TargetGroup", name="g"
    )
    inputs = {**GOOD[subject.type], "port": "8080", "healthCheck": {"port": 8081}}
    checked = package.check(subject, {}, inputs, b"")
    assert checked.inputs["port"] == 8080
    assert checked.inputs["healthCheck"]["port"] == "8081"


def test_changes_are_told_by_path() -> None:
    old = {"a": {"b": [1, 2]}, "tags": {"x.y/z": "1"}, "gone": True, "same": None}
    new = {"a": {"b": [1, 3]}, "tags": {"x.y/z": "2"}, "come": 1}
    assert compare(old, new) == {
        "a.b[1]": Change.UPDATE,
        'tags["x.y/z"]': Change.UPDATE,
        "gone": Change.DELETE,
        "come": Change.ADD,
    }


@pytest.mark.parametrize(
    ("api_version", "kind", "path", "replaces"),
    [
        ("apps/v1", "Deployment", "spec.selector.matchLabels.app", True),
        ("apps/v1", "Deployment", "spec.replicas", False),
        ("apps/v1", "Deployment", "spec.template.spec.containers[0].image", False),
        ("v1", "Service", "spec.clusterIP", True),
        ("v1", "Service", "spec.ports[0].port", False),
        ("batch/v1", "Job", "spec.template.spec.containers[0].image", True),
        ("v1", "ConfigMap", "data.key", True),
        ("v1", "Namespace", "metadata.name", True),
        ("v1", "Namespace", "metadata.labels.a", False),
        ("scheduling.k8s.io/v1", "PriorityClass", "value", True),
        ("cluster.x-k8s.io/v1beta1", "MachineDeployment", "spec.replicas", False),
        ("elbv2.k8s.aws/v1beta1", "TargetGroupBinding", "spec.targetGroupARN", True),
    ],
)
def test_immutable_fields_replace_the_object(api_version: str, kind: str, path: str, replaces: bool) -> None:
    assert bool(replaced(api_version, kind, [path], {})) is replaces


def test_a_setting_makes_config_maps_mutable() -> None:
    assert replaced("v1", "ConfigMap", ["data.key"], {"enableConfigMapMutable": True}) == ()


def test_only_loopback_literals_are_loopback() -> None:
    require_loopback("http://127.255.0.1:80", "here")
    for url in ("http://[::1]:80", "ftp://127.0.0.1", "http://127.0.0.1:no", "127.0.0.1:80", "http://0x7f000001"):
        with pytest.raises(Exception, match="only"):
            require_loopback(url, "there")
