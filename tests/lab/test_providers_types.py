"""Every aws type against moto: made, unchanged, read, changed, lost and found, removed; its outputs are complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from aws_stage import served_api
from pulumi.runtime.proto import provider_pb2
from test_providers_copies import KINDS as COPYING
from test_providers_protocol import Made, Session, aws, aws_settings, aws_url, port, refusal
from test_providers_watching import KINDS as WATCHING

from lab.providers.aws import schema_source
from lab.providers.aws.provider import TYPES
from lab.providers.aws.schema import load, schema_of

pytestmark = pytest.mark.live

__all__ = ["aws", "aws_url", "port"]

NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
SITE = {"tandem.io/site": "public"}
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "eks.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ],
    }
)
RIGHTS = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::models"}],
    }
)


class Program:
    """Declares one resource of every type, in order; `$name.property` stands for an output."""

    DECLARED: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("models", "s3/bucket:Bucket", {"forceDestroy": True, "objectLockEnabled": True, "tags": {"a": "b"}}),
        (
            "versions",
            "s3/bucketVersioning:BucketVersioning",
            {"bucket": "$models.bucket", "versioningConfiguration": {"status": "Enabled"}},
        ),
        ("key", "kms/key:Key", {"description": "models", "enableKeyRotation": True, "deletionWindowInDays": 7}),
        ("alias", "kms/alias:Alias", {"targetKeyId": "$key.keyId"}),
        (
            "encryption",
            "s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
            {
                "bucket": "$models.bucket",
                "rules": [
                    {
                        "applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": "$key.arn"},
                        "bucketKeyEnabled": True,
                    }
                ],
            },
        ),
        (
            "block",
            "s3/bucketPublicAccessBlock:BucketPublicAccessBlock",
            {"bucket": "$models.bucket", "blockPublicAcls": True, "blockPublicPolicy": True},
        ),
        (
            "owner",
            "s3/bucketOwnershipControls:BucketOwnershipControls",
            {"bucket": "$models.bucket", "rule": {"objectOwnership": "BucketOwnerEnforced"}},
        ),
        (
            "lock",
            "s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration",
            {"bucket": "$models.bucket", "rule": {"defaultRetention": {"mode": "GOVERNANCE", "days": 1}}},
        ),
        (
            "life",
            "s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
            {
                "bucket": "$models.bucket",
                "rules": [
                    {
                        "id": "uploads-given-up",
                        "status": "Enabled",
                        "filter": {"prefix": ""},
                        "abortIncompleteMultipartUpload": {"daysAfterInitiation": 7},
                    },
                    {
                        "id": "seldom-read",
                        "status": "Enabled",
                        "filter": {"prefix": ""},
                        "transitions": [{"days": 30, "storageClass": "STANDARD_IA"}],
                        "expiration": {"days": 365},
                        "noncurrentVersionExpiration": {"noncurrentDays": 30},
                    },
                ],
            },
        ),
        ("copier", "iam/role:Role", {"assumeRolePolicy": TRUST}),
        (
            "copier-rights",
            "iam/rolePolicy:RolePolicy",
            {"role": "$copier.name", "name": "replication", "policy": RIGHTS},
        ),
        (
            "readers",
            "s3/bucketPolicy:BucketPolicy",
            {"bucket": "$models.bucket", "policy": json.dumps({"Version": "2012-10-17", "Statement": []})},
        ),
        ("vpc", "ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": True}),
        (
            "subnet-a",
            "ec2/subnet:Subnet",
            {
                "vpcId": "$vpc.id",
                "cidrBlock": "10.0.0.0/24",
                "availabilityZone": "eu-central-1a",
                "mapPublicIpOnLaunch": True,
            },
        ),
        (
            "subnet-b",
            "ec2/subnet:Subnet",
            {"vpcId": "$vpc.id", "cidrBlock": "10.0.1.0/24", "availabilityZone": "eu-central-1b"},
        ),
        ("gateway", "ec2/internetGateway:InternetGateway", {"vpcId": "$vpc.id"}),
        ("edge", "ec2/eip:Eip", {"domain": "vpc", "tags": SITE}),
        ("nat-address", "ec2/eip:Eip", {"domain": "vpc"}),
        ("nat", "ec2/natGateway:NatGateway", {"subnetId": "$subnet-a.id", "allocationId": "$nat-address.id"}),
        (
            "table",
            "ec2/routeTable:RouteTable",
            {"vpcId": "$vpc.id", "routes": [{"cidrBlock": "0.0.0.0/0", "gatewayId": "$gateway.id"}]},
        ),
        ("private", "ec2/routeTable:RouteTable", {"vpcId": "$vpc.id"}),
        (
            "out",
            "ec2/route:Route",
            {"routeTableId": "$private.id", "destinationCidrBlock": "0.0.0.0/0", "natGatewayId": "$nat.id"},
        ),
        (
            "use",
            "ec2/routeTableAssociation:RouteTableAssociation",
            {"routeTableId": "$table.id", "subnetId": "$subnet-a.id"},
        ),
        (
            "firewall",
            "ec2/securityGroup:SecurityGroup",
            {
                "vpcId": "$vpc.id",
                "ingress": [{"protocol": "tcp", "fromPort": 80, "toPort": 80, "cidrBlocks": ["0.0.0.0/0"]}],
                "egress": [{"protocol": "-1", "fromPort": 0, "toPort": 0, "cidrBlocks": ["0.0.0.0/0"]}],
            },
        ),
        (
            "template",
            "ec2/launchTemplate:LaunchTemplate",
            {
                "metadataOptions": {"httpTokens": "required"},
                "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 100, "encrypted": "true"}}],
                "tagSpecifications": [{"resourceType": "instance", "tags": {"a": "b"}}],
            },
        ),
        (
            "reserved",
            "ec2/capacityReservation:CapacityReservation",
            {
                "availabilityZone": "eu-central-1a",
                "instanceType": "g6.xlarge",
                "instancePlatform": "Linux/UNIX",
                "instanceCount": 2,
            },
        ),
        ("role", "iam/role:Role", {"assumeRolePolicy": TRUST}),
        (
            "attached",
            "iam/rolePolicyAttachment:RolePolicyAttachment",
            {"role": "$role.name", "policyArn": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy"},
        ),
        (
            "cluster",
            "eks/cluster:Cluster",
            {
                "roleArn": "$role.arn",
                "version": "1.34",
                "vpcConfig": {"subnetIds": ["$subnet-a.id", "$subnet-b.id"]},
                "accessConfig": {"authenticationMode": "API"},
                "enabledClusterLogTypes": ["api"],
                "tags": SITE,
            },
        ),
        (
            "nodes",
            "eks/nodeGroup:NodeGroup",
            {
                "clusterName": "$cluster.name",
                "nodeRoleArn": "$role.arn",
                "scalingConfig": {"minSize": 1, "desiredSize": 1, "maxSize": 2},
                "subnetIds": ["$subnet-a.id", "$subnet-b.id"],
                "instanceTypes": ["g6.xlarge"],
                "labels": {"pool": "gpu"},
                "taints": [{"key": "nvidia.com/gpu", "value": "true", "effect": "NO_SCHEDULE"}],
                "launchTemplate": {"id": "$template.id", "version": "1"},
                "tags": SITE,
            },
        ),
        (
            "addon",
            "eks/addon:Addon",
            {
                "clusterName": "$cluster.name",
                "addonName": "vpc-cni",
                "configurationValues": '{"enableNetworkPolicy": "true"}',
                "resolveConflictsOnUpdate": "OVERWRITE",
            },
        ),
        (
            "entry",
            "eks/accessEntry:AccessEntry",
            {"clusterName": "$cluster.name", "principalArn": "arn:aws:iam::111122223333:role/ops"},
        ),
        (
            "may",
            "eks/accessPolicyAssociation:AccessPolicyAssociation",
            {
                "clusterName": "$cluster.name",
                "principalArn": "$entry.principalArn",
                "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
                "accessScope": {"type": "cluster"},
            },
        ),
        (
            "pods",
            "eks/podIdentityAssociation:PodIdentityAssociation",
            {
                "clusterName": "$cluster.name",
                "namespace": "tandem",
                "serviceAccount": "triton",
                "roleArn": "$role.arn",
            },
        ),
        (
            "way",
            "ec2/vpcEndpoint:VpcEndpoint",
            {
                "vpcId": "$vpc.id",
                "serviceName": "com.amazonaws.eu-central-1.s3",
                "vpcEndpointType": "Gateway",
                "routeTableIds": ["$table.id"],
            },
        ),
        ("group", "cloudwatch/logGroup:LogGroup", {"retentionInDays": 30}),
        (
            "flows",
            "ec2/flowLog:FlowLog",
            {
                "vpcId": "$vpc.id",
                "trafficType": "ALL",
                "logDestination": "$group.arn",
                "iamRoleArn": "$role.arn",
            },
        ),
        (
            "balancer",
            "lb/loadBalancer:LoadBalancer",
            {
                "loadBalancerType": "network",
                "subnetMappings": [{"subnetId": "$subnet-a.id", "allocationId": "$edge.id"}],
                "tags": SITE,
            },
        ),
        (
            "targets",
            "lb/targetGroup:TargetGroup",
            {
                "port": 8080,
                "protocol": "TCP",
                "targetType": "ip",
                "vpcId": "$vpc.id",
                "healthCheck": {"protocol": "HTTP", "path": "/healthz"},
            },
        ),
        (
            "listener",
            "lb/listener:Listener",
            {
                "loadBalancerArn": "$balancer.arn",
                "port": 8080,
                "protocol": "TCP",
                "defaultActions": [{"type": "forward", "targetGroupArn": "$targets.arn"}],
            },
        ),
        ("zone", "route53/zone:Zone", {"name": "tandem.example"}),
        (
            "check",
            "route53/healthCheck:HealthCheck",
            {
                "type": "HTTP_STR_MATCH",
                "ipAddress": "127.20.0.10",
                "port": 8080,
                "resourcePath": "/healthz",
                "searchString": "tandem-golden-ok",
                "requestInterval": 10,
                "failureThreshold": 2,
            },
        ),
        (
            "record",
            "route53/record:Record",
            {
                "zoneId": "$zone.zoneId",
                "name": "recommend.tandem.example",
                "type": "A",
                "ttl": 5,
                "records": ["127.20.0.10"],
                "setIdentifier": "public",
                "weightedRoutingPolicies": [{"weight": 10}],
                "healthCheckId": "$check.id",
            },
        ),
        (
            "alias-record",
            "route53/record:Record",
            {
                "zoneId": "$zone.zoneId",
                "name": "edge",
                "type": "A",
                "aliases": [{"name": "$balancer.dnsName", "zoneId": "$balancer.zoneId", "evaluateTargetHealth": False}],
            },
        ),
    )

    def __init__(self, session: Session) -> None:
        self.made: dict[str, Made] = {}
        for name, kind, declared in self.DECLARED:
            self.made[name] = session.up(f"aws:{kind}", name, seed=name.encode(), **self.resolve(declared))

    def resolve(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if isinstance(value, str) and value.startswith("$"):
            name, _, output = value[1:].partition(".")
            return self.made[name].identity if output == "id" else self.made[name].state[output]
        return value

    def declared(self, name: str) -> dict[str, Any]:
        resolved = self.resolve(next(inputs for other, _, inputs in self.DECLARED if other == name))
        assert isinstance(resolved, dict)
        return resolved


@pytest.fixture(scope="module")
def session(port: int, aws_url: str) -> Iterator[Session]:
    session = Session(port, "aws", aws_settings(aws_url))
    yield session
    session.close()


@pytest.fixture(scope="module")
def labs_aws_url() -> Iterator[str]:
    """The lab's own API, where it differs from moto."""
    with served_api("127.82.0.3") as (_, url):
        yield url


