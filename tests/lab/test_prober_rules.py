"""When a health check counts as healthy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.aws.check import Check, Checker, Result, endpoint_healthy, healthy

WELL, ILL = Result(True, "Success"), Result(False, "Failure")


def checkers(*views):
    return [Checker(region="r", address="127.77.1.1", healthy=view) for view in views]


@pytest.mark.parametrize(
    ("seeing", "of", "expected"),
    [(0, 8, False), (1, 8, False), (2, 8, True), (2, 16, False), (3, 16, True), (18, 100, False), (19, 100, True)],
)
def test_more_than_18_percent_of_the_checkers_have_to_see_it(seeing, of, expected) -> None:
    assert endpoint_healthy(checkers(*[True] * seeing, *[False] * (of - seeing))) is expected


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=40))
def test_a_checker_without_a_view_counts_as_healthy(views) -> None:
    assert endpoint_healthy(checkers(*views)) is (sum(view is not False for view in views) > 0.18 * len(views))


@given(st.integers(1, 10), st.lists(st.booleans(), max_size=60))
def test_a_view_flips_only_after_threshold_results_in_a_row(threshold, results) -> None:
    (checker,) = checkers(None)
    for number, well in enumerate(results):
        before = checker.healthy
        checker.observe(WELL if well else ILL, threshold, float(number))
        last = results[max(0, number + 1 - threshold) : number + 1]
        decided = len(last) == threshold and len(set(last)) == 1
        assert checker.healthy == (well if decided else before)


def test_a_checker_remembers_its_last_failure() -> None:
    (checker,) = checkers(None)
    checker.observe(ILL, 3, 1.0)
    checker.observe(WELL, 3, 2.0)
    assert (checker.last_failure, checker.last_failure_time, checker.last_result) == ("Failure", 1.0, "Success")


def endpoint(name, **more):
    return Check(id=name, type="HTTP", ip_address="127.77.0.10", **more)


def status(name, *checks, views=None):
    return healthy(name, {check.id: check for check in checks}, views or {})


def test_a_new_check_is_healthy_until_decided_and_a_new_inverted_one_is_not() -> None:
    assert status("a", endpoint("a"), views={"a": checkers(None, None)})
    assert not status("a", endpoint("a", inverted=True), views={"a": checkers(None, None)})


def test_inversion_turns_the_status_around() -> None:
    assert status("a", endpoint("a", inverted=True), views={"a": checkers(False, False)})


def test_a_disabled_check_is_healthy_and_an_inverted_disabled_one_is_not() -> None:
    assert status("a", endpoint("a", disabled=True), views={"a": checkers(False)})
    assert not status("a", endpoint("a", disabled=True, inverted=True), views={"a": checkers(False)})


@pytest.mark.parametrize(("threshold", "expected"), [(0, True), (1, True), (2, True), (3, False)])
def test_a_calculated_check_counts_its_healthy_children(threshold, expected) -> None:
    parent = Check(id="p", type="CALCULATED", children=("a", "b", "c"), health_threshold=threshold)
    views = {"a": checkers(True), "b": checkers(True), "c": checkers(False)}
    assert status("p", parent, endpoint("a"), endpoint("b"), endpoint("c"), views=views) is expected


def test_golden_and_not_drain_as_a_calculated_check() -> None:
    golden, drain = endpoint("golden"), endpoint("drain", inverted=True)
    site = Check(id="site", type="CALCULATED", children=("golden", "drain"), health_threshold=2)
    for golden_seen, drain_seen, expected in ((True, False, True), (True, True, False), (False, False, False)):
        views = {"golden": checkers(golden_seen), "drain": checkers(drain_seen)}
        assert status("site", site, golden, drain, views=views) is expected


def test_a_missing_child_and_a_circle_are_unhealthy_not_endless() -> None:
    orphan = Check(id="p", type="CALCULATED", children=("gone",), health_threshold=1)
    assert not status("p", orphan)
    one = Check(id="one", type="CALCULATED", children=("two",), health_threshold=1)
    two = Check(id="two", type="CALCULATED", children=("one",), health_threshold=1)
    assert not status("one", one, two)


def test_a_deleted_check_that_a_record_still_names_counts_as_healthy() -> None:
    assert status("gone")


def test_a_check_is_read_as_the_api_lists_it() -> None:
    config = {"Type": "HTTPS_STR_MATCH", "IPAddress": "127.77.0.10", "SearchString": "ok", "RequestInterval": 10}
    check = Check.from_aws({"Id": "a", "HealthCheckConfig": config})
    assert (check.port, check.path, check.failure_threshold, check.interval_seconds) == (443, "/", 3, 10)
    assert check.regions == ()


def test_a_calculated_check_is_read_as_the_api_lists_it() -> None:
    config = {"Type": "CALCULATED", "ChildHealthChecks": ["a", "b"], "HealthThreshold": 2, "Inverted": True}
    check = Check.from_aws({"Id": "p", "HealthCheckConfig": config})
    assert (check.children, check.health_threshold, check.inverted) == (("a", "b"), 2, True)


@pytest.mark.parametrize(("threshold", "disabled"), [(2, False), (1, True)])
def test_a_calculated_check_is_inverted_last(threshold, disabled) -> None:
    parent = Check(
        id="p", type="CALCULATED", children=("a", "b"), health_threshold=threshold, inverted=True, disabled=disabled
    )
    views = {"a": checkers(True), "b": checkers(False)}
    assert status("p", parent, endpoint("a"), endpoint("b"), views=views) == (not disabled)


def test_a_new_site_is_away_until_its_mark_was_looked_for() -> None:
    golden, drain = endpoint("golden"), endpoint("drain", inverted=True)
    site = Check(id="site", type="CALCULATED", children=("golden", "drain"), health_threshold=2)
    assert not status("site", site, golden, drain, views={"golden": checkers(True), "drain": checkers(None)})
    assert status("site", site, golden, drain, views={"golden": checkers(None), "drain": checkers(False)})
