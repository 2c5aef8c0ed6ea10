"""Ready is another question than well: what is held down answers whoever comes, and DNS leads nobody to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from gateway_stage import TOKEN, Stand, settings, small_reference

from serving.gateway import Gateway, application
from serving.health import Reason, State
from serving.inference import UnreachableError, WrongAnswerError

DIGEST = "sha256:" + "ab" * 32
RECOMMENDATIONS = "/v1/recommendations"
ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
STATUS: dict[Reason | None, tuple[int, int]] = {
    None: (200, 200),
    Reason.STARTING: (503, 503),
    Reason.WRONG: (503, 503),
    Reason.UNREACHABLE: (503, 503),
    Reason.STALE: (503, 503),
    Reason.HOLDING: (503, 200),
    Reason.DRAINING: (503, 503),
}
"""What /healthz and /readyz answer."""


@pytest.fixture
def stand() -> Stand:
    return Stand(DIGEST)


@pytest.fixture
def app(stand: Stand) -> FastAPI:
    return application(settings(hold_down_seconds=20.0), {DIGEST: small_reference(DIGEST)}, stand)


@pytest.fixture
def gateway(app: FastAPI) -> Gateway:
    found: Gateway = app.state.gateway
    return found


@pytest_asyncio.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as client:
        yield client


async def statuses(http: httpx.AsyncClient) -> tuple[int, int]:
    return (await http.get("/healthz")).status_code, (await http.get("/readyz")).status_code


def test_every_reason_is_in_the_table() -> None:
    assert set(STATUS) == {None, *Reason}


@pytest.mark.parametrize("reason", STATUS, ids=lambda reason: reason or "healthy")
async def test_each_reason_has_its_answer_on_both_paths(
    http: httpx.AsyncClient, gateway: Gateway, reason: Reason | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(gateway.health), "state", State(reason, DIGEST, 0.5, f"detail with {TOKEN}"))
    assert await statuses(http) == STATUS[reason]
    seen = await http.get("/readyz")
    assert seen.json() == {"status": "ready" if seen.status_code == 200 else "not ready", "reason": reason}
    assert seen.headers["Cache-Control"] == "no-store"
    assert TOKEN not in seen.text, "or a check of the wrong path would find the site well"


async def test_a_blip_of_the_model_server_leaves_the_gateway_out_for_as_long_as_the_blip(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    assert await statuses(http) == (503, 503)
    await gateway.health.check()
    assert await statuses(http) == (200, 200)
    stand.failure = UnreachableError("a second away")
    await gateway.health.check()
    assert await statuses(http) == (503, 503)
    stand.failure = None
    await gateway.health.check()
    assert await statuses(http) == (503, 200)


async def test_a_held_gateway_answers_who_comes_and_asks_them_to_come_again(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    await gateway.health.check()
    stand.failure = WrongAnswerError("version 7")
    await gateway.health.check()
    stand.failure = None
    await gateway.health.check()
    answer = await http.post(RECOMMENDATIONS, json={"history": []})
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")


async def test_readiness_goes_with_the_pod_that_is_about_to_leave(http: httpx.AsyncClient, gateway: Gateway) -> None:
    await gateway.health.check()
    gateway.drain()
    assert await statuses(http) == (503, 503)


def test_the_table_in_the_architecture_says_what_both_paths_answer() -> None:
    rows = re.findall(
        r"^\| (\w+) \| .+ \| (\d{3}) \| (\d{3}) \|$", ARCHITECTURE.read_text(encoding="utf-8"), re.MULTILINE
    )
    told = {reason: (int(healthz), int(readyz)) for reason, healthz, readyz in rows}
    assert told == {str(reason or "none"): answers for reason, answers in STATUS.items()}
