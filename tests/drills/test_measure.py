"""What is measured from samples: recovery is the last failure of any user, and a wrong answer is no success."""

from dataclasses import replace
from typing import Any

import pytest

from drills.latency import Histogram
from drills.load import Outcome, Sample
from drills.measure import latency_ms, recovery_bound_seconds, recovery_seconds, summary
from stacks.contract import Objectives, SiteEndpoint, TrafficOutputs
from tests.declared import filled

PROMISED = Objectives(recovery_seconds=40, availability_percent=99.9, p99_ms=250, wrong_answers=0)


def sample(
    at: float, outcome: Outcome = Outcome.OK, *, took: float = 0.1, site: str | None = "public", **changed: Any
) -> Sample:
    made = Sample(at, at, at + took, 0, "dns", site, "127.20.0.10", 200, outcome, None, "", "", "new")
    return replace(made, **changed)


def traffic(**changed: object) -> TrafficOutputs:
    endpoint = filled(
        SiteEndpoint,
        name="private",
        address="127.10.0.10",
        port=8080,
        weight=70,
        golden_check_id="g",
        drain_check_ids=[],
        drain_stores=[],
        shadow_drain_check_ids=[],
    )
    declared = {
        "zone_id": "Z",
        "zone_name": "tandem.test",
        "name_servers": [],
        "service_name": "recommend.tandem.test",
        "shadow_name": "",
        "resolver": "",
        "dns_api": "",
        "scheme": "http",
        "ttl_seconds": 5,
        "health_path": "/healthz",
        "health_token": "token",
        "health_interval_seconds": 10,
        "health_threshold": 2,
        "probe_timeout_seconds": 6,
        "request_timeout_seconds": 2.0,
        "checker_cidrs": [],
        "objectives": PROMISED,
        "bake_seconds": 0,
        "burn_rate_limit": 2.0,
        "sites": {"private": endpoint},
    }
    return filled(TrafficOutputs, **{**declared, **changed})


def test_the_bound_is_detection_plus_a_cached_answer_plus_a_last_request_and_a_second() -> None:
    assert recovery_bound_seconds(traffic()) == 2 * (10 + 6) + 5 + 2 + 1


def test_recovery_is_the_end_of_the_last_failure_of_any_user() -> None:
    samples = [sample(9, Outcome.TIMEOUT), sample(12, Outcome.REFUSED), sample(14), sample(20, Outcome.TIMEOUT, took=2)]
    assert recovery_seconds(samples, broken_at=10) == 12


def test_a_wrong_answer_counts_as_a_failure() -> None:
    assert recovery_seconds([sample(30, Outcome.WRONG)], broken_at=10) == pytest.approx(20.1)


def test_nothing_failed_is_no_recovery_time() -> None:
    assert recovery_seconds([sample(11)], broken_at=10) == 0


@pytest.mark.parametrize(
    ("percentile", "milliseconds"), [("p50", 500), ("p90", 900), ("p99", 990), ("p99_9", 999), ("max", 1000)]
)
def test_quantiles_are_within_a_thousandth_of_the_values(percentile: str, milliseconds: float) -> None:
    found = Histogram.of(number / 1000 for number in range(1, 1001)).quantiles_ms()[percentile]
    assert found == pytest.approx(milliseconds, rel=1e-3)


def test_nothing_has_no_quantiles() -> None:
    assert set(latency_ms([]).values()) == {None}
    assert summary([])["latency_histogram"] == ""


@pytest.mark.parametrize("seconds", [0.0, -0.001, 1e-7, 599.0, 6000.0])
def test_what_is_too_short_or_too_long_for_the_histogram_is_still_counted(seconds: float) -> None:
    held = Histogram.of([seconds])
    assert held.count == 1
    assert 0 < (held.quantiles_ms()["max"] or 0) <= 600_600


def test_histograms_of_two_runs_are_added_from_their_journals() -> None:
    quick = summary([sample(1, took=0.01)] * 90)["latency_histogram"]
    slow = summary([sample(1, took=1.0)] * 10)["latency_histogram"]
    assert quick.startswith("HIST"), "the V2 encoding, readable by every HdrHistogram"
    both = Histogram.merged([quick, slow])
    assert both.count == 100
    assert both.quantiles_ms()["p90"] == pytest.approx(10, rel=1e-3)
    assert both.quantiles_ms()["p99"] == pytest.approx(1000, rel=1e-3)


def test_a_histogram_stays_small_in_a_journal() -> None:
    text = Histogram.of(0.002 + 0.00001 * number for number in range(5000)).encode()
    assert len(text) < 4000
    assert Histogram.merged([text]).encode() == text


def test_latency_counts_right_answers_only() -> None:
    found = latency_ms([sample(1, took=0.2), sample(2, Outcome.TIMEOUT, took=9)])
    assert found["max"] == pytest.approx(200.0, rel=1e-3)


def test_a_summary_counts_failures_by_kind_and_answers_by_site() -> None:
    counted = summary([sample(1), sample(2, site="private"), sample(3, Outcome.REFUSED, site=None)])
    assert counted["failures"] == 1
    assert counted["outcomes"] == {"ok": 2, "refused": 1}
    assert counted["answers_by_site"] == {"private": 1, "public": 1}
    assert counted["availability"] == pytest.approx(2 / 3)


def test_a_summary_tells_client_classes_apart() -> None:
    kept = sample(2, Outcome.RESET, client_class="dns-keepalive", way="reused")
    classes = summary([sample(1), sample(2), kept])["classes"]
    assert {name: (row["requests"], row["failures"]) for name, row in classes.items()} == {
        "dns": (2, 0),
        "dns-keepalive": (1, 1),
    }
    assert classes["dns-keepalive"]["connections"] == {"reused": 1}
    assert classes["dns-keepalive"]["availability"] == 0


def test_users_behind_a_cut_have_a_row_of_their_own() -> None:
    assert summary([sample(1)])["sources"] == {}
    sources = summary([sample(1), sample(2, Outcome.TIMEOUT, source="127.84.7.1")])["sources"]
    assert {name: row["failures"] for name, row in sources.items()} == {"127.84.7.1": 1, "any": 0}


def test_an_empty_stretch_has_no_availability() -> None:
    assert summary([])["availability"] is None