@pytest.fixture(scope="module")
def program(session: Session) -> Program:
    return Program(session)


NAMES = [name for name, _, _ in Program.DECLARED]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")  # its own deprecated classes warn at import
def test_the_schema_is_that_of_the_installed_package() -> None:
    written = json.loads(schema_source.PATH.read_text(encoding="utf-8"))
    assert written == schema_source.describe(), "run: python -m lab.providers.aws.schema_source"


def test_every_type_of_the_schema_is_implemented_and_tried_here() -> None:
    assert set(TYPES) == set(load()["resources"])
    assert {f"aws:{kind}" for _, kind, _ in Program.DECLARED} | COPYING | WATCHING == set(TYPES)


@pytest.mark.parametrize("type_name", sorted(TYPES), ids=lambda name: name.rpartition(":")[2])
def test_rules_and_defaults_name_properties_the_type_has(type_name: str) -> None:
    kind, schema = TYPES[type_name], schema_of(type_name)
    paths = (*kind.replace_on, *kind.in_place, *kind.lasting)
    named = {path.partition(".")[0] for path in paths} | set(kind.defaults) | kind.unordered | kind.documents
    assert named <= set(schema.properties)
    assert set(kind.blank) <= schema.always | schema.sometimes


@pytest.mark.parametrize("name", NAMES)
def test_no_output_that_a_program_may_read_is_missing(program: Program, name: str) -> None:
    made = program.made[name]
    missing = {output for output in schema_of(made.type).always if made.state.get(output) is None}
    assert not missing


