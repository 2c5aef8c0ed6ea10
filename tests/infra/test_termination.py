"""Whether what happens while a pod ends fits into its grace period."""

from __future__ import annotations

import pytest

from infra.checks import SettingError
from infra.termination import Ending, ending, gateway_exit_seconds
from serving.gateway_settings import Settings


def test_a_grace_that_is_not_set_is_the_sum_and_some() -> None:
    assert ending("triton", pause_seconds=0, exit_seconds=10, rest_seconds=5) == Ending(
        pause_seconds=3, exit_seconds=10, rest_seconds=5, grace_seconds=20
    )


def test_a_pause_that_is_not_set_is_as_long_as_the_edge_needs() -> None:
    found = ending("gateway", pause_seconds=0, exit_seconds=4, rest_seconds=5, deregistration_seconds=30)
    assert (found.pause_seconds, found.grace_seconds) == (30, 41)


def test_a_grace_that_does_not_hold_all_of_it_says_the_sum() -> None:
    with pytest.raises(
        SettingError, match=r"triton_grace_seconds is 18; pause 3 \+ exit 10 \+ rest 5 = 18 s.* above 18"
    ):
        ending("triton", pause_seconds=0, exit_seconds=10, rest_seconds=5, grace_seconds=18)
    assert ending("triton", pause_seconds=0, exit_seconds=10, rest_seconds=5, grace_seconds=19).grace_seconds == 19


def test_a_pause_shorter_than_the_edge_needs_is_refused_by_what_it_needs() -> None:
    with pytest.raises(SettingError, match=r"gateway_pause_seconds is 29; .* for 30 s .* at least 30"):
        ending("gateway", pause_seconds=29, exit_seconds=4, rest_seconds=5, deregistration_seconds=30)


def test_a_gateways_exit_is_what_its_program_takes() -> None:
    # As serving/server.py adds it up: it answers on for drain_seconds, then waits for what is in flight.
    assert gateway_exit_seconds(1.5) == int(Settings.__dataclass_fields__["drain_seconds"].default) + int(1.5) + 2
