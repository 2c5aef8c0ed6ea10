"""The traffic program against the lab's AWS API by the embedded engine: everything on, changed, and gone again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from aws_stage import served_api
from test_providers_protocol import port

from lab.engine.state import STACK_TYPE, Resource, State
from stacks.contract import StackName
from tests.stacks.test_programs import ROOT, below, exported
from tests.stacks.test_programs import configuration as tracked

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

__all__ = ["port"]

ADDRESS = "127.77.0.123"
STACK = "traffic.lab"
CERTIFIED = {"alias_sites": ["public"], "certificates": {"public": "eu-central-1"}, "objective_recovery_seconds": 100}
HEARD = {
    "site_checks": [{"site": "private", "via": "alarm", "treat_missing_data": "breaching"}],
    "signal_stores": ["public"],
    "objective_recovery_seconds": 370,
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served_api(ADDRESS) as (_, url):
        yield url


class Line:
    """One stack over what the stacks below it recorded."""

    def __init__(self, home: Path, url: str, port: int, stack: str = STACK) -> None:
        self._home, self._url, self._port, self._stack = home, url, port, stack
        self._states = home / "state"
        self._states.mkdir()
        for name in below(StackName.parse(stack)):
            urn = f"urn:pulumi:{name}::tandem::{STACK_TYPE}::tandem-{name}"
            State([Resource(urn=urn, type=STACK_TYPE, custom=False, outputs=exported(name))]).save(
                self._states / f"{name}.json"
            )

    def run(self, verb: str, **changes: Any) -> Any:
        values = {**tracked(self._stack), **{f"tandem:{key}": value for key, value in changes.items()}}
        values["tandem:aws_endpoints"] = dict.fromkeys(values["tandem:aws_endpoints"], self._url)
        settings = self._home / "settings.yaml"
        settings.write_text(yaml.safe_dump({"config": values}))
        where = ["--stack", self._stack, "--state-dir", str(self._states), "--config-file", str(settings)]
        done = subprocess.run(
            [sys.executable, "-m", "lab.engine", verb, *where, "--root", str(ROOT), "--json"],
            env={**os.environ, "PULUMI_DEBUG_PROVIDERS": f"aws:{self._port}", "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return json.loads(done.stdout) if verb == "preview" else done.stdout

    def changes(self, **changes: Any) -> Counter[tuple[str, str]]:
        """What a preview would do, by operation and type."""
        steps = self.run("preview", **changes)["steps"]
        kinds = [(step["op"], step["urn"].split("::")[2].rpartition("$")[2].rpartition(":")[2]) for step in steps]
        return Counter(kind for kind in kinds if kind[0] != "same")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, url: str, port: int) -> Line:
    return Line(tmp_path_factory.mktemp("traffic"), url, port)


def ask(url: str, service: Any, call: str, found: str, region: str = "us-east-1") -> list[Any]:
    client = boto3.client(
        service, endpoint_url=url, region_name=region, aws_access_key_id="lab", aws_secret_access_key="lab"
    )
    answer = list(getattr(client, call)()[found])
    client.close()
    return answer


def everything(url: str) -> dict[str, list[Any]]:
    """What the account holds of all kinds the stack makes; other tests of this process share it."""
    return {
        f"{service} {call} {region}": ask(url, service, call, kind, region)
        for region in ("us-east-1", "eu-central-1")
        for service, call, kind in (
            ("cloudwatch", "describe_alarms", "MetricAlarms"),
            ("sns", "list_topics", "Topics"),
            ("logs", "describe_log_groups", "logGroups"),
            ("logs", "describe_resource_policies", "resourcePolicies"),
            ("acm", "list_certificates", "CertificateSummaryList"),
            ("route53", "list_health_checks", "HealthChecks"),
            ("route53", "list_hosted_zones", "HostedZones"),
            ("route53", "list_query_logging_configs", "QueryLoggingConfigs"),
        )
    }


def test_the_whole_stack_comes_up_changes_and_goes(line: Line, url: str) -> None:
    before = everything(url)
    line.run("up")
    alarms = ask(url, "cloudwatch", "describe_alarms", "MetricAlarms")
    assert {alarm["AlarmName"].rpartition("-")[0] for alarm in alarms} == {
        f"watch-{site}-{kind}" for site in ("private", "public") for kind in ("ill", "away")
    }
    assert ask(url, "logs", "describe_log_groups", "logGroups")[0]["logGroupName"] == "/aws/route53/tandem.test"
    assert line.changes() == Counter()

    assert line.changes(sites={"private": 60, "public": 40}) == {("update", "Record"): 4}

    found = line.changes(**HEARD)
    assert found["replace", "HealthCheck"] == 1, "asked becomes heard: another check, made before the old one goes"
    assert found["create", "MetricAlarm"] == 1
    line.run("up", **HEARD)
    checks = ask(url, "route53", "list_health_checks", "HealthChecks")
    (heard,) = [check for check in checks if check["HealthCheckConfig"]["Type"] == "CLOUDWATCH_METRIC"]
    parents = [check for check in checks if heard["Id"] in check["HealthCheckConfig"].get("ChildHealthChecks", ())]
    assert len(parents) == 2, "the name of real users and that of synthetic ones"
    assert line.changes(**HEARD) == Counter()

    line.run("up", **CERTIFIED)
    (certificate,) = ask(url, "acm", "list_certificates", "CertificateSummaryList", "eu-central-1")
    assert certificate["Status"] == "ISSUED"
    (expiry,) = ask(url, "cloudwatch", "describe_alarms", "MetricAlarms", "eu-central-1")
    assert expiry["Dimensions"] == [{"Name": "CertificateArn", "Value": certificate["CertificateArn"]}]
    assert line.changes(**CERTIFIED) == Counter()

    line.run("destroy")
    assert everything(url) == before
