"""When an alarm goes off: periods, statistics, and what is made of silence."""

from __future__ import annotations

import pytest

from lab.aws.alarm import ALARM, INSUFFICIENT, OK, Rule, Sample, judge, points
from lab.aws.check import Check, alarm_healthy, healthy
from lab.aws.prober import Prober

HEARTBEAT = Rule(
    statistic="Average",
    comparison="LessThanThreshold",
    threshold=0.5,
    period_seconds=60,
    periods=1,
    to_alarm=1,
    treatment="breaching",
)
NOW = 6000.0
"""At the very beginning of a period."""


def rule(**changes) -> Rule:
    return Rule(**{**HEARTBEAT.__dict__, **changes})


def sample(age_seconds: float, value: float = 1.0) -> Sample:
    return Sample(NOW - age_seconds, value, value, value)


def test_a_period_that_has_begun_is_not_judged() -> None:
    assert points(HEARTBEAT, [Sample(NOW, 0, 0, 0), sample(1)], NOW + 30) == [1.0, None, None]


def test_the_latest_period_comes_first_and_what_is_older_than_the_range_is_not_seen() -> None:
    assert points(HEARTBEAT, [sample(10, 3), sample(70, 2), sample(130, 1), sample(190, 9)], NOW) == [3, 2, 1]


@pytest.mark.parametrize(
    ("statistic", "value"), [("Average", 2.0), ("Sum", 6.0), ("Minimum", 1.0), ("Maximum", 3.0), ("SampleCount", 3.0)]
)
def test_a_period_has_the_statistic_of_its_values(statistic: str, value: float) -> None:
    samples = [sample(10, 1), sample(20, 2), sample(30, 3)]
    assert points(rule(statistic=statistic), samples, NOW)[0] == value


def test_a_summary_of_many_values_weighs_as_many() -> None:
    assert points(rule(), [Sample(NOW - 1, 0, 0, 0, 3), sample(2, 1)], NOW)[0] == 0.25


@pytest.mark.parametrize(
    ("comparison", "states"),
    [
        ("LessThanThreshold", (ALARM, OK, OK)),
        ("LessThanOrEqualToThreshold", (ALARM, ALARM, OK)),
        ("GreaterThanOrEqualToThreshold", (OK, ALARM, ALARM)),
        ("GreaterThanThreshold", (OK, OK, ALARM)),
    ],
)
def test_each_comparison_knows_its_own_edge(comparison: str, states: tuple[str, str, str]) -> None:
    subject = rule(comparison=comparison, threshold=5)
    assert tuple(judge(subject, [value, None, None], OK) for value in (4, 5, 6)) == states


BAD, GOOD = 0.0, 1.0


@pytest.mark.parametrize(
    ("found", "breaching", "not_breaching", "ignore", "missing"),
    [
        ([GOOD, BAD, BAD, BAD, BAD], OK, OK, OK, OK),
        ([BAD, BAD, BAD, GOOD, GOOD], ALARM, ALARM, ALARM, ALARM),
        ([None, BAD, None, BAD, BAD], ALARM, ALARM, ALARM, ALARM),
        ([None, None, GOOD, BAD, BAD], OK, OK, OK, OK),
        ([None, None, None, None, GOOD], OK, OK, OK, OK),
        ([None, None, BAD, None, None], ALARM, OK, "kept", ALARM),
        ([None, None, None, None, None], ALARM, OK, "kept", INSUFFICIENT),
    ],
    ids=[
        "latest good",
        "three bad",
        "bad ones from further back",
        "one good among them",
        "old good",
        "one bad",
        "none",
    ],
)
def test_silence_is_what_the_alarm_takes_it_for(
    found: list[float | None], breaching: str, not_breaching: str, ignore: str, missing: str
) -> None:
    states = {"breaching": breaching, "notBreaching": not_breaching, "ignore": ignore, "missing": missing}
    for treatment, state in states.items():
        assert judge(rule(periods=3, to_alarm=3, treatment=treatment), found, "kept") == state, treatment


def test_some_of_many_periods_may_be_enough() -> None:
    subject = rule(periods=3, to_alarm=2)
    assert judge(subject, [BAD, GOOD, BAD, GOOD, GOOD], OK) == ALARM
    assert judge(subject, [BAD, GOOD, GOOD, BAD, BAD], OK) == OK


def test_a_site_that_fell_silent_is_ill_after_the_periods_looked_at_and_not_before() -> None:
    beats = [sample(age) for age in range(0, 600, 10)]
    silent = next(
        after for after in range(0, 600, 10) if judge(HEARTBEAT, points(HEARTBEAT, beats, NOW + after), OK) == ALARM
    )
    assert silent == HEARTBEAT.reach_seconds == 240


def heard(without_data: str = "Unhealthy", **more) -> Check:
    return Check(id="heard", type="CLOUDWATCH_METRIC", alarm_name="a", without_data=without_data, **more)


@pytest.mark.parametrize(
    ("without_data", "state", "last_known", "expected"),
    [
        ("Unhealthy", "OK", None, True),
        ("Healthy", "ALARM", None, False),
        ("Unhealthy", "INSUFFICIENT_DATA", True, False),
        ("Healthy", "INSUFFICIENT_DATA", False, True),
        ("LastKnownStatus", "INSUFFICIENT_DATA", False, False),
        ("LastKnownStatus", "INSUFFICIENT_DATA", None, True),
        ("Unhealthy", "", True, False),
    ],
    ids=["fine", "alarm", "silent", "silent but trusted", "as it was", "never known", "alarm is gone"],
)
def test_a_check_is_what_its_alarm_says_and_without_data_what_was_declared(
    without_data: str, state: str, last_known: bool | None, expected: bool
) -> None:
    assert alarm_healthy(heard(without_data), state, last_known) is expected


def test_a_check_whose_alarm_was_not_read_yet_is_as_without_data_and_takes_its_parent_along() -> None:
    parent = Check(id="both", type="CALCULATED", children=("heard",), health_threshold=1)
    checks = {"heard": heard(), "both": parent}
    assert not healthy("both", checks, {})
    assert healthy("both", checks, {}, heard={"heard": True})
    assert not healthy("heard", {"heard": heard(inverted=True)}, {}, heard={"heard": True})


async def test_the_prober_hears_alarms_and_asks_nobody_for_them() -> None:
    asked: list[str] = []

    async def ask(check, *_):
        asked.append(check.id)
        raise AssertionError

    prober = Prober(lambda _: None, ask=ask)
    prober.apply({"heard": heard("LastKnownStatus")})
    assert prober.goes_by_alarms
    states = []
    for state in ("ALARM", "INSUFFICIENT_DATA", "OK", "INSUFFICIENT_DATA"):
        prober.hear({"heard": state, "unknown": "OK"})
        states.append(prober.healthy("heard"))
    assert states == [False, False, True, True]
    told = prober.report()["heard"]
    assert told["alarm_state"] == "INSUFFICIENT_DATA"
    assert {checker["last_result"] for checker in told["checkers"]} == {"Success: alarm a is INSUFFICIENT_DATA"}
    prober.apply({})
    assert not prober.goes_by_alarms
    await prober.stop()
    assert not asked
