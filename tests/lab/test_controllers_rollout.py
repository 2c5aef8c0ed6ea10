"""The arithmetic of a rollout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lab.kubernetes.rollout import Count, Limits, resolved, rolling


@pytest.mark.parametrize(
    ("value", "total", "up", "count"),
    [("25%", 2, True, 1), ("25%", 2, False, 0), (3, 2, True, 3), ("100%", 7, False, 7)],
)
def test_shares_round_up_for_surge_and_down_for_unavailable(value: int | str, total: int, up: bool, count: int) -> None:
    assert resolved(value, 0, total, up=up) == count


@given(
    replicas=some.integers(0, 12),
    surge=some.integers(0, 4),
    unavailable=some.integers(0, 4),
    start=some.lists(some.integers(0, 6), min_size=1, max_size=3),
    data=some.data(),
)
def test_a_rollout_stays_within_its_limits_at_every_step_and_ends(
    replicas: int, surge: int, unavailable: int, start: list[int], data: some.DataObject
) -> None:
    rule = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    limits = Limits.of({"replicas": replicas, "strategy": rule})
    new, old = 0, start
    for _ in range(200):
        fewest = max(0, limits.replicas - limits.unavailable)
        before = new + sum(old)
        grown, shrunk = rolling(limits, Count(new, new), [Count(each, each) for each in old])
        assert sum(shrunk) + min(new, grown) >= min(fewest, before), "too few left available"
        assert grown + sum(shrunk) <= max(limits.replicas + limits.surge, before), "too many at once"
        if data.draw(some.booleans()):
            assert rolling(limits, Count(grown, grown), [Count(each, 0) for each in shrunk])[1] <= shrunk
        if (grown, shrunk) == (new, old):
            break
        new, old = grown, shrunk
    assert (new, old) == (replicas, [0] * len(start))


def test_a_broken_new_template_stops_the_rollout_at_its_limits() -> None:
    limits = Limits(4, 1, 1)
    grown, shrunk = rolling(limits, Count(0, 0), [Count(4, 4)])
    assert (grown, shrunk) == (1, [3])
    grown, shrunk = rolling(limits, Count(1, 0), [Count(3, 3)])
    assert (grown, shrunk) == (2, [3])
    assert rolling(limits, Count(2, 0), [Count(3, 3)]) == (2, [3])


def test_broken_old_pods_go_first_because_they_serve_nobody() -> None:
    assert rolling(Limits(3, 0, 1), Count(0, 0), [Count(1, 1), Count(2, 0)])[1] == [1, 1]
