"""What is measured from samples: recovery is the last failure of any user, and a wrong answer is no success."""

import math

import pytest

from drills.load import Outcome, Sample
from drills.measure import latency_ms, quantile, recovery_bound_seconds, recovery_seconds, summary, timeline
from stacks.contract import SiteEndpoint, TrafficOutputs


def sample(at: float, outcome: Outcome = Outcome.OK, *, took: float = 0.1, site: str | None = "public") -> Sample:
    return Sample(at, at, at + took, 0, "dns", site, "127.20.0.10", 200, outcome, None, "")


def traffic(**changed: object) -> TrafficOutputs:
    endpoint = SiteEndpoint(name="private", address="127.10.0.10", port=8080, weight=70, health_check_id="h")
    declared = {
        "zone_id": "Z",
        "zone_name": "tandem.test",
        "name_servers": [],
        "service_name": "recommend.tandem.test",
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
        "sites": {"private": endpoint},
    }
    return TrafficOutputs(**{**declared, **changed})  # type: ignore[arg-type]  # values as a stack exports them


def test_the_bound_is_detection_plus_a_cached_answer_plus_a_last_request_and_a_second() -> None:
    assert recovery_bound_seconds(traffic()) == 2 * (10 + 6) + 5 + 2 + 1


def test_recovery_is_the_end_of_the_last_failure_of_any_user() -> None:
    samples = [sample(9, Outcome.TIMEOUT), sample(12, Outcome.REFUSED), sample(14), sample(20, Outcome.TIMEOUT, took=2)]
    assert recovery_seconds(samples, broken_at=10) == 12


def test_a_wrong_answer_counts_as_a_failure() -> None:
    assert recovery_seconds([sample(30, Outcome.WRONG)], broken_at=10) == pytest.approx(20.1)


def test_nothing_failed_is_no_recovery_time() -> None:
    assert recovery_seconds([sample(11)], broken_at=10) == 0


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4), (0.01, 1)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], share) == value


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))


def test_latency_counts_right_answers_only() -> None:
    assert latency_ms([sample(1, took=0.2), sample(2, Outcome.TIMEOUT, took=9)])["max"] == 200.0


def test_a_summary_counts_failures_by_kind_and_answers_by_site() -> None:
    counted = summary([sample(1), sample(2, site="private"), sample(3, Outcome.REFUSED, site=None)])
    assert counted["failures"] == 1
    assert counted["outcomes"] == {"ok": 2, "refused": 1}
    assert counted["answers_by_site"] == {"private": 1, "public": 1}
    assert counted["availability"] == pytest.approx(2 / 3, abs=1e-5)


def test_an_empty_stretch_has_no_availability() -> None:
    assert summary([])["availability"] is None


def test_the_timeline_counts_seconds_before_and_after_the_fault() -> None:
    rows = timeline([sample(9.5), sample(10.2, Outcome.REFUSED), sample(10.9)], origin=10)
    assert rows == [
        {"seconds": -1.0, "counts": {"public": 1}},
        {"seconds": 0.0, "counts": {"failed: refused": 1, "public": 1}},
    ]
