"""The rule that the sites minus any one carry the declared peak, as arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import capacity
from infra.capacity import SiteCapacity
from infra.checks import SettingError

SITE = SiteCapacity(
    weight=50,
    firm_gpus=4,
    gpus_per_pod=1,
    triton_replicas=4,
    requests_per_second_per_pod=100.0,
    gateway_replicas=4,
    requests_per_second_per_gateway=150.0,
)


def sites(**changes: SiteCapacity) -> dict[str, SiteCapacity]:
    return {"private": SITE, "public": SITE, **changes}


@pytest.mark.parametrize(
    ("changes", "carried"),
    [
        ({}, 400),
        ({"firm_gpus": 3}, 300),
        ({"firm_gpus": 0}, 0),
        ({"gpus_per_pod": 2}, 200),
        ({"gpus_per_pod": 3}, 100),
        ({"triton_replicas": 2}, 200),
        ({"gateway_replicas": 1}, 150),
        ({"gpus_per_pod": 0, "firm_gpus": 0}, 400),
    ],
    ids=[
        "as declared",
        "one GPU less",
        "spot only",
        "two GPUs a pod",
        "a GPU that no pod can use",
        "fewer pods",
        "fewer gateways",
        "on the CPU",
    ],
)
def test_a_site_carries_what_its_pods_on_firm_gpus_and_its_gateways_both_carry(
    changes: dict[str, int], carried: float
) -> None:
    assert replace(SITE, **changes).requests_per_second == carried  # type: ignore[arg-type]  # whole numbers all of them


def test_two_equal_sites_carry_what_one_carries() -> None:
    capacity.check(400, sites())
    with pytest.raises(SettingError, match=r"without private, public gets 401/s and carries 400/s .*4 Triton pods"):
        capacity.check(401, sites())


def test_the_message_names_the_value_the_rule_and_what_to_make_larger() -> None:
    with pytest.raises(SettingError) as caught:
        capacity.check(400, sites(public=replace(SITE, firm_gpus=2)))
    assert str(caught.value) == (
        "peak_requests_per_second is 400; the sites minus any one carry it on capacity that nobody takes away, but"
        " without private, public gets 400/s and carries 200/s (2 Triton pods x 100/s, for 2 firm GPUs hold no more of"
        " 1 each: raise min of a pool that is not spot): make what is named larger, or declare a smaller peak"
    )


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [({"gateway_replicas": 1}, "raise gateway_replicas"), ({"triton_replicas": 1}, "raise triton_replicas")],
    ids=["gateways", "model servers"],
)
def test_what_keeps_a_site_from_more_is_what_the_message_names(changes: dict[str, int], remedy: str) -> None:
    small = replace(SITE, **changes)  # type: ignore[arg-type]  # as above
    with pytest.raises(SettingError, match=remedy):
        capacity.check(400, sites(private=small))


def test_of_three_sites_each_gets_its_share_by_weight_and_not_by_size() -> None:
    third = replace(SITE, weight=150)
    lost_private = {found.site: found.requests_per_second for found in capacity.shortfalls(4000, sites(edge=third))}
    assert lost_private == {"public": 1000, "private": 1000, "edge": 3000}
    with pytest.raises(SettingError, match="edge gets 600/s and carries 400/s"):
        capacity.check(800, sites(edge=third))
    capacity.check(533, sites(edge=third))


def test_a_site_of_weight_0_gets_nothing_while_another_is_well() -> None:
    spare = replace(SITE, weight=0)
    with pytest.raises(SettingError, match="without private, public gets 700/s"):
        capacity.check(700, sites(spare=spare))
    assert capacity.shares({"a": 0, "b": 0}) == {"a": 0.5, "b": 0.5}, "then all alike"
    capacity.check(400, {"private": SITE, "spare": spare})


def test_no_peak_promises_nothing_and_one_site_can_promise_none() -> None:
    capacity.check(0, {"private": replace(SITE, firm_gpus=0)})
    with pytest.raises(SettingError, match="private is the only site"):
        capacity.check(1, {"private": SITE})


@given(
    peak=st.floats(0.1, 10_000),
    pods=st.lists(st.integers(0, 40), min_size=2, max_size=6),
    weights=st.lists(st.integers(0, 255), min_size=6, max_size=6),
)
def test_what_passes_leaves_every_loss_covered_by_the_sum_of_the_rest(
    peak: float, pods: list[int], weights: list[int]
) -> None:
    declared = {
        f"s{number}": replace(SITE, firm_gpus=count, triton_replicas=max(1, count), gateway_replicas=100, weight=weight)
        for number, (count, weight) in enumerate(zip(pods, weights, strict=False))
    }
    if any(capacity.shortfalls(peak, declared)):
        return
    for lost in declared:
        rest = sum(each.requests_per_second for site, each in declared.items() if site != lost)
        assert rest >= peak * (1 - 1e-9)
