"""Inputs of AWS types against botocore's service models: what the programs give fits, and what does not is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from botocore.validate import ParamValidator
from google.protobuf.json_format import MessageToDict

from lab.providers.aws.provider import TYPES, AwsPackage
from lab.providers.aws.schema import schema_of
from lab.providers.package import Subject
from lab.providers.values import UNKNOWN, UNKNOWN_TEXT
from lab.schemas.aws import COUNTERPARTS, errors, examine, model, unmapped
from lab.schemas.aws_shapes import pattern
from lab.topology import Topology
from stacks.workspace import Workspace
from tests.infra.declaring import plain
from tests.previewed import as_previewed
from tests.stacks.test_third_site import program, workspace

__all__ = ["workspace"]

ALARM = "aws:cloudwatch/metricAlarm:MetricAlarm"
CHECK = "aws:route53/healthCheck:HealthCheck"
CLUSTER = "aws:eks/cluster:Cluster"
GROUP = "aws:eks/nodeGroup:NodeGroup"
LIFE = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
RECORD = "aws:route53/record:Record"
ROLE = "aws:iam/role:Role"
TARGETS = "aws:lb/targetGroup:TargetGroup"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
GOOD: Mapping[str, dict[str, Any]] = {
    ALARM: {"name": "a", "dimensions": {"Site": "public"}, "period": 60, "threshold": 0.5, "alarmActions": ["arn:a"]},
    CHECK: {"type": "HTTP", "ipAddress": "192.0.2.1", "port": 80, "failureThreshold": 2, "tags": {"a": "b"}},
    CLUSTER: {
        "name": "public",
        "roleArn": "r",
        "vpcConfig": {"subnetIds": ["a", "b"], "endpointPrivateAccess": True},
        "enabledClusterLogTypes": ["api"],
        "encryptionConfig": {"resources": ["secrets"], "provider": {"keyArn": "k"}},
    },
    GROUP: {
        "clusterName": "public",
        "nodeRoleArn": "r",
        "subnetIds": ["a"],
        "amiType": "AL2023_x86_64_NVIDIA",
        "scalingConfig": {"minSize": 0, "desiredSize": 1, "maxSize": 2},
        "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
        "labels": {"pool": "gpu"},
    },
    LIFE: {"bucket": "b", "rules": [{"id": "i", "status": "Enabled", "transitions": [{"storageClass": "GLACIER"}]}]},
    RECORD: {
        "zoneId": "Z1",
        "name": "api.tandem.test",
        "type": "A",
        "ttl": 5,
        "records": ["192.0.2.1"],
        "setIdentifier": "private",
        "weightedRoutingPolicies": [{"weight": 50}],
    },
    ROLE: {"name": "r", "assumeRolePolicy": "{}", "tags": {"a": "b"}},
    TARGETS: {
        "name": "t",
        "port": 8080,
        "protocol": "TCP",
        "healthCheck": {"protocol": "HTTP", "path": "/healthz", "interval": 10, "matcher": "200"},
    },
    TEMPLATE: {
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
        "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeType": "gp3", "encrypted": "true"}}],
        "tagSpecifications": [{"resourceType": "instance", "tags": {"a": "b"}}],
    },
}
GONE = object()
BROKEN: tuple[tuple[str, str, dict[str, Any], tuple[str, ...]], ...] = (
    ("enumeration", GROUP, {"amiType": "AL2023_NVIDIA"}, ("amiType is 'AL2023_NVIDIA'", "did you mean")),
    ("short enumeration", GROUP, {"capacityType": "CHEAP"}, ("takes ON_DEMAND, SPOT, CAPACITY_BLOCK: choose one",)),
    ("enumeration in a list", CLUSTER, {"enabledClusterLogTypes": ["api", "all"]}, ("enabledClusterLogTypes[1] is",)),
    (
        "enumeration of an entry",
        GROUP,
        {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        ("taints[0].effect is 'NoSchedule'", "NO_SCHEDULE"),
    ),
    ("nested enumeration", TEMPLATE, {"metadataOptions": {"httpTokens": "yes"}}, ("metadataOptions.httpTokens is",)),
    (
        "enumeration two lists down",
        LIFE,
        {"rules": [{"status": "Enabled", "transitions": [{"storageClass": "COLD"}]}]},
        ("rules[0].transitions[0].storageClass is 'COLD'",),
    ),
    ("enumeration elsewhere", TARGETS, {"healthCheck": {"protocol": "PING"}}, ("healthCheck.protocol is 'PING'",)),
    ("pattern", ROLE, {"name": "a role"}, ("name is 'a role'", "has the form [\\w+=,.@-]+")),
    ("pattern of an address", CHECK, {"ipAddress": "192.0.2"}, ("ipAddress is '192.0.2'", "has the form")),
    ("pattern with letters of every script", TARGETS, {"tags": {"a": "b;c"}}, ("tags.a is 'b;c'",)),
    ("too long a name", ALARM, {"name": "a" * 256}, ("name has 256 characters", "within 1 and 255")),
    ("too long a key", GROUP, {"labels": {"k" * 64: "v"}}, ("a key of labels has 64 characters",)),
    ("too many", ALARM, {"alarmActions": ["arn:a"] * 6}, ("alarmActions has 6 entries", "at most 5")),
    ("too few", CHECK, {"regions": ["us-east-1"]}, ("regions has 1 entries", "within 3 and 64")),
    ("too small", ALARM, {"period": 0}, ("period is 0", "at least 1")),
    ("too large", CHECK, {"failureThreshold": 11}, ("failureThreshold is 11", "within 1 and 10")),
    ("too large elsewhere", RECORD, {"weightedRoutingPolicies": [{"weight": 256}]}, ("weight is 256",)),
    ("no number", TARGETS, {"port": "http"}, ("port is 'http'", "is a whole number")),
    ("no whole number", CHECK, {"port": 80.5}, ("port is 80.5", "is a whole number")),
    ("no flag", CLUSTER, {"vpcConfig": {"endpointPrivateAccess": "maybe"}}, ("endpointPrivateAccess is 'maybe'",)),
    ("no text", ROLE, {"name": ["r"]}, ("name is ['r']", "is text")),
    ("no list", GROUP, {"subnetIds": "a"}, ("subnetIds is 'a'", "is a list")),
    ("no object", GROUP, {"scalingConfig": 3}, ("scalingConfig is 3", "is an object")),
    ("unknown", GROUP, {"minSize": 3}, ("minSize has no place in a request to eks",)),
    ("unknown within", GROUP, {"scalingConfig": {"least": 1}}, ("scalingConfig.least has no place",)),
    ("missing", RECORD, {"type": GONE}, ("type is missing", "requires Type")),
    ("missing by another name", ROLE, {"assumeRolePolicy": GONE}, ("assumeRolePolicy is missing", "CreateRole")),
    (
        "missing beside it",
        CHECK,
        {"cloudwatchAlarmRegion": "us-east-1"},
        ("cloudwatchAlarmName is missing", "AlarmIdentifier requires Name"),
    ),
    ("supplied by the provider", TARGETS, {"name": GONE}, ()),
    ("missing of an entry", LIFE, {"rules": [{"id": "i"}]}, ("status is missing", "Rules[] requires Status")),
)


def inputs_of(kind: str, change: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**GOOD[kind], **change}.items() if value is not GONE}


@pytest.mark.parametrize("env", ["lab", "prod"])
def test_every_aws_resource_of_every_stack_fits(env: str) -> None:
    resources = [each for stack in as_previewed(env).stacks.values() for each in stack.resources]
    found = {each.urn: wrong for each in resources if each.type.startswith("aws:") and (wrong := told(each))}
    assert not found
    assert len([each for each in resources if each.type.startswith("aws:")]) > 100


def told(resource: Any) -> list[str]:
    return errors(resource.type, resource.inputs)


def test_every_aws_resource_of_a_third_site_fits(workspace: Workspace) -> None:
    """By the recording engine, which answers everything: nothing is left unknown."""
    found = {}
    for stack in (str(each) for layer in workspace.order() for each in layer):
        for urn, request in program(workspace.home, stack)._monitor.requests.items():
            if request.type.startswith("aws:") and (
                wrong := errors(request.type, plain(MessageToDict(request.object), "", set()))
            ):
                found[urn] = wrong
    assert not found


@pytest.mark.parametrize("kind", GOOD)
def test_good_inputs_fit(kind: str) -> None:
    assert errors(kind, GOOD[kind]) == []


@pytest.mark.parametrize(("kind", "change", "said"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_does_not_fit_is_told_by_property_rule_and_remedy(
    kind: str, change: dict[str, Any], said: tuple[str, ...]
) -> None:
    found = errors(kind, inputs_of(kind, change))
    assert len(found) == bool(said), found
    assert all(part in found[0] for part in said), found


@pytest.mark.parametrize("kind", GOOD)
def test_a_value_that_is_not_known_yet_fits_everywhere(kind: str) -> None:
    for unknown in (UNKNOWN, UNKNOWN_TEXT):
        for name, value in GOOD[kind].items():
            assert errors(kind, {**GOOD[kind], name: unknown}) == []
            if isinstance(value, list):
                assert errors(kind, {**GOOD[kind], name: [unknown]}) == []
            if isinstance(value, dict):
                assert errors(kind, {**GOOD[kind], name: dict.fromkeys(value, unknown)}) == []


def test_a_long_value_is_not_told_because_it_may_be_a_secret() -> None:
    found = errors(ROLE, {**GOOD[ROLE], "name": "word " * 20})
    assert len(found) == 2
    assert not any("word" in each for each in found)


def test_botocore_refuses_no_more_of_a_request_than_is_refused_here() -> None:
    """What it checks before it sends anything: types, required members, minima."""
    shape = model("eks").operation_model("CreateNodegroup").input_shape
    request = {"clusterName": "c", "nodegroupName": "n", "subnets": ["s"], "nodeRole": "r"}
    assert not ParamValidator().validate(request, shape).has_errors()
    for wrong, change in (
        ({"subnets": "s"}, {"subnetIds": "s"}),
        ({"scalingConfig": {"maxSize": 0}}, {"scalingConfig": {"maxSize": 0}}),
        ({"labels": {"": "v"}}, {"labels": {"": "v"}}),
        ({"diskSize": "large"}, {"diskSize": "large"}),
    ):
        assert ParamValidator().validate({**request, **wrong}, shape).has_errors()
        assert errors(GROUP, inputs_of(GROUP, change))


def test_every_type_of_the_lab_has_a_counterpart() -> None:
    assert set(TYPES) <= set(COUNTERPARTS)


@pytest.mark.parametrize("kind", COUNTERPARTS)
def test_every_place_of_the_table_is_in_the_models(kind: str) -> None:
    table = COUNTERPARTS[kind]
    roots = [*table.requests, *(place for place in table.places.values() if ":" in place)]
    for place in roots:
        operation, _, rest = place.partition(":")
        shape: Any = model(table.service).operation_model(operation).input_shape
        for part in filter(None, rest.replace("[]", ".[]").split(".")):
            shape = shape.member if part == "[]" else shape.members[part]


@pytest.mark.parametrize("kind", sorted(set(COUNTERPARTS) & set(TYPES)))
def test_the_table_names_properties_the_type_has(kind: str) -> None:
    table, known = COUNTERPARTS[kind], schema_of(kind).properties
    named = {path.partition(".")[0].partition("[")[0] for path in (*table.places, *table.beyond, *table.without)}
    assert named <= set(known)


def test_every_pattern_of_the_models_can_be_read() -> None:
    for service in {each.service for each in COUNTERPARTS.values()}:
        for shape in model(service)._shape_resolver._shape_map.values():
            pattern(shape.get("pattern", ""))


def test_what_has_no_counterpart_is_listed_with_its_reason() -> None:
    assert ("aws:s3/bucket:Bucket", "forceDestroy") in {(kind, name) for kind, name, _ in unmapped()}
    assert all(reason for *_, reason in unmapped())
    assert examine("aws:s3/bucket:Bucket", {"forceDestroy": True}).unmapped.keys() == {"forceDestroy"}


def test_the_labs_provider_refuses_what_the_models_refuse_and_tells_each_property_once() -> None:
    package = AwsPackage(Topology.default())
    package.configure({"region": "eu-central-1", "endpoints": [{"eks": "http://127.82.0.1:1"}]})
    subject = Subject(urn="urn:pulumi:s::tandem::" + GROUP + "::gpu", type=GROUP, name="gpu")
    given = inputs_of(GROUP, {"amiType": "AL2023_NVIDIA", "capacityType": "CHEAP"})
    failures = package.check(subject, {}, given, b"seed").failures
    assert [each.property for each in failures] == ["capacityType", "amiType"]
    assert all(f"{GROUP} 'gpu': " in each.reason for each in failures)
    assert "allowed are ON_DEMAND" in failures[0].reason, "the rule of the lab's own comes first"
