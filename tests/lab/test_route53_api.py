"""The AWS API as boto3 sees it: moto, put right where Route 53 differs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import boto3
import pytest
from aws_stage import served_api
from botocore.config import Config
from botocore.exceptions import ClientError

from lab.aws import observations
from lab.aws.inventory import Inventory
from lab.process import wait_until

pytestmark = pytest.mark.live

ADDRESS = "127.77.0.120"
REFUSE = "/tandem/refuse-writes"


@pytest.fixture(scope="module")
def url():
    with served_api(ADDRESS) as (_, url):
        yield url


@pytest.fixture
def client(url):
    made = []

    def make(service, region="us-east-1"):
        one = boto3.client(
            service,
            endpoint_url=url,
            region_name=region,
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}),
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def route53(client):
    subject = client("route53")
    yield subject
    for zone in subject.list_hosted_zones()["HostedZones"]:
        sets = subject.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        for one in sets:
            if one["Type"] not in ("SOA", "NS"):
                change(subject, zone["Id"], "DELETE", one)
        subject.delete_hosted_zone(Id=zone["Id"])
    checks = subject.list_health_checks()["HealthChecks"]
    for check in sorted(checks, key=lambda one: one["HealthCheckConfig"]["Type"] != "CALCULATED"):
        subject.delete_health_check(HealthCheckId=check["Id"])


@pytest.fixture
def zone(route53):
    return route53.create_hosted_zone(Name="tandem.test", CallerReference="z")["HostedZone"]["Id"]


def change(route53, zone, action, record):
    batch = {"Changes": [{"Action": action, "ResourceRecordSet": record}]}
    return route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=batch)


def record(name="api.tandem.test", identifier="private", value="127.77.0.10", weight=100, **more):
    return {
        "Name": name,
        "Type": "A",
        "TTL": 5,
        "SetIdentifier": identifier,
        "Weight": weight,
        "ResourceRecords": [{"Value": value}],
        **more,
    }


def new_check(route53, reference="c", **more):
    config = {
        "Type": "HTTP_STR_MATCH",
        "IPAddress": "127.77.0.10",
        "Port": 8080,
        "ResourcePath": "/healthz",
        "SearchString": "ok",
        "RequestInterval": 10,
        "FailureThreshold": 2,
        **more,
    }
    config = {key: value for key, value in config.items() if value is not None}
    return route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]


def names(route53, zone):
    sets = route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    return {one["Name"] for one in sets if one["Type"] == "A"}


def test_a_record_with_a_dangling_health_check_is_refused_and_leaves_no_trace(route53, zone) -> None:
    with pytest.raises(ClientError, match=r"InvalidInput.*NoSuchHealthCheck.*nope"):
        change(route53, zone, "CREATE", record(HealthCheckId="nope"))
    assert names(route53, zone) == set()
    change(route53, zone, "CREATE", record(HealthCheckId=new_check(route53)["Id"]))
    assert names(route53, zone) == {"api.tandem.test."}


def test_a_weight_outside_0_to_255_is_refused_by_the_api(url, route53, zone) -> None:
    with pytest.raises(ClientError, match="weight 256 is not an integer from 0 to 255"):
        change(route53, zone, "CREATE", record(weight=256))


def test_deleting_a_record_leaves_others_of_the_same_identifier(route53, zone) -> None:
    change(route53, zone, "CREATE", record())
    change(route53, zone, "CREATE", record(name="shadow.tandem.test"))
    change(route53, zone, "DELETE", record())
    assert names(route53, zone) == {"shadow.tandem.test."}


def test_a_new_zone_has_a_readable_soa(url, route53, zone) -> None:
    soa = next(
        one
        for one in route53.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        if one["Type"] == "SOA"
    )
    assert len(soa["ResourceRecords"][0]["Value"].split()) == 7


def new_sum(route53, *children, reference="p", **more):
    config = {"Type": "CALCULATED", "ChildHealthChecks": list(children), "HealthThreshold": len(children), **more}
    return route53.create_health_check(CallerReference=reference, HealthCheckConfig=config)["HealthCheck"]


def config_of(route53, check):
    """The configuration as both ways of reading it tell it, which have to agree."""
    got = route53.get_health_check(HealthCheckId=check)["HealthCheck"]["HealthCheckConfig"]
    listed = {one["Id"]: one["HealthCheckConfig"] for one in route53.list_health_checks()["HealthChecks"]}
    assert listed[check] == got
    return got


def test_an_update_raises_the_version_and_keeps_the_children(route53) -> None:
    child = new_check(route53)["Id"]
    parent = new_sum(route53, child)
    updated = route53.update_health_check(HealthCheckId=parent["Id"], Inverted=True)["HealthCheck"]
    assert updated["HealthCheckVersion"] == parent["HealthCheckVersion"] + 1
    assert updated["HealthCheckConfig"]["ChildHealthChecks"] == [child]


def test_a_calculated_check_comes_back_as_it_was_made_and_as_it_was_changed(route53) -> None:
    golden, drain = new_check(route53)["Id"], new_check(route53, "d", Inverted=True)["Id"]
    assert config_of(route53, drain)["Inverted"] is True
    parent = new_sum(route53, golden, drain)["Id"]
    expected = {"Type": "CALCULATED", "ChildHealthChecks": [golden, drain], "HealthThreshold": 2, "Inverted": False}
    assert config_of(route53, parent).items() >= expected.items()
    route53.update_health_check(
        HealthCheckId=parent, ChildHealthChecks=[golden], HealthThreshold=0, Inverted=True, Disabled=True
    )
    changed = {"ChildHealthChecks": [golden], "HealthThreshold": 0, "Inverted": True, "Disabled": True}
    assert config_of(route53, parent).items() >= changed.items()
    route53.update_health_check(HealthCheckId=parent, Inverted=False, Disabled=False)
    assert config_of(route53, parent).items() >= {"Inverted": False, "Disabled": False, "HealthThreshold": 0}.items()
    route53.update_health_check(HealthCheckId=drain, Inverted=False)
    assert config_of(route53, drain)["Inverted"] is False


def test_the_regions_of_a_check_come_back(route53) -> None:
    regions = ["us-east-1", "eu-west-1", "sa-east-1"]
    check = new_check(route53, Regions=regions)["Id"]
    assert config_of(route53, check)["Regions"] == regions
    with pytest.raises(ClientError, match="at least three are needed"):
        new_check(route53, "again", Regions=["us-east-1", "us-east-1", "us-west-1"])


def test_a_child_stays_while_a_calculated_check_counts_it(route53) -> None:
    golden, drain = new_check(route53)["Id"], new_check(route53, "d")["Id"]
    parent = new_sum(route53, golden, drain)["Id"]
    with pytest.raises(ClientError, match=rf"InvalidInput.*DeleteHealthCheck.*{parent}"):
        route53.delete_health_check(HealthCheckId=drain)
    assert config_of(route53, drain)
    route53.update_health_check(HealthCheckId=parent, ChildHealthChecks=[golden], HealthThreshold=1)
    route53.delete_health_check(HealthCheckId=drain)
    with pytest.raises(ClientError, match="cannot be nested"):
        new_sum(route53, parent, reference="q")


def test_an_update_resets_what_it_is_told_to_reset(route53) -> None:
    regions = ["us-east-1", "us-west-1", "us-west-2"]
    check = new_check(route53, FullyQualifiedDomainName="www.tandem.test", Regions=regions)["Id"]
    reset = ["ResourcePath", "FullyQualifiedDomainName", "Regions"]
    route53.update_health_check(HealthCheckId=check, FailureThreshold=3, ResetElements=reset)
    config = route53.get_health_check(HealthCheckId=check)["HealthCheck"]["HealthCheckConfig"]
    assert not any(config.get(element) for element in reset)
    assert (config["FailureThreshold"], config["SearchString"]) == (3, "ok")


def test_a_cname_at_the_apex_is_refused_by_the_api(route53, zone) -> None:
    apex = {"Name": "tandem.test", "Type": "CNAME", "TTL": 5, "ResourceRecords": [{"Value": "other.test"}]}
    with pytest.raises(ClientError, match="not permitted at apex in zone tandem"):
        change(route53, zone, "UPSERT", apex)


def test_a_check_over_https_has_port_443(route53) -> None:
    made = new_check(route53, Type="HTTPS", Port=None, SearchString=None)
    assert made["HealthCheckConfig"]["Port"] == 443


def test_a_check_that_does_not_exist_cannot_be_changed_deleted_or_asked(route53) -> None:
    for ask in (route53.update_health_check, route53.delete_health_check, route53.get_health_check_status):
        with pytest.raises(ClientError, match="NoSuchHealthCheck"):
            ask(HealthCheckId="00000000-0000-0000-0000-000000000000")


def test_the_status_comes_from_the_prober_and_from_nowhere_else(route53, monkeypatch) -> None:
    check = new_check(route53)["Id"]
    with pytest.raises(ClientError, match=r"ServiceUnavailable.*is route53 running"):
        route53.get_health_check_status(HealthCheckId=check)
    checker = {
        "region": "us-west-1",
        "address": "127.77.1.2",
        "last_result": "Failure: <HTTP Status Code 503>",
        "last_time": 1700000000.25,
        "last_failure": "",
        "last_failure_time": 0.0,
    }
    monkeypatch.setattr(observations, "report", lambda _: {"checks": {check: {"checkers": [checker]}}})
    (seen,) = route53.get_health_check_status(HealthCheckId=check)["HealthCheckObservations"]
    assert (seen["Region"], seen["IPAddress"]) == ("us-west-1", "127.77.1.2")
    assert seen["StatusReport"]["Status"] == "Failure: <HTTP Status Code 503>"
    assert seen["StatusReport"]["CheckedTime"].timestamp() == 1700000000.25
    assert route53.get_health_check_last_failure_reason(HealthCheckId=check)["HealthCheckObservations"] == []


def test_a_calculated_check_has_no_status_to_ask_for(route53) -> None:
    child = new_check(route53)["Id"]
    parent = new_sum(route53, child)["Id"]
    with pytest.raises(ClientError, match="InvalidInput"):
        route53.get_health_check_status(HealthCheckId=parent)


def test_every_call_is_in_the_log(url, route53, zone, client) -> None:
    client("ec2").describe_vpcs()
    before = _own(url, "/tandem/requests")["latest"]
    change(route53, zone, "CREATE", record())
    with pytest.raises(ClientError):
        change(route53, zone, "CREATE", record())
    client("ec2", "eu-central-1").describe_vpcs()
    calls = _own(url, f"/tandem/requests?since={before}")["requests"]
    assert [(call["service"], call["action"], call["status"], call["write"]) for call in calls] == [
        ("route53", "ChangeResourceRecordSets", 200, True),
        ("route53", "ChangeResourceRecordSets", 400, True),
        ("ec2", "DescribeVpcs", 200, False),
    ]
    assert len(_own(url, f"/tandem/requests?since={before}&writes=true")["requests"]) == 2


def test_the_data_plane_reads_zones_checks_and_addresses_of_load_balancers(url, route53, zone, client) -> None:
    check = new_check(route53)
    change(route53, zone, "CREATE", record(HealthCheckId=check["Id"]))
    ec2, elb = client("ec2", "eu-central-1"), client("elbv2", "eu-central-1")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    balancer = elb.create_load_balancer(
        Name="edge", Type="network", Subnets=[subnet], Tags=[{"Key": "tandem.io/edge-address", "Value": "127.77.0.10"}]
    )["LoadBalancers"][0]
    alias = {"DNSName": balancer["DNSName"], "HostedZoneId": "Z", "EvaluateTargetHealth": False}
    change(route53, zone, "CREATE", {"Name": "alias.tandem.test", "Type": "A", "AliasTarget": alias})
    inventory = Inventory(url)
    version, snapshot = inventory.version(), inventory.read()
    assert inventory.version() == version
    (read,) = snapshot.zones
    assert {one.name for one in read.records if one.type == "A"} == {"api.tandem.test", "alias.tandem.test"}
    assert snapshot.checks[check["Id"]].search_string == "ok"
    assert snapshot.load_balancers == {balancer["DNSName"]: ("127.77.0.10",)}
    inventory.close()


def _own(url, path, method="GET", document=None):
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(f"{url}{path}", body, method=method)  # noqa: S310  # the server of this test
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)


@pytest.fixture
def refusing(url):
    yield lambda seconds: _own(url, REFUSE, "PUT", {"seconds": seconds})
    _own(url, REFUSE, "DELETE")


WRITES = {
    "route53": lambda c: c.create_hosted_zone(Name="other.test", CallerReference="o"),
    "ec2": lambda c: c.create_vpc(CidrBlock="10.9.0.0/16"),
    "elbv2": lambda c: c.create_load_balancer(Name="other"),
    "iam": lambda c: c.create_role(RoleName="other", AssumeRolePolicyDocument="{}"),
    "eks": lambda c: c.create_cluster(
        name="other", roleArn="arn:aws:iam::123456789012:role/r", resourcesVpcConfig={"subnetIds": ["subnet-1"]}
    ),
    "kms": lambda c: c.create_key(),
}
READS = {
    "route53": lambda c: c.list_hosted_zones(),
    "ec2": lambda c: c.describe_vpcs(),
    "elbv2": lambda c: c.describe_load_balancers(),
    "iam": lambda c: c.list_roles(),
    "eks": lambda c: c.list_clusters(),
    "kms": lambda c: c.list_keys(),
    "sts": lambda c: c.get_caller_identity(),
}


@pytest.mark.parametrize("service", WRITES)
def test_while_writes_are_refused_each_service_says_so_in_its_own_words(url, client, refusing, service) -> None:
    subject = client(service)
    mark = _own(url, "/tandem/requests")["latest"]
    refusing(60)
    with pytest.raises(ClientError) as caught:
        WRITES[service](subject)
    assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert "refuse writes" in caught.value.response["Error"]["Message"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    (attempt,) = _own(url, f"/tandem/requests?since={mark}&writes=true")["requests"]
    assert (attempt["status"], attempt["write"]) == (503, True)


def test_while_writes_are_refused_reading_goes_on(url, client, refusing) -> None:
    refusing(60)
    mark = _own(url, "/tandem/requests")["latest"]
    version = _own(url, "/tandem/version")
    for service, read in READS.items():
        read(client(service))
    seen = _own(url, f"/tandem/requests?since={mark}")
    assert [call["status"] for call in seen["requests"]] == [200] * len(READS)
    assert _own(url, "/tandem/version") == version


def test_stores_are_data_plane_and_take_writes_all_the_while(url, client, refusing) -> None:
    refusing(60)
    mark = _own(url, "/tandem/requests")["latest"]
    client("s3").create_bucket(Bucket="kept-anyway")
    assert _own(url, f"/tandem/requests?since={mark}")["requests"] == []


def test_a_refusal_is_told_ended_by_hand_and_ends_by_itself(url, client, refusing, route53) -> None:
    assert _own(url, REFUSE) == {"seconds": 0.0}
    assert 59 < refusing(60)["seconds"] <= 60
    assert 0 < _own(url, REFUSE)["seconds"] <= 60
    assert _own(url, REFUSE, "DELETE") == {"seconds": 0.0}
    new_check(route53)
    refusing(0.2)
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        new_check(route53, "again")
    assert wait_until(lambda: _own(url, REFUSE)["seconds"] == 0, 30)
    new_check(route53, "again")


@pytest.mark.parametrize(
    "document", [{}, {"seconds": 0}, {"seconds": "5"}, {"seconds": True}, {"seconds": 1e9}, [5], None], ids=repr
)
def test_a_refusal_without_a_sensible_end_is_no_refusal(url, document) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        _own(url, REFUSE, "PUT", document)
    with caught.value as answer:
        assert (answer.code, "seconds" in json.load(answer)["error"]) == (400, True)
    assert _own(url, REFUSE) == {"seconds": 0.0}


def test_a_dry_run_does_nothing_is_no_write_and_feels_the_refusal(url, client, refusing) -> None:
    ec2 = client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    tags = [{"Key": "drill", "Value": "1"}]
    asks = {
        "CreateTags": lambda: ec2.create_tags(Resources=[vpc], Tags=tags, DryRun=True),
        "CreateRouteTable": lambda: ec2.create_route_table(VpcId=vpc, DryRun=True),
    }
    tables = len(ec2.describe_route_tables()["RouteTables"])
    mark = _own(url, "/tandem/requests")["latest"]
    for seconds, expected in ((None, ("DryRunOperation", 412)), (60, ("ServiceUnavailable", 503))):
        if seconds:
            refusing(seconds)
        for ask in asks.values():
            with pytest.raises(ClientError) as caught:
                ask()
            answer = caught.value.response
            assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == expected
    assert len(ec2.describe_route_tables()["RouteTables"]) == tables
    calls = _own(url, f"/tandem/requests?since={mark}")["requests"]
    assert [(call["action"], call["status"], call["write"]) for call in calls[:4]] == [
        ("CreateTags", 412, False),
        ("CreateRouteTable", 412, False),
        ("CreateTags", 503, False),
        ("CreateRouteTable", 503, False),
    ]