@pytest.mark.parametrize("name", NAMES)
def test_the_same_program_again_changes_nothing(session: Session, program: Program, name: str) -> None:
    assert session.diff(program.made[name], **program.declared(name)).changes == NONE


@pytest.mark.parametrize("name", NAMES)
def test_reading_finds_what_was_made(session: Session, program: Program, name: str) -> None:
    made = program.made[name]
    identity, state, inputs = session.read(made)
    assert identity == made.identity
    assert inputs == made.inputs
    assert state.keys() == made.state.keys()


def test_each_type_is_found_again_after_a_lost_answer(port: int, aws_url: str, program: Program) -> None:
    engine = Session(port, "aws", aws_settings(aws_url))
    again = {
        name: engine.up(f"aws:{kind}", name, seed=b"other", **program.declared(name))
        for name, kind, _ in Program.DECLARED
    }
    engine.close()
    identities = {name: made.identity for name, made in again.items()}
    expected = {name: made.identity for name, made in program.made.items()}
    unnamed = {"alias"}  # a name made up anew is a new alias; the old one stays, as on AWS
    assert {name: identity for name, identity in identities.items() if name not in unnamed} == {
        name: identity for name, identity in expected.items() if name not in unnamed
    }
    Session(port, "aws", aws_settings(aws_url)).delete(again["alias"])


