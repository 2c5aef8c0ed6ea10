"""Weighted records, golden health checks and a name for each site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.checks import SettingError
from infra.failover import PROBE_TIMEOUT_SECONDS, Alias, Failover, FailoverArgs, HealthArgs, Site
from tests.infra.recording import Graph, run

HEALTH = HealthArgs(scheme="http", port=8080, path="/healthz", token="tandem-golden-ok")
ARGS = FailoverArgs(
    zone_name="tandem.test",
    service_name="recommend.tandem.test",
    ttl_seconds=5,
    sites={"private": Site(weight=70, edge="192.0.2.10"), "public": Site(weight=30, edge="192.0.2.20")},
    health=HEALTH,
)


def graph_of(args: FailoverArgs = ARGS) -> Graph:
    return run(lambda: Failover("traffic", args).zone_id)


def test_every_weighted_record_hangs_from_the_check_of_its_own_site() -> None:
    graph = graph_of()
    for site, weight in (("private", 70), ("public", 30)):
        record = graph.one("Record", f"traffic-{site}")
        assert record["name"] == "recommend.tandem.test"
        assert record["setIdentifier"] == site
        assert record["weightedRoutingPolicies"] == [{"weight": weight}]
        assert record["healthCheckId"] == f"traffic-{site}-id"
        assert record["ttl"] == 5


def test_each_site_has_a_name_that_always_means_it() -> None:
    record = graph_of().one("Record", "traffic-private-only")
    assert record["name"] == "private.recommend.tandem.test"
    assert record["records"] == ["192.0.2.10"]
    assert "healthCheckId" not in record
    assert "weightedRoutingPolicies" not in record


@pytest.mark.parametrize(
    ("scheme", "kind", "sni"), [("http", "HTTP_STR_MATCH", False), ("https", "HTTPS_STR_MATCH", True)]
)
def test_a_check_looks_for_the_golden_token(scheme: str, kind: str, sni: bool) -> None:
    check = graph_of(replace(ARGS, health=replace(HEALTH, scheme=scheme))).one("HealthCheck", "traffic-public")
    assert check["type"] == kind
    assert check["enableSni"] is sni
    assert check["searchString"] == "tandem-golden-ok"
    assert check["resourcePath"] == "/healthz"
    assert check["ipAddress"] == "192.0.2.20"
    assert check["fqdn"] == "public.recommend.tandem.test"
    assert (check["requestInterval"], check["failureThreshold"]) == (10, 2)


def test_an_alias_record_has_no_lifetime_or_address_of_its_own() -> None:
    alias = Site(weight=30, edge=Alias(dns_name="lb.example", zone_id="ZELB"))
    graph = graph_of(replace(ARGS, sites={"private": Site(weight=70, edge="192.0.2.10"), "public": alias}))
    record = graph.one("Record", "traffic-public")
    assert record["aliases"] == [{"name": "lb.example", "zoneId": "ZELB", "evaluateTargetHealth": False}]
    assert "ttl" not in record
    assert "records" not in record
    assert "ipAddress" not in graph.one("HealthCheck", "traffic-public")


def test_the_zone_is_protected_unless_told_otherwise_and_everything_has_its_parent() -> None:
    assert graph_of().request("Zone", "traffic-zone").protect is True
    graph = graph_of(replace(ARGS, protect=False))
    assert graph.request("Zone", "traffic-zone").protect is False
    assert graph.without_parent() == set()


@pytest.mark.parametrize("weights", [(0, 0), (256, 1), (-1, 1)], ids=str)
def test_bad_weights_are_refused_before_anything_is_declared(weights: tuple[int, int]) -> None:
    sites = {name: Site(weight=weight, edge="192.0.2.1") for name, weight in zip("ab", weights, strict=True)}
    with pytest.raises(SettingError, match="weight"):
        replace(ARGS, sites=sites)


@pytest.mark.parametrize(
    ("field", "value"), [("interval_seconds", 7), ("threshold", 0), ("scheme", "tcp"), ("port", 0)]
)
def test_a_check_no_provider_would_take_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SettingError, match=field):
        replace(HEALTH, **{field: value})


def test_one_probe_of_a_dead_endpoint_takes_connect_and_status_time() -> None:
    assert PROBE_TIMEOUT_SECONDS == 6
