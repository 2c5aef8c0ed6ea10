"""What the API refuses before moto sees it."""

from __future__ import annotations

import pytest

from lab.aws.request_log import KEPT_READS, Operation, RequestLog, operation
from lab.aws.route53_check_rules import refuse_check, refuse_deletion
from lab.aws.route53_repairs import complete_new_check
from lab.aws.route53_rules import MalformedXml, changes, parse, refuse_changes

XMLNS = "https://route53.amazonaws.com/doc/2013-04-01/"
CHECKS = {"known": "HTTP", "sum": "CALCULATED"}


def batch(*records, action="CREATE") -> bytes:
    wrapped = (
        f"<Change><Action>{action}</Action><ResourceRecordSet>{one}</ResourceRecordSet></Change>" for one in records
    )
    root = "ChangeResourceRecordSetsRequest"
    changed = "".join(wrapped)
    return f'<{root} xmlns="{XMLNS}"><ChangeBatch><Changes>{changed}</Changes></ChangeBatch></{root}>'.encode()


def record(name="api.tandem.test", kind="A", identifier="private", weight="100", more="") -> str:
    chosen = f"<SetIdentifier>{identifier}</SetIdentifier>" if identifier else ""
    weighed = f"<Weight>{weight}</Weight>" if weight is not None else ""
    return f"<Name>{name}</Name><Type>{kind}</Type>{chosen}{weighed}{more}"


def refusal(*records, existing=(), action="CREATE"):
    return refuse_changes(changes(batch(*records, action=action)), existing, CHECKS.__contains__, "tandem.test.")


@pytest.mark.parametrize("weight", ["0", "1", "255"])
def test_weights_from_0_to_255_pass(weight) -> None:
    assert refusal(record(weight=weight, more="<HealthCheckId>known</HealthCheckId>")) is None


@pytest.mark.parametrize("weight", ["256", "-1", "1.5", "many"])
def test_other_weights_are_refused(weight) -> None:
    answer = refusal(record(weight=weight))
    assert answer.code == "InvalidInput"
    assert f"weight {weight} is not an integer from 0 to 255" in answer.message


def test_a_health_check_that_does_not_exist_is_refused_by_its_id() -> None:
    answer = refusal(record(more="<HealthCheckId>gone</HealthCheckId>"))
    assert (answer.code, answer.status) == ("InvalidInput", 400)
    assert "no health check exists with the id gone" in answer.message
    assert b"<Code>InvalidInput</Code>" in answer.body()


def test_what_exists_cannot_be_created_and_what_does_not_cannot_be_deleted() -> None:
    existing = [("api.tandem.test", "A", "private")]
    assert "already exists" in refusal(record(name="API.tandem.test."), existing=existing).message
    assert refusal(record(), existing=existing, action="UPSERT") is None
    assert refusal(record(), existing=existing, action="DELETE") is None
    assert "was not found" in refusal(record(identifier="other"), existing=existing, action="DELETE").message


def test_simple_and_weighted_records_do_not_share_a_name() -> None:
    assert "cannot share" in refusal(record(), record(identifier="", weight=None)).message


@pytest.mark.parametrize(("identifier", "weight"), [("private", None), ("", "5")])
def test_weight_and_set_identifier_belong_together(identifier, weight) -> None:
    assert "belong together" in refusal(record(identifier=identifier, weight=weight)).message


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (record(kind="MX"), "answers A, AAAA, CNAME, NS, SOA, TXT only"),
        (record(more="<Failover>PRIMARY</Failover>"), "Failover is a routing policy the lab's DNS does not know"),
        (
            record(
                more="<AliasTarget><DNSName>e-1.eu-central-1.elb.amazonaws.com.</DNSName>"
                "<EvaluateTargetHealth>true</EvaluateTargetHealth></AliasTarget>"
            ),
            "cannot evaluate a load balancer's targets",
        ),
    ],
    ids=["type", "policy", "target health"],
)
def test_what_the_labs_dns_could_not_answer_truthfully_is_refused(written, complaint) -> None:
    assert complaint in refusal(written).message


def simple(name, kind, value) -> str:
    values = f"<ResourceRecords><ResourceRecord><Value>{value}</Value></ResourceRecord></ResourceRecords>"
    return record(name=name, kind=kind, identifier="", weight=None, more=values)


def test_a_cname_at_the_apex_is_refused() -> None:
    assert "not permitted at apex" in refusal(simple("Tandem.test.", "CNAME", "other.test")).message
    assert refusal(simple("www.tandem.test", "CNAME", "other.test")) is None


