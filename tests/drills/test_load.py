"""The load in a process of its own: the same samples, no lag of this process, and no child left behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from drills.drill import NotRun, until
from drills.load import Lag, Sample, Tally, refusal, run
from tests.drills.answering import Site, ask, outcomes, settings

ROOT = Path(__file__).resolve().parents[2]


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "drills.load_process" in " ".join(child.cmdline())]


def ask_badly(turn: int) -> bytes:
    raise RuntimeError(f"no question {turn}")


def die(turn: int) -> bytes:
    os._exit(7)


def fall_silent(turn: int) -> bytes:
    os.kill(os.getpid(), signal.SIGSTOP)
    return ask(turn)


def count_loops(asked: bytes, answer: bytes) -> str:
    return type(asyncio.get_running_loop()).__module__


@pytest.mark.live
@pytest.mark.parametrize("ends", ["event", "deadline"])
async def test_a_load_of_its_own_process_hands_on_every_sample(resolver: str, port: int, site: Site, ends: str) -> None:
    stop, seen, tally = asyncio.Event(), list[Sample](), Tally()
    site.keeps = True
    asked = settings(resolver, port, classes=("dns", "dns-keepalive"), rate_per_second=100.0)
    load = asyncio.create_task(run(asked, stop if ends == "event" else 1.5, on_sample=seen.append, tally=tally))
    assert await until(lambda: len(seen) > 30, 30)
    assert len(children()) == 1
    stop.set()
    result = await load
    assert set(outcomes(result)) == {"ok"}
    assert seen == result.samples
    assert {s.client_class for s in seen} == {"dns", "dns-keepalive"}
    turns = sorted(s.intended for s in seen)
    assert all(abs(later - sooner - 0.01) < 1e-6 for sooner, later in itertools.pairwise(turns))
    assert (tally.finished, tally.in_flight) == (len(seen), 0)
    assert ends == "event" or len(seen) == 150
    assert result.lag.budget_ms == 12.5
    assert not children()


@pytest.mark.live
async def test_both_processes_read_one_clock(resolver: str, port: int) -> None:
    before = time.monotonic()
    result = await run(settings(resolver, port), 0.3)
    assert all(before < s.intended <= s.started <= s.finished < time.monotonic() for s in result.samples)


@pytest.mark.live
async def test_what_blocks_this_process_does_not_delay_the_users(resolver: str, port: int) -> None:
    stop, seen = asyncio.Event(), list[Sample]()
    asked = settings(resolver, port, request_timeout_seconds=5.0)
    load = asyncio.create_task(run(asked, stop, on_sample=seen.append))
    assert await until(lambda: len(seen) > 10, 30)
    begun = time.monotonic()
    time.sleep(0.5)  # noqa: ASYNC251  as a drill that parses a long answer would
    ended = time.monotonic()
    await asyncio.sleep(0.3)
    stop.set()
    result = await load
    meanwhile = [s for s in result.samples if begun < s.intended < ended]
    assert len(meanwhile) >= 24
    assert max(s.started - s.intended for s in meanwhile) < 0.25


@pytest.mark.live
async def test_answers_are_judged_in_the_child_on_the_faster_loop_where_there_is_one(resolver: str, port: int) -> None:
    result = await run(settings(resolver, port, judge=count_loops), 0.1)
    assert {s.detail for s in result.samples} <= {"uvloop", "asyncio.unix_events"}
    assert outcomes(result) == {"wrong": 5}


@pytest.mark.live
@pytest.mark.parametrize(
    ("make_request", "said"), [(ask_badly, "RuntimeError: no question 0"), (die, "without a word")]
)
async def test_a_child_that_dies_is_no_evidence_and_says_why(
    resolver: str, port: int, make_request: Callable[[int], bytes], said: str
) -> None:
    with pytest.raises(NotRun, match="the load generator died") as raised:
        await run(settings(resolver, port, make_request=make_request), 5.0)
    assert said in str(raised.value)
    assert not children()


@pytest.mark.live
async def test_a_child_that_falls_silent_is_ended(resolver: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drills.load.SILENCE_SECONDS", 3.0)
    with pytest.raises(NotRun, match="said nothing for 3 s"):
        await run(settings(resolver, port, make_request=fall_silent), asyncio.Event())
    assert not children()


@pytest.mark.live
async def test_a_cancelled_load_leaves_no_child_behind(resolver: str, port: int) -> None:
    seen: list[Sample] = []
    load = asyncio.create_task(run(settings(resolver, port), asyncio.Event(), on_sample=seen.append))
    assert await until(lambda: bool(seen), 30)
    assert children()
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert not children()


@pytest.mark.live
def test_a_child_dies_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio\nfrom drills.load import run\nfrom tests.drills.answering import settings\n"
        "asyncio.run(run(settings('127.84.8.53:9', 9), asyncio.Event(), "
        "on_sample=lambda _: print('asked', flush=True)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"asked\n"
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        parent.wait(30)
        _, alive = psutil.wait_procs([child], timeout=30)
        assert not alive
    finally:
        parent.kill()
        parent.wait(30)
        if parent.stdout is not None:
            parent.stdout.close()


async def test_a_source_address_that_is_not_here_is_refused_before_a_child_starts() -> None:
    with pytest.raises(NotRun, match="cannot be bound here"):
        await run(settings("127.84.8.53:9", 9, source_addresses=("192.0.2.7",)), 0.1)


@dataclass(frozen=True)
class Pace:
    """25 users at 50 requests/s: each asks every 500 ms, and 25 ms are a twentieth of that."""

    users: int = 25
    rate_per_second: float = 50.0


late = partial(Lag, p50_ms=1.0)


@pytest.mark.parametrize(
    ("lag", "pace", "said"),
    [
        (late(p99_ms=25.0, max_ms=900.0), Pace(), None),
        (late(p99_ms=25.1, max_ms=30.0), Pace(), "above 25.0 ms, 5% of a user's interval"),
        (late(p99_ms=25.1, max_ms=30.0), Pace(users=50), None),
        (late(p99_ms=1.2, max_ms=2.0), Pace(rate_per_second=1000.0 * 25 / 20), "above 1.0 ms"),
        (late(p99_ms=2.0, max_ms=1001.0), Pace(), "above the 1000 ms of grace"),
    ],
    ids=["on time", "late", "more patient users", "busier users", "one very late"],
)
def test_a_run_whose_generator_was_late_is_refused_as_evidence(lag: Lag, pace: Any, said: str | None) -> None:
    refused = refusal(lag, pace)
    assert (refused is None) if said is None else (said in (refused or ""))
