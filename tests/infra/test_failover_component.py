"""Weighted records, golden and drain checks, and a name for each site."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from infra.checkers import PROBE_TIMEOUT_SECONDS, recovery_seconds
from infra.checks import SettingError
from infra.failover import Alias, Failover, FailoverArgs, HealthArgs, Site
from infra.probe_target import ProbeTarget, target_of
from tests.infra.recording import Graph, run

HEALTH = HealthArgs(
    scheme="http", port=8080, path="/healthz", token="tandem-golden-ok", drain_token="tandem-drain-mark"
)
PRIVATE = Site(
    weight=70,
    edge="192.0.2.10",
    marks={"public": "https://signals.s3.eu-central-1.amazonaws.com/drain/private", "third": "http://192.0.2.3/b/m"},
    shadow_marks={"public": "https://signals.s3.eu-central-1.amazonaws.com/drain/private.shadow"},
)
PUBLIC = Site(
    weight=30,
    edge="192.0.2.20",
    marks={"private": "http://192.0.2.2:9000/signals/drain/public"},
    shadow_marks={"private": "http://192.0.2.2:9000/signals/drain/public.shadow"},
)
ARGS = FailoverArgs(
    zone_name="tandem.test",
    service_name="recommend.tandem.test",
    ttl_seconds=5,
    sites={"private": PRIVATE, "public": PUBLIC},
    health=HEALTH,
)


def graph_of(args: FailoverArgs = ARGS) -> Graph:
    return run(lambda: Failover("traffic", args).zone_id)


def test_every_weighted_record_hangs_from_the_calculated_check_of_its_own_site() -> None:
    graph = graph_of()
    for site, weight in (("private", 70), ("public", 30)):
        record = graph.one("Record", f"traffic-{site}")
        assert record["name"] == "recommend.tandem.test"
        assert record["setIdentifier"] == site
        assert record["weightedRoutingPolicies"] == [{"weight": weight}]
        assert record["healthCheckId"] == f"traffic-{site}-serving-id"
        assert record["ttl"] == 5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_sites_share_one_name(count: int) -> None:
    sites = {f"site-{number}": replace(PUBLIC, weight=number) for number in range(1, count + 1)}
    graph = graph_of(replace(ARGS, sites=sites))
    weighted = [record for record in graph.of("Record").values() if "weightedRoutingPolicies" in record]
    assert {record["setIdentifier"]: record["weightedRoutingPolicies"][0]["weight"] for record in weighted} == {
        name: site.weight for name, site in sites.items()
    }
    assert len({record["healthCheckId"] for record in weighted}) == count
    assert len(graph.of("HealthCheck")) == 3 * count, "golden, drained in one store, both together"


def test_a_check_whose_address_goes_is_made_anew() -> None:
    assert list(graph_of().request("HealthCheck", "traffic-private").replaceOnChanges) == ["ipAddress"]


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
    alias = replace(PUBLIC, edge=Alias(dns_name="lb.example", zone_id="ZELB"))
    graph = graph_of(replace(ARGS, sites={"private": PRIVATE, "public": alias}))
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
    sites = {name: replace(PUBLIC, weight=weight) for name, weight in zip("ab", weights, strict=True)}
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


def test_a_site_serves_while_it_is_golden_and_no_store_holds_its_mark() -> None:
    check = graph_of().one("HealthCheck", "traffic-private-serving")
    assert check["type"] == "CALCULATED"
    children = ["traffic-private-id", "traffic-private-drain-public-id", "traffic-private-drain-third-id"]
    assert check["childHealthchecks"] == children
    assert check["childHealthThreshold"] == 3, "all of them, or one mark would not be enough"


def test_a_mark_is_looked_for_by_its_token_and_its_absence_is_health() -> None:
    check = graph_of().one("HealthCheck", "traffic-private-drain-public")
    assert check["invertHealthcheck"] is True
    assert check["searchString"] == "tandem-drain-mark"
    assert (check["type"], check["enableSni"], check["port"]) == ("HTTPS_STR_MATCH", True, 443)
    assert check["fqdn"] == "signals.s3.eu-central-1.amazonaws.com"
    assert check["resourcePath"] == "/drain/private"
    assert "ipAddress" not in check
    assert (check["requestInterval"], check["failureThreshold"]) == (10, 2)


def test_a_store_known_by_its_address_is_asked_at_that_address() -> None:
    check = graph_of().one("HealthCheck", "traffic-public-drain-private")
    assert (check["type"], check["enableSni"]) == ("HTTP_STR_MATCH", False)
    assert (check["ipAddress"], check["port"]) == ("192.0.2.2", 9000)
    assert check["resourcePath"] == "/signals/drain/public"
    assert "fqdn" not in check


def test_synthetic_users_have_a_name_that_is_drained_with_the_real_one_and_also_by_itself() -> None:
    graph = graph_of(replace(ARGS, shadow_name="shadow.recommend.tandem.test"))
    record = graph.one("Record", "traffic-public-shadow")
    assert record["name"] == "shadow.recommend.tandem.test"
    assert record["weightedRoutingPolicies"] == [{"weight": 30}]
    assert record["healthCheckId"] == "traffic-public-shadow-id"
    check = graph.one("HealthCheck", "traffic-public-shadow")
    assert check["childHealthchecks"] == [
        "traffic-public-id",
        "traffic-public-drain-private-id",
        "traffic-public-shadow-drain-private-id",
    ]
    assert check["childHealthThreshold"] == 3
    mark = graph.one("HealthCheck", "traffic-public-shadow-drain-private")
    assert mark["resourcePath"] == "/signals/drain/public.shadow"
    serving = graph.one("HealthCheck", "traffic-public-serving")["childHealthchecks"]
    assert "traffic-public-shadow-drain-private-id" not in serving, "the shadow's mark moves no real user"


def test_without_a_shadow_name_nothing_of_it_is_declared() -> None:
    graph = graph_of()
    assert not [name for kind in ("Record", "HealthCheck") for name in graph.of(kind) if "shadow" in name]


@pytest.mark.parametrize(
    ("change", "shadow", "named"),
    [
        ({"marks": {}}, "", "marks of site public"),
        ({"shadow_marks": {}}, "s.tandem.test", "shadow_marks of site public"),
    ],
    ids=["no mark", "no shadow mark"],
)
def test_a_site_nobody_could_drain_is_refused(change: dict[str, Any], shadow: str, named: str) -> None:
    with pytest.raises(SettingError, match=named):
        replace(ARGS, shadow_name=shadow, sites={"private": PRIVATE, "public": replace(PUBLIC, **change)})


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://a.example/x/y", ProbeTarget("https", "a.example", None, 443, "/x/y")),
        ("http://a.example", ProbeTarget("http", "a.example", None, 80, "/")),
        ("http://192.0.2.1:9000/b", ProbeTarget("http", None, "192.0.2.1", 9000, "/b")),
    ],
)
def test_a_url_comes_apart_as_a_health_check_takes_it(url: str, target: ProbeTarget) -> None:
    assert target_of(url) == target


@pytest.mark.parametrize("url", ["s3://bucket/key", "/drain/private", "http:///x"])
def test_what_cannot_be_probed_is_refused(url: str) -> None:
    with pytest.raises(SettingError, match="cannot be probed"):
        target_of(url)


def test_the_longest_recovery_is_detection_then_a_cached_answer_then_one_request() -> None:
    assert recovery_seconds(threshold=2, interval_seconds=10, ttl_seconds=5, request_timeout_seconds=2.0) == 40