def test_a_cname_beside_other_types_is_refused_whichever_came_first() -> None:
    cname, address = simple("a.tandem.test", "CNAME", "b.test"), simple("a.tandem.test", "A", "127.77.0.10")
    assert "conflicts with other records" in refusal(cname, existing=[("a.tandem.test", "A", "")]).message
    assert "conflicts with other records" in refusal(address, existing=[("a.tandem.test", "CNAME", "")]).message
    assert refusal(cname, existing=[("b.tandem.test", "A", "")]) is None


@pytest.mark.parametrize(("kind", "value"), [("A", "example.org"), ("A", "::1"), ("AAAA", "127.0.0.1"), ("A", "")])
def test_values_that_are_no_addresses_are_refused(kind, value) -> None:
    assert "is not a valid IPv" in refusal(simple("a.tandem.test", kind, value)).message


def check(**settings) -> bytes:
    config = "".join(f"<{key}>{value}</{key}>" for key, value in settings.items())
    root = "CreateHealthCheckRequest"
    return f'<{root} xmlns="{XMLNS}"><HealthCheckConfig>{config}</HealthCheckConfig></{root}>'.encode()


def regions(*names) -> str:
    return "".join(f"<Region>{name}</Region>" for name in names)


def calculated(*children, threshold="1", **more) -> bytes:
    named = "".join(f"<ChildHealthCheck>{child}</ChildHealthCheck>" for child in children)
    threshold = {} if threshold is None else {"HealthThreshold": threshold}
    return check(Type="CALCULATED", ChildHealthChecks=named, **threshold, **more)


GOOD = {"Type": "HTTP_STR_MATCH", "IPAddress": "127.77.0.10", "SearchString": "ok", "RequestInterval": "10"}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({}, None),
        ({"RequestInterval": "7"}, "RequestInterval 7: allowed are 10 and 30"),
        ({"FailureThreshold": "0"}, "FailureThreshold 0"),
        ({"FailureThreshold": "11"}, "FailureThreshold 11"),
        ({"SearchString": "x" * 256}, "256 characters"),
        ({"Type": "HTTP"}, "takes no SearchString"),
        ({"Type": "RECOVERY_CONTROL"}, "the lab's prober knows"),
        ({"Type": "CLOUDWATCH_METRIC"}, "needs an AlarmIdentifier"),
        ({"IPAddress": ""}, "needs IPAddress or FullyQualifiedDomainName"),
        ({"Type": "CALCULATED"}, "no ChildHealthChecks"),
        ({"FullyQualifiedDomainName": "bad..name"}, "FullyQualifiedDomainName 'bad..name'"),
        ({"FullyQualifiedDomainName": "www.tandem_2.test."}, None),
        ({"InsufficientDataHealthStatus": "Healthy"}, "belongs to CLOUDWATCH_METRIC"),
        ({"Regions": regions("us-east-1", "us-west-1")}, "at least three"),
        ({"Regions": regions("us-east-1", "us-east-1", "us-west-1")}, "at least three"),
        ({"Regions": regions("us-east-1", "us-west-1", "eu-central-1")}, "Region eu-central-1"),
        ({"Regions": regions("us-east-1", "us-west-1", "sa-east-1")}, None),
    ],
)
def test_health_checks_are_held_to_the_documented_ranges(changed, complaint) -> None:
    answer = refuse_check(check(**GOOD | changed), CHECKS)
    assert (answer is None) if complaint is None else (complaint in answer.message)


def test_an_update_is_held_to_the_same_ranges() -> None:
    update = (
        f'<UpdateHealthCheckRequest xmlns="{XMLNS}"><FailureThreshold>11</FailureThreshold></UpdateHealthCheckRequest>'
    )
    assert "FailureThreshold 11" in refuse_check(update.encode(), CHECKS, "HTTP").message


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (calculated("known"), None),
        (calculated("known", threshold="0", Inverted="true"), None),
        (calculated("known", threshold="257"), "HealthThreshold 257"),
        (calculated("known", threshold=None), "must have a HealthThreshold"),
        (calculated(), "no ChildHealthChecks"),
        (calculated("gone"), "ChildHealthCheck gone does not exist"),
        (calculated("known", "sum"), "ChildHealthCheck sum is itself CALCULATED"),
        (calculated(*["known"] * 257), "257 ChildHealthChecks"),
    ],
    ids=["good", "always", "range", "no threshold", "no children", "dangling", "nested", "many"],
)
def test_calculated_checks_count_existing_checks_that_count_nothing_themselves(body, complaint) -> None:
    answer = refuse_check(body, CHECKS)
    assert (answer is None) if complaint is None else (complaint in answer.message)


