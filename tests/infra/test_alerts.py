"""Alerts fire when a promise breaks and are quiet while it holds; everything they ask for is told by somebody."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from infra import alerts, dashboard
from serving.health import Reason, State
from serving.telemetry import Telemetry
from tests.infra.watched import WATCHED

ROOT = Path(__file__).resolve().parents[2]
CASES = sorted((Path(__file__).parent / "alerts").glob("*.yaml"))
SIX = {
    "TandemSiteUnhealthy",
    "TandemGoldenMismatch",
    "TandemBurnRate",
    "TandemReplicationLag",
    "TandemQueueGrowth",
    "TandemHeadroomLost",
}
FUNCTIONS = {"sum", "min", "max", "avg", "rate", "increase", "deriv", "vector", "time", "and", "or"} | {
    "avg_over_time",
    "absent_over_time",
    "histogram_quantile",
}
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool on PATH: it comes with Prometheus, on Debian in the package `prometheus`"
)


def rules(watched: alerts.Watched = WATCHED) -> list[dict[str, Any]]:
    return [rule for group in alerts.groups(watched) for rule in group["rules"]]


def named(watched: alerts.Watched = WATCHED) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules(watched) if "alert" in rule}


def exposed() -> set[str]:
    """Every series a gateway tells, by name."""
    telemetry = Telemetry(
        "private",
        lambda: State(None, "sha256:" + "a" * 64, 0.5, ""),
        connections=lambda: 1,
        in_flight=lambda: 1,
        concurrency_limit=16,
        site_draining=lambda: False,
    )
    telemetry.observe("search", 200, 0.01)
    families = text_string_to_metric_families(telemetry.exposition().decode())
    return {sample.name for family in families for sample in family.samples}


def asked(expression: str) -> set[str]:
    """Names of the series an expression asks for."""
    bare = re.sub(r"\[[^]]*]|by \([^)]*\)", "", re.sub(r"\{[^}]*}", "", expression))
    words = set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*", bare))
    return words - FUNCTIONS


def test_every_site_has_the_six_alerts_and_one_more_where_its_gateways_show_a_certificate() -> None:
    assert set(named()) == SIX | {"TandemCertificateEnds"}
    assert set(named(replace(WATCHED, certificate=""))) == SIX


def test_a_site_that_copies_nothing_is_not_asked_for_its_lag() -> None:
    quiet = replace(WATCHED, replication_lag_seconds=0)
    assert set(named(quiet)) == (SIX | {"TandemCertificateEnds"}) - {"TandemReplicationLag"}
    assert not any("replication" in rule["expr"] for rule in rules(quiet))
    assert "replication" not in dashboard.document(quiet)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_only_for_what_somebody_tells(rule: dict[str, Any]) -> None:
    records = {each["record"] for each in rules() if "record" in each}
    assert asked(rule["expr"]), rule["expr"]
    assert asked(rule["expr"]) <= records | exposed() | set(alerts.ELSEWHERE)


def test_the_dashboard_asks_only_for_what_somebody_tells() -> None:
    records = {rule["record"] for rule in rules() if "record" in rule}
    for title, (expression, _) in dashboard.panels(WATCHED).items():
        assert asked(expression), title
        assert asked(expression) <= records | exposed() | set(alerts.ELSEWHERE), title


def test_every_record_is_asked_for() -> None:
    shown = {name for expression, _ in dashboard.panels(WATCHED).values() for name in asked(expression)}
    used = shown | {name for rule in named().values() for name in asked(rule["expr"])}
    assert {rule["record"] for rule in rules() if "record" in rule} <= used


def test_a_state_the_rules_name_is_one_a_gateway_can_be_in() -> None:
    expression = next(rule["expr"] for rule in rules() if rule.get("record") == "tandem:healthy_gateways")
    named_results = set(re.findall(r'result="(\w+)"', expression))
    assert named_results == {"healthy"}
    assert "healthy" not in set(Reason)


def test_the_burn_rate_goes_by_the_promise() -> None:
    assert "> 0.0144" in named()["TandemBurnRate"]["expr"]
    assert "> 0.072" in named(replace(WATCHED, availability_percent=99.5))["TandemBurnRate"]["expr"]


def test_every_alert_leads_to_what_to_do() -> None:
    text = (ROOT / alerts.RUNBOOK).read_text(encoding="utf-8")
    headings = {line.removeprefix("## ").lower() for line in text.splitlines() if line.startswith("## ")}
    for name, rule in named().items():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == alerts.RUNBOOK
        assert anchor in headings, name


def test_each_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    fired: dict[str, set[bool]] = {name: set() for name in named()}
    for path in CASES:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                fired[case["alertname"]].add(bool(case["exp_alerts"]))
    assert all(seen == {True, False} for seen in fired.values()), fired


@needs_promtool
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_promtool_sees_it_fire_and_not_fire(path: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for test in document["tests"]:
        for case in test["alert_rule_test"]:
            rule = named()[case["alertname"]]
            said = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
            case["exp_alerts"] = [said for _ in case["exp_alerts"]]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": alerts.groups(WATCHED)}), encoding="utf-8")
    (tmp_path / path.name).write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], **document}), encoding="utf-8")
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", path.name], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("watched", [WATCHED, replace(WATCHED, certificate="", replication_lag_seconds=0)])
def test_promtool_accepts_the_rules(watched: alerts.Watched, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": alerts.groups(watched)}), encoding="utf-8")
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "check", "rules", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
