"""How far S3's copies lag: which metric is asked for, where, and by what kind of pod."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from infra import alerts, lag_exporter
from infra.checks import SettingError

RULES = [
    {"source": "models-1", "destination": "models-3", "rule": "replica", "region": "eu-west-1"},
    {"source": "models-1", "destination": "models-2", "rule": "backup", "region": "eu-west-1"},
    {"source": "events-1", "destination": "events-2", "rule": "replica", "region": "us-east-1"},
]


def jobs() -> list[dict[str, Any]]:
    read = json.loads(lag_exporter.configuration(RULES))
    assert read["apiVersion"] == "v1alpha1"
    assert set(read) == {"apiVersion", "static"}, "it discovers nothing"
    found: list[dict[str, Any]] = read["static"]
    return found


def test_each_rule_is_asked_for_under_its_dimensions_in_the_region_of_its_copy() -> None:
    assert [(job["name"], job["regions"]) for job in jobs()] == [
        ("events-1/replica", ["us-east-1"]),
        ("models-1/backup", ["eu-west-1"]),
        ("models-1/replica", ["eu-west-1"]),
    ]
    assert jobs()[1]["dimensions"] == [
        {"name": "SourceBucket", "value": "models-1"},
        {"name": "DestinationBucket", "value": "models-2"},
        {"name": "RuleId", "value": "backup"},
    ]
    assert lag_exporter.configuration(RULES) == lag_exporter.configuration(RULES[::-1]), "no change without a change"
    assert lag_exporter.regions(RULES) == ["eu-west-1", "us-east-1"]


def test_what_is_asked_for_is_called_what_the_alert_goes_by() -> None:
    for job in jobs():
        [metric] = job["metrics"]
        [statistic] = metric["statistics"]
        # Lower case, each word apart: pkg/promutil of YACE, BuildMetricName.
        parts = (job["namespace"].replace("/", "_"), re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric["name"]), statistic)
        assert "_".join(parts).lower() == alerts.S3_LAG
        assert metric["length"] >= metric["period"], "YACE refuses the other way round"


def test_the_configuration_is_no_template_of_its_chart() -> None:
    assert "{{" not in lag_exporter.configuration(RULES), "the chart runs it through helm's tpl"


def test_with_nothing_copied_there_is_nothing_to_ask_for() -> None:
    for ask in (lag_exporter.configuration, lag_exporter.regions):
        with pytest.raises(SettingError, match=r"S3 copies nothing of this site.*copies_watched to false"):
            ask([])


def test_its_pod_may_live_where_pods_may_do_least() -> None:
    values = lag_exporter.values()
    pod, container = values["podSecurityContext"], values["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0, "a name in the image proves nothing to the kubelet"
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert container["allowPrivilegeEscalation"] is False
    assert values["serviceAccount"]["automountServiceAccountToken"] is False
    assert {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"} in values["extraEnv"], "no identity of its node's"
