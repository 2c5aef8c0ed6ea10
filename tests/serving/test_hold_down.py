"""What was ill is well again when it has been right for long enough without a break; on a clock the test turns."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from gateway_stage import TOKEN, Stand, small_reference

from serving.health import GoldenHealth
from serving.inference import BusyError, InferenceError, InferenceTimeoutError, UnreachableError, WrongAnswerError

DIGEST = "sha256:" + "ab" * 32
INTERVAL = 2.0


class Site:
    """A gateway's health on a clock of its own, asked every two seconds."""

    def __init__(self, hold_down_seconds: float) -> None:
        self.now = 100.0
        self.stand = Stand(DIGEST)
        self.health = GoldenHealth(
            self.stand,
            {DIGEST: small_reference(DIGEST)},
            backend="cpu",
            interval_seconds=INTERVAL,
            deadline_seconds=1,
            hold_down_seconds=hold_down_seconds,
            clock=lambda: self.now,
        )

    async def live(self, seconds: float, failure: InferenceError | None = None) -> list[str]:
        """The reasons seen after each golden question of a while."""
        self.stand.failure = failure
        seen = []
        for _ in range(round(seconds / INTERVAL)):
            self.now += INTERVAL
            await self.health.check()
            seen.append(str(self.health.state.reason or "healthy"))
        return seen


async def test_at_first_start_the_first_right_answer_is_enough() -> None:
    site = Site(20)
    assert set(await site.live(4, UnreachableError("not yet"))) == {"starting"}
    assert await site.live(2) == ["healthy"]


async def test_a_wrong_answer_before_the_first_right_one_is_no_relapse() -> None:
    site = Site(20)
    assert await site.live(2, WrongAnswerError("version 7")) == ["wrong"]
    assert await site.live(2) == ["healthy"]


@pytest.mark.parametrize("fault", [WrongAnswerError("version 7"), UnreachableError("away")], ids=["wrong", "away"])
async def test_after_a_fault_it_holds_until_it_has_been_right_for_the_whole_time(fault: InferenceError) -> None:
    site = Site(20)
    await site.live(4)
    await site.live(2, fault)
    assert await site.live(24) == ["holding"] * 10 + ["healthy"] * 2


async def test_stale_is_a_fault_too() -> None:
    site = Site(20)
    await site.live(4)
    assert (await site.live(10, InferenceTimeoutError("slow")))[-1] == "stale"
    assert await site.live(22) == ["holding"] * 10 + ["healthy"]


async def test_silence_is_stale_even_when_nobody_looked_at_it() -> None:
    site = Site(20)
    await site.live(4)
    site.now += 60
    assert await site.live(22) == ["holding"] * 10 + ["healthy"]


async def test_a_relapse_starts_it_again() -> None:
    site = Site(20)
    await site.live(4)
    await site.live(2, UnreachableError("away"))
    assert set(await site.live(18)) == {"holding"}
    assert await site.live(2, UnreachableError("away")) == ["unreachable"]
    assert await site.live(22) == ["holding"] * 10 + ["healthy"]


async def test_an_accusation_by_a_user_s_answer_is_a_fault() -> None:
    site = Site(20)
    await site.live(4)
    site.health.accuse("version 7 answered a user")
    assert await site.live(22) == ["holding"] * 10 + ["healthy"]


async def test_busy_neither_breaks_what_is_right_nor_counts_as_right() -> None:
    site = Site(20)
    await site.live(4)
    await site.live(2, WrongAnswerError("version 7"))
    await site.live(16)
    assert await site.live(4, BusyError("full")) == ["holding"] * 2
    assert await site.live(2) == ["healthy"]


async def test_a_server_that_is_back_but_busy_is_held_down_as_well() -> None:
    site = Site(20)
    await site.live(4)
    await site.live(2, UnreachableError("away"))
    assert await site.live(2, BusyError("full")) == ["holding"]


async def flapping(site: Site, fault: Callable[[], InferenceError]) -> list[str]:
    await site.live(4)
    seen = []
    for _ in range(30):
        await site.live(8, fault())
        seen += await site.live(8)
    return seen


@pytest.mark.parametrize("fault", [UnreachableError, WrongAnswerError, InferenceTimeoutError])
async def test_flapping_every_eight_seconds_never_turns_green_with_a_hold_down_of_twenty(
    fault: type[InferenceError],
) -> None:
    assert set(await flapping(Site(20), lambda: fault("flap"))) == {"holding"}


@pytest.mark.parametrize("fault", [UnreachableError, WrongAnswerError, InferenceTimeoutError])
async def test_the_same_flapping_turns_green_without_a_hold_down(fault: type[InferenceError]) -> None:
    assert set(await flapping(Site(0), lambda: fault("flap"))) == {"healthy"}


async def test_a_held_site_says_why_without_the_token() -> None:
    site = Site(20)
    await site.live(4)
    await site.live(2, UnreachableError("away"))
    await site.live(6)
    body = site.health.state.body(TOKEN, "private").decode()
    assert TOKEN not in body
    assert '"reason": "holding"' in body
    assert "right for 4.0 s, must be for 20 s" in body
