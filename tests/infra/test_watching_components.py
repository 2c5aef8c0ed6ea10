"""Alarms and their topics, the query log, certificates, and the heartbeat of a site nobody can ask."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest

from infra import golden_metric
from infra.alarm_topic import AlarmTopic, AlarmTopicArgs
from infra.alarms import HeartbeatAlarm, HeartbeatAlarmArgs, SiteAlarms, SiteAlarmsArgs
from infra.certificates import Certificates, CertificatesArgs, SiteCertificate
from infra.checkers import alarm_detection_seconds, recovery_seconds
from infra.checks import SettingError
from infra.failover import Alarm, Failover, Site
from infra.heartbeat import Heartbeat, HeartbeatArgs
from infra.query_log import QueryLog, QueryLogArgs
from infra.settings_heartbeat import HeartbeatSettings
from infra.site_check import SiteCheck
from tests.infra.recording import Graph, run
from tests.infra.test_failover_component import ARGS, PRIVATE

NAMES = ("recommend.tandem.test", "public.recommend.tandem.test")


def with_alarm() -> Graph:
    alarm = Alarm(name="heard", region="us-east-1", settings={"period": "60"})
    sites: dict[str, Site] = {**ARGS.sites, "private": replace(PRIVATE, alarm=alarm)}
    return run(lambda: Failover("traffic", replace(ARGS, sites=sites)).zone_id)


def test_a_site_no_checker_reaches_is_judged_by_its_alarm_and_silence_is_illness() -> None:
    check = with_alarm().one("HealthCheck", "traffic-private")
    assert check["type"] == "CLOUDWATCH_METRIC"
    assert (check["cloudwatchAlarmName"], check["cloudwatchAlarmRegion"]) == ("heard", "us-east-1")
    assert check["insufficientDataHealthStatus"] == "Unhealthy"
    assert check["triggers"] == {"period": "60"}, "the DNS service keeps a copy of the alarm's settings"
    assert not {"ipAddress", "fqdn", "searchString", "requestInterval"} & set(check)


def test_what_says_golden_is_the_first_child_either_way() -> None:
    for graph in (with_alarm(), run(lambda: Failover("traffic", ARGS).zone_id)):
        assert graph.one("HealthCheck", "traffic-private-serving")["childHealthchecks"][0] == "traffic-private-id"


def test_a_heartbeats_alarm_goes_by_the_metric_the_heartbeat_pushes() -> None:
    args = HeartbeatAlarmArgs(environment="prod", site="private", treat_missing_data="breaching", topic="arn:topic")
    alarm = run(lambda: HeartbeatAlarm("heard", args).alarm_name).one("MetricAlarm")
    said = environment_of(heartbeat())
    assert (alarm["namespace"], alarm["metricName"]) == (said["METRIC_NAMESPACE"], said["METRIC_NAME"])
    spoken = {
        key.removeprefix("DIMENSION_").capitalize(): value
        for key, value in said.items()
        if key.startswith("DIMENSION_")
    }
    assert alarm["dimensions"] == spoken == {"Environment": "prod", "Site": "private"}
    assert alarm["treatMissingData"] == "breaching"
    assert (alarm["period"], alarm["evaluationPeriods"]) == (60, 1)
    assert alarm["alarmActions"] == alarm["okActions"] == ["arn:topic"]
    assert said["AWS_REGION"] == golden_metric.REGION


def test_an_ill_site_and_one_out_of_dns_are_told_and_so_is_silence_about_them() -> None:
    args = SiteAlarmsArgs(site="public", golden="g-1", serving="s-1", topic="arn:topic")
    found = run(lambda: SiteAlarms("watch-public", args)).of("MetricAlarm")
    checks = {name: alarm["dimensions"] for name, alarm in found.items()}
    assert checks == {"watch-public-ill": {"HealthCheckId": "g-1"}, "watch-public-away": {"HealthCheckId": "s-1"}}
    for alarm in found.values():
        assert (alarm["namespace"], alarm["metricName"], alarm["statistic"]) == (
            "AWS/Route53",
            "HealthCheckStatus",
            "Minimum",
        )
        assert alarm["alarmActions"] == alarm["okActions"] == alarm["insufficientDataActions"] == ["arn:topic"]


def test_a_topic_is_encrypted_with_a_key_that_alarms_may_use_before_it_is_there() -> None:
    receivers = AlarmTopicArgs(emails=("a@example.com",), urls=("https://hooks.example.com/x",))
    graph = run(lambda: AlarmTopic("alarms", receivers).arn)
    assert graph.one("Topic")["kmsMasterKeyId"] == "alarms-key-key-id"
    policy = json.loads(graph.one("KeyPolicy")["policy"])
    allowed = {json.dumps(entry["Principal"]): entry["Action"] for entry in policy["Statement"]}
    assert allowed['{"Service": "cloudwatch.amazonaws.com"}'] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    assert any("KeyPolicy" in urn for urn in graph.request("Topic", "alarms").dependencies)
    told = {(each["protocol"], each["endpoint"]) for each in graph.of("TopicSubscription").values()}
    assert told == {("email", "a@example.com"), ("https", "https://hooks.example.com/x")}
    assert graph.without_parent() == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [("emails", "nobody"), ("emails", "a@example.com, b@example.com"), ("urls", "hooks.example.com")],
)
def test_a_receiver_that_is_none_is_refused(field: str, value: str) -> None:
    with pytest.raises(SettingError, match="write it like"):
        AlarmTopicArgs(**{field: (value,)})


def test_queries_are_logged_where_the_dns_service_may_write_and_for_that_zone_only() -> None:
    graph = run(lambda: QueryLog("queries", QueryLogArgs(zone_name="tandem.test", zone_id="Z1", retention_days=30)))
    group = graph.one("LogGroup")
    assert (group["name"], group["retentionInDays"]) == ("/aws/route53/tandem.test", 30)
    (statement,) = json.loads(graph.one("LogResourcePolicy")["policyDocument"])["Statement"]
    assert statement["Principal"] == {"Service": "route53.amazonaws.com"}
    assert statement["Condition"] == {"ArnLike": {"aws:SourceArn": "arn:aws:route53:::hostedzone/Z1"}}
    assert graph.one("QueryLog", "queries-log")["zoneId"] == "Z1"
    assert any("LogResourcePolicy" in urn for urn in graph.request("QueryLog", "queries-log").dependencies)


def certificates(*sites: str) -> Graph:
    def declare() -> Any:
        provider = aws.Provider("eu", region="eu-central-1")
        wanted = {
            site: SiteCertificate(names=(NAMES[0], f"{site}.{NAMES[0]}"), provider=provider, topic="arn:topic")
            for site in sites
        }
        return Certificates("tls", CertificatesArgs(zone_id="Z1", sites=wanted, alert_days=30)).arns

    return run(declare)


def test_a_certificate_is_proved_by_one_record_for_each_name_and_heard_of_before_its_end() -> None:
    graph = certificates("public")
    certificate = graph.one("Certificate")
    assert (certificate["domainName"], certificate["validationMethod"]) == (NAMES[0], "DNS")
    assert certificate["subjectAlternativeNames"] == [NAMES[1]]
    assert {each["name"] for each in graph.of("Record").values()} == {f"_proof.{name}." for name in NAMES}
    alarm = graph.one("MetricAlarm")
    assert (alarm["metricName"], alarm["threshold"], alarm["comparisonOperator"]) == (
        "DaysToExpiry",
        30,
        "LessThanThreshold",
    )
    assert alarm["treatMissingData"] == "ignore", "the metric of an expired certificate ends, its alarm must not"
    assert graph.unproved() == set()
    assert graph.without_parent() <= {"pulumi:providers:aws"}


def test_a_name_two_sites_share_is_proved_once() -> None:
    graph = certificates("east", "west")
    assert len(graph.of("Certificate")) == len(graph.of("CertificateValidation")) == 2
    assert set(graph.of("Record")) == {f"tls-{NAMES[0]}", f"tls-east.{NAMES[0]}", f"tls-west.{NAMES[0]}"}


def heartbeat(**settings: Any) -> Graph:
    args = HeartbeatArgs(
        environment="prod",
        site="private",
        namespace="tandem",
        priority_class="serving",
        gpu_resource="nvidia.com/gpu",
        image="ghcr.io/a/serving@sha256:" + "a" * 64,
        gateway_port=8080,
        health_path="/healthz",
        health_token="tandem-golden-ok",
        settings=HeartbeatSettings(**settings),
    )
    return run(lambda: Heartbeat("heartbeat", args))


def container_of(graph: Graph) -> dict[str, Any]:
    (container,) = graph.one("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment_of(graph: Graph) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container_of(graph)["env"]}


def test_a_heartbeat_outlives_a_node_and_is_hardened_like_every_pod() -> None:
    graph = heartbeat()
    spec = graph.one("Deployment")["spec"]
    assert spec["replicas"] == 2
    assert graph.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert spec["template"]["spec"]["automountServiceAccountToken"] is False
    container = container_of(graph)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    assert environment_of(graph)["HEALTH_URL"] == "http://$(GATEWAY_SERVICE_HOST):$(GATEWAY_SERVICE_PORT)/healthz"


def test_a_heartbeat_speaks_to_the_gateways_and_the_metrics_api_and_to_nothing_of_its_own_machine() -> None:
    rules = heartbeat().one("NetworkPolicy")["spec"]["egress"]
    ports = [[port["port"] for port in rule["ports"]] for rule in rules]
    assert ports == [[8080], [443], [80]]
    assert rules[1]["to"][0]["ipBlock"]["except"] == ["169.254.0.0/16"]
    own = heartbeat(endpoint="http://127.30.0.1:5000").one("NetworkPolicy")["spec"]["egress"]
    assert own[1]["ports"][0]["port"] == 5000


def test_a_heartbeat_takes_on_its_role_with_a_token_made_for_that() -> None:
    graph = heartbeat(role_arn="arn:aws:iam::111122223333:role/heartbeat")
    said = environment_of(graph)
    assert said["AWS_ROLE_ARN"] == "arn:aws:iam::111122223333:role/heartbeat"
    volumes = graph.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    (token,) = [volume["projected"]["sources"][0]["serviceAccountToken"] for volume in volumes if "projected" in volume]
    assert said["AWS_WEB_IDENTITY_TOKEN_FILE"].endswith(f"/{token['path']}")
    assert token["audience"] == "sts.amazonaws.com"
    assert graph.of("Secret") == {}


def test_a_key_goes_to_the_pod_by_a_secret_only() -> None:
    graph = heartbeat(access_key="AKIA-canary", secret_key="canary")
    assert "canary" not in json.dumps(graph.one("Deployment"))
    assert environment_of(graph)["AWS_SECRET_ACCESS_KEY"]["secretKeyRef"]["key"] == "secret_key"
    assert "canary" not in repr(HeartbeatSettings(access_key="AKIA-canary", secret_key="canary"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"interval_seconds": 60}, "between 5 and 30"),
        ({"role_arn": "tandem"}, "ARN of an IAM role"),
        ({"endpoint": "127.0.0.1:1"}, "URL"),
        ({"access_key": "a"}, "both halves"),
        ({"role_arn": "arn:aws:iam::1:role/a", "access_key": "a", "secret_key": "b"}, "keep one"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_heartbeat_that_could_not_speak_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        HeartbeatSettings(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"via": "ping"}, "alarm, golden"),
        ({"via": "alarm"}, "set it to breaching"),
        ({"via": "alarm", "treat_missing_data": "notBreaching"}, "set it to breaching"),
        ({"via": "golden", "treat_missing_data": "breaching"}, "remove it"),
        ({"via": "alarm", "treat_missing_data": "breaching", "period_seconds": 10}, "whole minutes"),
        ({"via": "alarm", "treat_missing_data": "breaching", "periods": 0}, "between 1 and 5"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_how_a_site_is_judged_is_said_in_full_or_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        SiteCheck(site="private", **given)


def test_a_silent_site_costs_what_its_alarm_looks_back_on() -> None:
    assert alarm_detection_seconds(period_seconds=60, periods=1) == 60 + 3 * 60 + 60
    assert SiteCheck(site="a", via="alarm", treat_missing_data="breaching", periods=2).detection_seconds == 360
    usual = {"threshold": 2, "interval_seconds": 10, "ttl_seconds": 5, "request_timeout_seconds": 2.0}
    assert recovery_seconds(**usual) == recovery_seconds(**usual, alarm_seconds=10) == 40
    assert recovery_seconds(**usual, alarm_seconds=300) == 308


def test_the_whole_of_it_hangs_from_components() -> None:
    pulumi.runtime.set_all_config({})
    assert heartbeat().without_parent() == set()
    assert with_alarm().without_parent() == set()
