"""Golden health: what turns it red, and what does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import numpy as np
import pytest
from gateway_stage import TOKEN, Stand, small_reference

from serving.health import GoldenHealth, difference
from serving.inference import (
    Answer,
    BusyError,
    InferenceTimeoutError,
    Lane,
    ModelFailureError,
    UnreachableError,
    WrongAnswerError,
)

DIGEST = "sha256:" + "ab" * 32


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def golden_answer() -> Answer:
    golden = small_reference(DIGEST).golden
    return Answer(DIGEST, golden.items.copy(), golden.scores.astype(np.float32))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand() -> Stand:
    return Stand(DIGEST)


@pytest.fixture
def health(stand: Stand, clock: Clock) -> GoldenHealth:
    references = {DIGEST: small_reference(DIGEST)}
    return GoldenHealth(stand, references, backend="cpu", interval_seconds=2, deadline_seconds=1, clock=clock)


async def test_before_the_first_good_answer_it_is_starting(health: GoldenHealth) -> None:
    assert health.state.reason == "starting"
    assert TOKEN not in health.state.body(TOKEN, "private").decode()


async def test_a_good_golden_answer_makes_it_healthy_with_the_token_in_front(
    health: GoldenHealth, stand: Stand, clock: Clock
) -> None:
    await health.check()
    clock.now += 1.5
    body = health.state.body(TOKEN, "private")
    assert TOKEN in body[:512].decode()
    assert body.startswith(b'{"status": "' + TOKEN.encode())
    quiet = {"busy": False, "shed": 0}
    assert json.loads(body) == {"status": TOKEN, **quiet, "digest": DIGEST, "age_seconds": 1.5, "site": "private"}
    assert stand.lanes == [Lane.GOLDEN]
    assert (stand.asked[0] == small_reference(DIGEST).golden.histories).all()


@pytest.mark.parametrize("busy", [BusyError("queue full"), InferenceTimeoutError("slow")], ids=["full", "slow"])
async def test_busy_is_not_ill_until_the_last_good_answer_is_stale(
    health: GoldenHealth, stand: Stand, clock: Clock, busy: Exception
) -> None:
    await health.check()
    stand.failure = busy  # type: ignore[assignment]  # both are inference errors
    for _ in range(3):
        clock.now += 1.9
        await health.check()
        assert health.state.healthy
    clock.now += 0.4
    assert health.state.reason == "stale"
    stand.failure = None
    await health.check()
    assert health.state.healthy


async def test_no_new_result_turns_stale_by_itself(health: GoldenHealth, clock: Clock) -> None:
    await health.check()
    clock.now += 6.1
    assert health.state.reason == "stale"


async def test_an_unreachable_server_turns_it_red_at_once(health: GoldenHealth, stand: Stand) -> None:
    await health.check()
    stand.failure = UnreachableError("connection refused")
    await health.check()
    assert health.state.reason == "unreachable"
    assert "refused" in health.state.body(TOKEN, "private").decode()


async def test_a_server_that_never_came_is_starting_first_and_unreachable_later(
    health: GoldenHealth, stand: Stand, clock: Clock
) -> None:
    stand.failure = UnreachableError("connection refused")
    await health.check()
    assert health.state.reason == "starting"
    clock.now += 6.1
    assert health.state.reason == "unreachable"


async def test_an_unreachable_server_that_comes_back_busy_is_judged_by_its_last_good_answer(
    health: GoldenHealth, stand: Stand, clock: Clock
) -> None:
    await health.check()
    stand.failure = UnreachableError("away")
    await health.check()
    stand.failure = BusyError("full")
    clock.now += 1
    await health.check()
    assert health.state.healthy


@pytest.mark.parametrize(
    "failure", [WrongAnswerError("version 7"), ModelFailureError("INTERNAL")], ids=["version", "model"]
)
async def test_a_wrong_or_failing_model_turns_it_red_and_stays_so_while_the_server_is_away_or_busy(
    health: GoldenHealth, stand: Stand, failure: Exception
) -> None:
    await health.check()
    stand.failure = failure  # type: ignore[assignment]  # both are inference errors
    await health.check()
    assert health.state.reason == "wrong"
    for later in (UnreachableError("away"), BusyError("full")):
        stand.failure = later
        await health.check()
        assert health.state.reason == "wrong"
    stand.failure = None
    await health.check()
    assert health.state.healthy


async def test_draining_comes_before_every_other_reason(health: GoldenHealth) -> None:
    await health.check()
    health.accuse("wrong")
    health.drain()
    assert health.state.reason == "draining"


async def test_the_token_stands_in_no_ill_body_whatever_the_detail_says(health: GoldenHealth) -> None:
    health.accuse(f"the server said {TOKEN}")
    assert TOKEN not in health.state.body(TOKEN, "private").decode()


async def test_a_golden_answer_that_differs_turns_it_red(health: GoldenHealth, stand: Stand) -> None:
    await health.check()

    def swap(answer: Answer) -> Answer:
        answer.items[0, [3, 20]] = answer.items[0, [20, 3]]
        return answer

    stand.change = swap
    await health.check()
    assert health.state.reason == "wrong"


async def test_whatever_a_server_sends_the_lane_goes_on(health: GoldenHealth, stand: Stand) -> None:
    def explode(_: Answer) -> Answer:
        raise ZeroDivisionError

    stand.change = explode
    await health.check()
    assert health.state.reason == "wrong"
    stand.change = lambda answer: answer
    await health.check()
    assert health.state.healthy


async def test_golden_questions_come_at_a_fixed_pace(stand: Stand) -> None:
    references = {DIGEST: small_reference(DIGEST)}
    health = GoldenHealth(stand, references, backend="cpu", interval_seconds=0.05, deadline_seconds=0.05)
    task = asyncio.create_task(health.run())
    await asyncio.sleep(0.52)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert 6 <= len(stand.lanes) <= 12


def _set(where: str, row: int, column: int, value: float) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        getattr(answer, where)[row, column] = value
        return answer

    return change


def _swap(first: int, second: int) -> Callable[[Answer], Answer]:
    def change(answer: Answer) -> Answer:
        for values in (answer.items, answer.scores):
            values[0, [first, second]] = values[0, [second, first]]
        return answer

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("scores", 0, 4, float("nan")), "not finite"),
        (_set("scores", 0, 4, float("inf")), "not finite"),
        (_set("items", 0, 9, 1), "items"),
        (_set("scores", 0, 4, 0.0), "scores 0, expected"),
        (_swap(1, 2), "best first"),
    ],
    ids=["nan", "inf", "another_item", "another_score", "order"],
)
def test_what_differs_is_named(change: Callable[[Answer], Answer], said: str) -> None:
    assert said in (difference(small_reference(DIGEST).golden, change(golden_answer()), "cpu") or "nothing")


def test_equal_answers_and_differences_below_rank_ten_or_within_tolerance_pass() -> None:
    golden = small_reference(DIGEST).golden
    assert difference(golden, golden_answer(), "cpu") is None
    assert difference(golden, _set("items", 0, 10, 1)(golden_answer()), "cpu") is None
    close = golden_answer()
    close.scores[0, :10] += 5e-4
    assert difference(golden, close, "cpu") is None
    far = golden_answer()
    far.scores[0, :10] += 5e-2
    assert difference(golden, far, "cpu") is not None
    assert difference(golden, far, "gpu") is None


def test_a_backend_without_a_tolerance_is_told() -> None:
    assert "set BACKEND" in (difference(small_reference(DIGEST).golden, golden_answer(), "tpu") or "")