def test_a_check_that_a_calculated_one_rests_on_cannot_be_deleted() -> None:
    children = {"sum": ("golden", "drain"), "golden": ()}
    assert "calculated health check sum" in refuse_deletion("drain", children).message
    assert refuse_deletion("sum", children) is None


def test_https_checks_get_their_own_defaults() -> None:
    config = parse(complete_new_check(check(Type="HTTPS", IPAddress="127.77.0.10"))).find("HealthCheckConfig")
    assert (config.findtext("Port"), config.findtext("EnableSNI")) == ("443", "true")


def test_a_body_that_is_no_xml_is_named_so() -> None:
    with pytest.raises(MalformedXml):
        changes(b"<not")


def environ(method="GET", path="/", **headers):
    return {"REQUEST_METHOD": method, "PATH_INFO": path, **headers}


SIGNED = "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.mark.parametrize(
    ("request_environ", "body", "expected"),
    [
        (
            environ("POST", CONTENT_TYPE="application/x-www-form-urlencoded", HTTP_AUTHORIZATION=SIGNED.format("ec2")),
            b"Action=CreateVpc&Version=2016-11-15",
            ("ec2", "CreateVpc"),
        ),
        (
            environ("POST", HTTP_X_AMZ_TARGET="TrentService.CreateKey", HTTP_AUTHORIZATION=SIGNED.format("kms")),
            b"{}",
            ("kms", "CreateKey"),
        ),
        (
            environ("POST", "/2013-04-01/hostedzone/Z1/rrset/", HTTP_AUTHORIZATION=SIGNED.format("route53")),
            b"",
            ("route53", "ChangeResourceRecordSets"),
        ),
        (
            environ("GET", "/2013-04-01/healthcheck/x/status", HTTP_AUTHORIZATION=SIGNED.format("route53")),
            b"",
            ("route53", "GetHealthCheckStatus"),
        ),
        (
            environ("GET", "/clusters/c", HTTP_AUTHORIZATION=SIGNED.format("eks")),
            b"",
            ("eks", "DescribeCluster"),
        ),
        (environ("GET", "/"), b"", ("", "")),
    ],
)
def test_the_log_names_the_operation(request_environ, body, expected) -> None:
    asked = operation(request_environ, body)
    assert (asked.service, asked.action) == expected


def note(log, action, status=200, method="POST", dry_run=False):
    log.record(Operation(service="route53", action=action, method=method, path="/", dry_run=dry_run), status)


def actions(log, **asked):
    return [call["action"] for call in log.after(**asked)["requests"]]


def test_polling_never_pushes_a_write_out_of_the_log() -> None:
    log = RequestLog()
    note(log, "ChangeResourceRecordSets")
    for _ in range(KEPT_READS + 10):
        note(log, "ListHostedZones")
    assert actions(log, writes_only=True) == ["ChangeResourceRecordSets"]
    assert len(actions(log)) == KEPT_READS + 1
    assert len(actions(log, sequence=KEPT_READS + 5)) == 6


def test_the_latest_number_marks_a_moment_after_which_nothing_is_missed() -> None:
    log = RequestLog()
    assert log.after()["latest"] == 0
    note(log, "ChangeResourceRecordSets")
    note(log, "ListHostedZones")
    mark = log.after(writes_only=True)["latest"]
    assert (mark, actions(log, sequence=mark)) == (2, [])
    note(log, "CreateHealthCheck")
    assert actions(log, sequence=mark, writes_only=True) == ["CreateHealthCheck"]
    assert log.after()["epoch"] != RequestLog().after()["epoch"]


def test_a_dry_run_is_no_write_whatever_it_names() -> None:
    form = environ("POST", CONTENT_TYPE="application/x-www-form-urlencoded", HTTP_AUTHORIZATION=SIGNED.format("ec2"))
    asked = operation(form, b"Action=CreateTags&DryRun=true")
    assert (asked.dry_run, asked.changes) == (True, True)
    assert not operation(form, b"Action=CreateTags&DryRun=false").dry_run
    log = RequestLog()
    note(log, "CreateTags", dry_run=True)
    assert actions(log, writes_only=True) == []


def test_the_version_changes_with_successful_writes_only() -> None:
    log = RequestLog()
    first = log.version()
    note(log, "ListHostedZones")
    note(log, "ChangeResourceRecordSets", status=400)
    assert log.version() == first
    note(log, "ChangeResourceRecordSets")
    assert log.version() != first
    assert RequestLog().version() != first


def test_an_unnamed_call_counts_as_a_write_unless_its_method_says_otherwise() -> None:
    log = RequestLog()
    note(log, "", method="PUT")
    note(log, "", method="GET")
    assert [call["write"] for call in log.after()["requests"]] == [True, False]
