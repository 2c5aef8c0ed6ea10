"""Alarms, topics, logs and certificates against the lab's own API, in the region the DNS service's metrics are in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import grpc
import pytest
from aws_stage import served_api
from pulumi.runtime.proto import provider_pb2
from test_providers_protocol import Made, Session, port, refusal

from lab.aws.api import Api
from lab.providers.aws import acm as acm_types
from lab.providers.aws.schema import schema_of

pytestmark = pytest.mark.live

__all__ = ["port"]

ADDRESS = "127.77.0.122"
NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})
NAME = "recommend.watched.test"
DECLARED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("key", "kms/key:Key", {"description": "messages"}),
    ("who", "kms/keyPolicy:KeyPolicy", {"keyId": "$key.keyId", "policy": POLICY}),
    ("topic", "sns/topic:Topic", {"kmsMasterKeyId": "$key.keyId", "tags": {"a": "b"}}),
    (
        "mail",
        "sns/topicSubscription:TopicSubscription",
        {"topic": "$topic.arn", "protocol": "email", "endpoint": "oncall@watched.test"},
    ),
    (
        "alarm",
        "cloudwatch/metricAlarm:MetricAlarm",
        {
            "namespace": "Tandem",
            "metricName": "Golden",
            "dimensions": {"Site": "private", "Environment": "lab"},
            "statistic": "Average",
            "comparisonOperator": "LessThanThreshold",
            "threshold": 0.5,
            "period": 60,
            "evaluationPeriods": 1,
            "treatMissingData": "breaching",
            "alarmActions": ["$topic.arn"],
            "tags": {"a": "b"},
        },
    ),
    ("zone", "route53/zone:Zone", {"name": "watched.test", "forceDestroy": True}),
    (
        "heard",
        "route53/healthCheck:HealthCheck",
        {
            "type": "CLOUDWATCH_METRIC",
            "cloudwatchAlarmName": "$alarm.name",
            "cloudwatchAlarmRegion": "us-east-1",
            "insufficientDataHealthStatus": "Unhealthy",
            "triggers": {"period": "60"},
        },
    ),
    ("group", "cloudwatch/logGroup:LogGroup", {"name": "/aws/route53/watched.test", "retentionInDays": 1}),
    (
        "writers",
        "cloudwatch/logResourcePolicy:LogResourcePolicy",
        {"policyName": "route53-watched", "policyDocument": POLICY},
    ),
    ("queries", "route53/queryLog:QueryLog", {"zoneId": "$zone.zoneId", "cloudwatchLogGroupArn": "$group.arn"}),
    (
        "certificate",
        "acm/certificate:Certificate",
        {
            "domainName": NAME,
            "subjectAlternativeNames": [f"public.{NAME}"],
            "validationMethod": "DNS",
            "tags": {"a": "b"},
        },
    ),
    *(
        (
            f"proof-{number}",
            "route53/record:Record",
            {
                "zoneId": "$zone.zoneId",
                "name": f"$certificate.domainValidationOptions.{number}.resourceRecordName",
                "type": "CNAME",
                "ttl": 60,
                "records": [f"$certificate.domainValidationOptions.{number}.resourceRecordValue"],
            },
        )
        for number in (0, 1)
    ),
    (
        "issued",
        "acm/certificateValidation:CertificateValidation",
        {"certificateArn": "$certificate.arn", "validationRecordFqdns": ["$proof-0.fqdn", "$proof-1.fqdn"]},
    ),
)
KINDS = {f"aws:{kind}" for _, kind, _ in DECLARED}
NAMES = [name for name, _, _ in DECLARED]


class Program:
    """Declares all of it, in order; `$name.property` stands for an output, `.0` for an entry of a list."""

    def __init__(self, session: Session) -> None:
        self.made: dict[str, Made] = {}
        for name, kind, declared in DECLARED:
            self.made[name] = session.up(f"aws:{kind}", name, seed=name.encode(), **self.resolve(declared))

    def resolve(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        if not isinstance(value, str) or not value.startswith("$"):
            return value
        name, *path = value[1:].split(".")
        found: Any = self.made[name].state
        for step in path:
            found = found[int(step) if step.isdigit() else step]
        return found

    def declared(self, name: str) -> dict[str, Any]:
        found = self.resolve(next(inputs for other, _, inputs in DECLARED if other == name))
        assert isinstance(found, dict)
        return found


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[Api, str]]:
    with served_api(ADDRESS) as served:
        yield served


def settings(url: str, region: str = "us-east-1") -> dict[str, Any]:
    services = ("route53", "sts", "cloudwatch", "logs", "sns", "kms", "acm")
    return {"region": region, "endpoints": [dict.fromkeys(services, url)]}


@pytest.fixture(scope="module")
def session(port: int, api: tuple[Api, str]) -> Iterator[Session]:
    session = Session(port, "aws", settings(api[1]))
    yield session
    session.close()


@pytest.fixture(scope="module")
def program(session: Session, api: tuple[Api, str]) -> Iterator[Program]:
    """All of it, and in the end none of it: what was declared can be taken down again."""
    before = held(api[1])
    declared = Program(session)
    assert held(api[1]) != before
    yield declared
    for name in reversed(NAMES):
        session.delete(declared.made[name])
    assert held(api[1]) == before
    certificates = ask(api[1], "acm", "list_certificates")["CertificateSummaryList"]
    assert declared.made["certificate"].identity not in {entry["CertificateArn"] for entry in certificates}


def held(url: str) -> list[Any]:
    """What the API lists; other modules of this process may have made things in the same account."""
    return [
        ask(url, service, call)[found]
        for service, call, found in (
            ("cloudwatch", "describe_alarms", "MetricAlarms"),
            ("sns", "list_topics", "Topics"),
            ("sns", "list_subscriptions", "Subscriptions"),
            ("logs", "describe_log_groups", "logGroups"),
            ("logs", "describe_resource_policies", "resourcePolicies"),
            ("route53", "list_health_checks", "HealthChecks"),
            ("route53", "list_query_logging_configs", "QueryLoggingConfigs"),
        )
    ]


def ask(url: str, service: Any, call: str) -> Any:
    keys: dict[str, Any] = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab", "region_name": "us-east-1"}
    client = boto3.client(service, endpoint_url=url, **keys)
    found = getattr(client, call)()
    client.close()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_no_output_that_a_program_may_read_is_missing(program: Program, name: str) -> None:
    made = program.made[name]
    assert not {output for output in schema_of(made.type).always if made.state.get(output) is None}


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


def test_each_is_found_again_after_a_lost_answer(port: int, api: tuple[Api, str], program: Program) -> None:
    engine = Session(port, "aws", settings(api[1]))
    again = {
        name: engine.up(f"aws:{kind}", name, seed=b"other", **program.declared(name)) for name, kind, _ in DECLARED
    }
    engine.close()
    assert {name: made.identity for name, made in again.items()} == {
        name: made.identity for name, made in program.made.items()
    }


@pytest.mark.parametrize(
    ("name", "change", "replaces"),
    [
        ("alarm", {"threshold": 1}, []),
        ("alarm", {"period": 120}, []),
        ("alarm", {"dimensions": {"Site": "public"}}, []),
        ("alarm", {"name": "other"}, ["name"]),
        ("heard", {"insufficientDataHealthStatus": "Healthy"}, []),
        ("heard", {"triggers": {"period": "120"}}, []),
        ("group", {"retentionInDays": 30}, []),
        ("group", {"name": "/aws/route53/other"}, ["name"]),
        ("queries", {"zoneId": "Z1"}, ["zoneId"]),
        ("topic", {"displayName": "tandem"}, []),
        ("mail", {"endpoint": "other@watched.test"}, ["endpoint"]),
        ("certificate", {"subjectAlternativeNames": []}, ["subjectAlternativeNames[0]"]),
        ("who", {"keyId": "other"}, ["keyId"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_change_is_an_update_or_a_replacement_by_the_types_rules(
    session: Session, program: Program, name: str, change: dict[str, Any], replaces: list[str]
) -> None:
    answer = session.diff(program.made[name], **{**program.declared(name), **change})
    assert list(answer.replaces) == replaces
    assert answer.changes == SOME


def test_changes_in_place_arrive_at_the_api(session: Session, program: Program) -> None:
    changed: dict[str, dict[str, Any]] = {
        "alarm": {"threshold": 1.0, "treatMissingData": "ignore", "tags": {"a": "c"}},
        "group": {"retentionInDays": 7},
        "topic": {"displayName": "tandem", "tags": {"a": "c"}},
        "writers": {"policyDocument": json.dumps({"Version": "2012-10-17", "Statement": [], "Id": "other"})},
        "who": {"policy": json.dumps({"Version": "2012-10-17", "Statement": [], "Id": "other"})},
        "heard": {"insufficientDataHealthStatus": "LastKnownStatus"},
        "certificate": {"tags": {"a": "c"}},
    }
    for name, change in changed.items():
        made = session.update(program.made[name], **{**program.declared(name), **change})
        _, found, _ = session.read(made)
        state = {**found, "tags": found.get("tagsAll")}
        assert {key: state[key] for key in change} == change, name
        program.made[name] = session.update(made, **program.declared(name))


def test_a_certificate_is_issued_once_its_records_stand_in_a_zone(
    session: Session, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acm_types, "ISSUE_SECONDS", 0.3)
    names = {"domainName": "a.watched.test", "subjectAlternativeNames": ["b.watched.test"]}
    bare = session.up("aws:acm/certificate:Certificate", "bare", validationMethod="DNS", **names)
    proof = bare.state["domainValidationOptions"][0]
    record = session.up(
        "aws:route53/record:Record",
        "half",
        zoneId=program.made["zone"].state["zoneId"],
        name=proof["resourceRecordName"],
        type="CNAME",
        ttl=60,
        records=[proof["resourceRecordValue"]],
    )
    with pytest.raises(grpc.RpcError) as refused:
        session.up("aws:acm/certificateValidation:CertificateValidation", "bare", certificateArn=bare.identity)
    assert "PENDING_VALIDATION; it is issued once its records are in a zone" in refusal(refused), "half is not enough"
    session.delete(record)
    session.delete(bare)
    _, state, _ = session.read(program.made["certificate"])
    assert state["status"] == "ISSUED"
    assert state["notAfter"]


def test_an_alarm_reaches_no_topic_of_another_region(port: int, api: tuple[Api, str], program: Program) -> None:
    elsewhere = Session(port, "aws", settings(api[1], "eu-central-1"))
    with pytest.raises(AssertionError, match="an alarm in eu-central-1 reaches topics there only"):
        elsewhere.up("aws:cloudwatch/metricAlarm:MetricAlarm", "far", **program.declared("alarm"))
    elsewhere.close()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("alarm", {"period": 45}, "whole minutes"),
        ("alarm", {"statistic": "p99"}, "statistic"),
        ("alarm", {"treatMissingData": "bad"}, "breaching"),
        ("alarm", {"metricQueries": [{"id": "m"}]}, "one metric only"),
        ("alarm", {"threshold": None}, "threshold is missing"),
        ("mail", {"protocol": "https", "endpoint": "https://alerts.example.com"}, "loopback"),
        ("mail", {"protocol": "pigeon"}, "protocol"),
        ("group", {"retentionInDays": 2}, "retentionInDays"),
        ("queries", {"cloudwatchLogGroupArn": "arn:aws:logs:eu-central-1:1:log-group:/aws/route53/a"}, "us-east-1"),
        ("writers", {"policyName": None}, "policyName"),
        ("certificate", {"validationMethod": "EMAIL"}, "DNS"),
        ("heard", {"cloudwatchAlarmName": None}, "goes by an alarm"),
        ("heard", {"insufficientDataHealthStatus": "Fine"}, "LastKnownStatus"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_the_lab_could_not_do_truthfully_is_refused(
    session: Session, program: Program, name: str, change: dict[str, Any], said: str
) -> None:
    kind = next(kind for other, kind, _ in DECLARED if other == name)
    inputs = {key: value for key, value in {**program.declared(name), **change}.items() if value is not None}
    with pytest.raises(AssertionError, match=said):
        session.up(f"aws:{kind}", f"bad-{name}", **inputs)