def test_the_edge_stands_at_the_sites_address(program: Program) -> None:
    assert program.made["edge"].state["publicIp"] == "127.20.0.10"
    assert program.made["nat-address"].state["publicIp"] != "127.20.0.10"


def test_the_cluster_is_the_sites_api(program: Program) -> None:
    state = program.made["cluster"].state
    assert state["endpoint"] == "http://127.20.0.1:6443"
    assert state["certificateAuthority"]["data"]
    assert state["status"] == "ACTIVE"


def test_the_load_balancer_carries_its_edge_address_where_programs_do_not_look(program: Program, aws_url: str) -> None:
    import boto3

    keys: dict[str, Any] = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab", "region_name": "eu-central-1"}
    client = boto3.client("elbv2", endpoint_url=aws_url, **keys)
    described = client.describe_tags(ResourceArns=[program.made["balancer"].identity])["TagDescriptions"][0]["Tags"]
    assert {"Key": "tandem.io/edge-address", "Value": "127.20.0.10"} in described
    assert program.made["balancer"].state["tagsAll"] == SITE


@pytest.mark.parametrize(
    ("name", "change", "replaces"),
    [
        ("models", {"bucket": "other"}, ["bucket"]),
        ("models", {"tags": {"a": "c"}}, []),
        ("vpc", {"cidrBlock": "10.1.0.0/16"}, ["cidrBlock"]),
        ("vpc", {"enableDnsHostnames": False}, []),
        ("cluster", {"roleArn": "arn:aws:iam::1:role/other"}, ["roleArn"]),
        ("cluster", {"vpcConfig": {"subnetIds": ["x", "y"]}}, []),
        ("cluster", {"upgradePolicy": {"supportType": "STANDARD"}}, []),
        ("cluster", {"deletionProtection": True}, []),
        ("reserved", {"instanceCount": 3}, []),
        ("reserved", {"instanceType": "g5.xlarge"}, ["instanceType"]),
        ("nodes", {"instanceTypes": ["g5.xlarge"]}, ["instanceTypes[0]"]),
        ("nodes", {"scalingConfig": {"minSize": 1, "desiredSize": 2, "maxSize": 2}}, []),
        ("check", {"requestInterval": 30}, ["requestInterval"]),
        ("check", {"failureThreshold": 3}, []),
        ("record", {"weightedRoutingPolicies": [{"weight": 0}]}, []),
        ("record", {"setIdentifier": "other"}, []),
        ("record", {"type": "CNAME", "records": ["edge.tandem.example"]}, []),
        ("record", {"name": "RECOMMEND.tandem.example."}, []),
        ("targets", {"port": 9}, ["port"]),
        ("listener", {"port": 9}, []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_change_is_an_update_or_a_replacement_by_the_types_rules(
    session: Session, program: Program, name: str, change: dict[str, Any], replaces: list[str]
) -> None:
    answer = session.diff(program.made[name], **{**program.declared(name), **change})
    assert list(answer.replaces) == replaces
    assert answer.changes == (NONE if change.get("name") else SOME)


def test_changes_in_place_arrive_at_the_api(session: Session, program: Program) -> None:
    changed: dict[str, dict[str, Any]] = {
        "models": {"tags": {"a": "c"}},
        "versions": {"versioningConfiguration": {"status": "Suspended"}},
        "vpc": {"enableDnsHostnames": False},
        "firewall": {"ingress": []},
        "template": {"metadataOptions": {"httpTokens": "optional"}},
        "nodes": {"scalingConfig": {"minSize": 1, "desiredSize": 2, "maxSize": 2}},
        "cluster": {"enabledClusterLogTypes": ["api", "audit"]},
        "reserved": {"instanceCount": 3},
        "readers": {"policy": json.dumps({"Version": "2012-10-17", "Statement": [], "Id": "other"})},
        "targets": {"healthCheck": {"protocol": "HTTP", "path": "/livez"}},
        "listener": {"port": 8081},
        "check": {"failureThreshold": 3},
        "record": {"weightedRoutingPolicies": [{"weight": 200}]},
        "key": {"description": "other"},
        "role": {
            "maxSessionDuration": 7200,
            "permissionsBoundary": "arn:aws:iam::aws:policy/AmazonEKSClusterPolicy",
        },
    }
    for name, change in changed.items():
        made = session.update(program.made[name], **{**program.declared(name), **change})
        _, state, _ = session.read(made)
        for key, value in change.items():
            live = state[key]
            if isinstance(value, dict) and key != "tags":
                live = {inner: live.get(inner) for inner in value}
            if key not in {"defaultActions", "ingress", "metadataOptions", "enabledClusterLogTypes"}:
                assert live == value, name
        program.made[name] = session.update(made, **program.declared(name))


NOT_IN_PLACE: list[tuple[str, dict[str, Any], str]] = [
    ("versions", {"versioningConfiguration": {"status": "Disabled"}}, "S3 only suspends versioning"),
    ("vpc", {"enableDnsHostnames": None}, "enableDnsHostnames is taken away"),
    ("cluster", {"version": None}, "version is taken away"),
    ("cluster", {"accessConfig": {"authenticationMode": "CONFIG_MAP"}}, "accessConfig.authenticationMode changes"),
    ("cluster", {"upgradePolicy": {"supportType": "STANDARD"}}, "upgradePolicy.supportType changes"),
    ("nodes", {"updateConfig": {"maxUnavailable": 2}}, "updateConfig changes"),
    ("balancer", {"securityGroups": ["$firewall.id"]}, "securityGroups changes"),
    ("balancer", {"ipAddressType": "dualstack"}, "ipAddressType changes"),
    ("targets", {"proxyProtocolV2": True}, "proxyProtocolV2 changes"),
    ("targets", {"stickiness": {"type": "source_ip", "enabled": True}}, "stickiness changes"),
    ("targets", {"healthCheck": {"protocol": "HTTP"}}, "healthCheck.path is taken away"),
    ("listener", {"tcpIdleTimeoutSeconds": 60}, "tcpIdleTimeoutSeconds changes"),
]


@pytest.mark.parametrize(
    ("name", "change", "reason"), NOT_IN_PLACE, ids=[f"{row[0]}-{next(iter(row[1]))}" for row in NOT_IN_PLACE]
)
@pytest.mark.parametrize("preview", [True, False], ids=["preview", "up"])
def test_a_change_that_would_do_nothing_is_refused_by_its_name(
    session: Session, program: Program, name: str, change: dict[str, Any], reason: str, preview: bool
) -> None:
    made = program.made[name]
    inputs = program.resolve({**program.declared(name), **change})
    with pytest.raises(grpc.RpcError) as error:
        session.update(made, preview=preview, **{key: value for key, value in inputs.items() if value is not None})
    assert reason in refusal(error)
    assert f"::{name}: " in refusal(error)


def test_a_cluster_that_is_protected_from_deletion_stays(session: Session, program: Program) -> None:
    inputs = {**program.declared("cluster"), "deletionProtection": True}
    made = session.update(program.made["cluster"], **inputs)
    with pytest.raises(grpc.RpcError) as error:
        session.delete(made)
    assert "set deletionProtection to false first" in refusal(error)
    program.made["cluster"] = session.update(made, **program.declared("cluster"))


def test_the_support_a_cluster_has_anyway_is_no_change_when_it_is_named(session: Session, program: Program) -> None:
    named = {**program.declared("cluster"), "upgradePolicy": {"supportType": "EXTENDED"}}
    assert session.diff(program.made["cluster"], **named).changes == NONE


def test_what_a_health_check_no_longer_names_goes_back_to_its_default(port: int, labs_aws_url: str) -> None:
    session = Session(port, "aws", aws_settings(labs_aws_url))
    kept = {"type": "HTTP", "ipAddress": "127.20.0.10", "requestInterval": 10}
    regions = ["us-east-1", "us-west-1", "us-west-2"]
    gone = {"port": 8080, "resourcePath": "/healthz", "fqdn": "a.test", "failureThreshold": 2, "regions": regions}
    made = session.up("aws:route53/healthCheck:HealthCheck", "bare", **kept, **gone)
    _, state, _ = session.read(session.update(made, **kept))
    session.delete(made)
    session.close()
    assert (state["port"], state["failureThreshold"], state["regions"]) == (80, 3, [])
    assert not state.get("resourcePath")
    assert not state.get("fqdn")


def test_a_record_with_a_dangling_health_check_is_refused_and_named(session: Session, program: Program) -> None:
    inputs = {**program.declared("record"), "healthCheckId": "no-such-check"}
    _, failures = session.check("aws:route53/record:Record", "dangling", inputs)
    assert [failure.property for failure in failures] == ["healthCheckId"]
    assert "'dangling'" in failures[0].reason
    assert "'no-such-check'" in failures[0].reason


def test_a_taken_bucket_name_is_refused(session: Session, program: Program) -> None:
    with pytest.raises(grpc.RpcError) as error:
        session.up("aws:s3/bucket:Bucket", "thief", bucket=program.made["models"].identity)
    assert "belongs to another resource" in refusal(error)


def test_a_policy_opens_the_keys_it_names_and_a_public_one_is_refused_beside_the_block(
    session: Session, aws_url: str
) -> None:
    bucket = session.up("aws:s3/bucket:Bucket", "signals", forceDestroy=True)
    name = bucket.identity
    block = session.up(
        "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "signals", bucket=name, blockPublicPolicy=True
    )
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{name}/open/*",
    }
    policy = {"bucket": name, "policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}
    with pytest.raises(grpc.RpcError) as error:
        session.up("aws:s3/bucketPolicy:BucketPolicy", "everybody", **policy)
    assert "name fixed networks" in refusal(error)
    networks = {**statement, "Condition": {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24"]}}}
    policy["policy"] = json.dumps({"Version": "2012-10-17", "Statement": [networks]})
    made = session.up("aws:s3/bucketPolicy:BucketPolicy", "listed", **policy)
    with httpx.Client(trust_env=False) as client:
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=lab/20260101/eu-central-1/s3/aws4_request"}
        for key in ("open/mark", "locks/one"):
            assert client.put(f"{aws_url}/{name}/{key}", content=b"word", headers=signed).status_code == 200
        assert client.get(f"{aws_url}/{name}/open/mark").text == "word"
        assert client.get(f"{aws_url}/{name}/locks/one").status_code == 403
        session.delete(made)
        assert client.get(f"{aws_url}/{name}/open/mark").status_code == 403
    for each in (block, bucket):
        session.delete(each)


def test_a_record_somebody_else_declared_is_refused(session: Session, program: Program) -> None:
    inputs = {**program.declared("record"), "records": ["127.10.0.10"]}
    with pytest.raises(grpc.RpcError) as error:
        session.up("aws:route53/record:Record", "thief", **inputs)
    assert "exists already with other values" in refusal(error)


def test_a_zone_with_records_is_not_deleted_unless_forced(session: Session) -> None:
    zone = session.up("aws:route53/zone:Zone", "full", name="full.example")
    inputs = {"zoneId": zone.identity, "name": "full.example", "type": "TXT", "ttl": 5, "records": ["word"]}
    record = session.up("aws:route53/record:Record", "text", **inputs)
    with pytest.raises(grpc.RpcError) as error:
        session.delete(zone)
    assert "still holds full.example. TXT" in refusal(error)
    session.delete(record)
    session.delete(zone)


def test_everything_goes_in_reverse_order(port: int, aws_url: str) -> None:
    session = Session(port, "aws", aws_settings(aws_url, region="eu-west-1"))
    small = ("models", "versions", "key", "alias", "zone", "check")
    made = []
    program = Program.__new__(Program)
    program.made = {}
    for name, kind, declared in Program.DECLARED:
        if name in small:
            program.made[name] = session.up(f"aws:{kind}", f"{name}-2", **program.resolve(declared))
            made.append(program.made[name])
    for each in reversed(made):
        session.delete(each)
        session.delete(each)
        if not each.type.endswith("BucketVersioning"):
            assert session.read(each)[0] == ""
    session.close()
