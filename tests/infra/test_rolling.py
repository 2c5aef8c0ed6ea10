"""Rollouts on GPUs that are all in use."""

from __future__ import annotations

from typing import Any

import pytest

from infra.checks import SettingError
from infra.rolling import ONE_LESS, ONE_MORE, Rolling, rolling

FULL: dict[str, Any] = {"replicas": 2, "gpus_per_pod": 1, "gpu_quota": 2, "firm_gpus": 2}


@pytest.mark.parametrize(
    ("way", "changed", "expected"),
    [
        pytest.param("auto", {}, ONE_LESS, id="full GPUs: one goes first, or the rollout would hang"),
        pytest.param("auto", {"gpu_quota": 3}, ONE_LESS, id="a quota alone is no GPU"),
        pytest.param("auto", {"firm_gpus": 3}, ONE_LESS, id="a GPU above the quota is no GPU"),
        pytest.param("auto", {"gpu_quota": 3, "firm_gpus": 3}, ONE_MORE, id="one GPU to spare"),
        pytest.param("auto", {"gpus_per_pod": 2, "gpu_quota": 5, "firm_gpus": 5}, ONE_LESS, id="half of one to spare"),
        pytest.param("auto", {"gpus_per_pod": 0, "firm_gpus": 0}, ONE_MORE, id="no GPU asked for"),
        pytest.param("auto", {"firm_gpus": 0}, ONE_LESS, id="nothing but spot: it may be full"),
        pytest.param("surge", {"gpu_quota": 3, "firm_gpus": 3}, ONE_MORE, id="surge where there is room"),
        pytest.param("replace", {"gpu_quota": 9, "firm_gpus": 9}, ONE_LESS, id="replace where there is room too"),
        pytest.param("replace", {"replicas": 1, "gpu_quota": 1, "firm_gpus": 1}, ONE_LESS, id="a dark site, accepted"),
    ],
)
def test_a_rollout_comes_to_an_end_with_the_gpus_there_are(
    way: str, changed: dict[str, Any], expected: Rolling
) -> None:
    assert rolling(way, **{**FULL, **changed}) == expected


@pytest.mark.parametrize(
    ("way", "changed", "said"),
    [
        ("surge", {}, r"for one more are 3 GPUs, the site has 2 for sure .* bring 1 GPUs more"),
        ("auto", {"replicas": 3}, r"3 Triton pods x 1 GPUs are 3 GPUs; .* may request 2 .* raise gpu_quota to 3"),
        ("auto", {"most_replicas": 5}, r"5 Triton pods x 1 GPUs are 5 GPUs"),
        ("auto", {"replicas": 1, "gpu_quota": 1}, r"triton_replicas is 1 on 1 GPUs .* triton_rollout: replace"),
    ],
)
def test_one_that_would_hang_or_leave_nobody_is_refused(way: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        rolling(way, **{**FULL, **changed})
