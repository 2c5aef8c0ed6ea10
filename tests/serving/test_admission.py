"""The door of the gateway: who is turned away, at what cost to whom, and which connections are asked to go."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import FastAPI
from gateway_stage import TOKEN, Stand, settings, small_reference, until_async

from serving.admission import Address, Callers, RecentCount
from serving.gateway import Gateway, application
from serving.inference import BusyError
from serving.recommendation import ErrorAnswer

DIGEST = "sha256:" + "ab" * 32
PATH = "/v1/recommendations"
LIMIT = 3


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stand() -> Stand:
    return Stand(DIGEST, users_may_go=asyncio.Event())


@pytest.fixture
def app(stand: Stand) -> FastAPI:
    return application(settings(concurrency_limit=LIMIT), {DIGEST: small_reference(DIGEST)}, stand)


@pytest.fixture
def gateway(app: FastAPI) -> Gateway:
    found: Gateway = app.state.gateway
    return found


@pytest_asyncio.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def ask(http: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(http.post(PATH, json={"history": []}))


async def fill(http: httpx.AsyncClient, gateway: Gateway) -> list[asyncio.Task[httpx.Response]]:
    inside = [ask(http) for _ in range(LIMIT)]
    await until_async(lambda: gateway.admission.in_flight == LIMIT)
    return inside


async def test_one_more_than_the_limit_gets_429_at_once_and_those_inside_their_answers(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    inside = await fill(http, gateway)
    refused = await http.post(PATH, json={"history": []})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert refused.headers["X-Tandem-Site"] == "private"
    assert ErrorAnswer.model_validate(refused.json()).error.value == "3 requests in flight, the limit of this gateway"
    assert stand.users_may_go is not None
    stand.users_may_go.set()
    assert [(await one).status_code for one in inside] == [200] * LIMIT
    assert (await http.post(PATH, json={"history": []})).status_code == 200
    assert gateway.admission.in_flight == 0


async def test_a_request_is_turned_away_before_its_body_is_read(
    app: FastAPI, http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    inside = await fill(http, gateway)
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    await app(_scope(), receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    length = dict(sent[0]["headers"])[b"content-length"]
    assert int(length) == len(sent[1]["body"])
    assert stand.users_may_go is not None
    stand.users_may_go.set()
    await asyncio.gather(*inside)


def _scope(path: str = PATH, client: Address = ("127.83.6.1", 4000)) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json")]
    where = {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    return {"type": "http", "http_version": "1.1", "method": "POST", "headers": headers, "client": client, **where}


async def test_a_request_that_fails_leaves_its_place(http: httpx.AsyncClient, gateway: Gateway, stand: Stand) -> None:
    stand.users_may_go = None

    def fault(_: Any) -> Any:
        raise RuntimeError

    stand.change = fault
    for _ in range(2 * LIMIT):
        assert (await http.post(PATH, json={"history": []})).status_code == 500
    assert gateway.admission.in_flight == 0


async def test_a_full_gateway_is_busy_and_healthy_and_goes_on_asking_the_golden_question(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    await gateway.health.check()
    inside = await fill(http, gateway)
    for _ in range(5):
        assert (await http.post(PATH, json={"history": []})).status_code == 429
    asked = time.monotonic()
    await gateway.health.check()
    seen = await http.get("/healthz")
    assert seen.status_code == 200
    assert seen.text.index(TOKEN) < 64
    assert {"busy": True, "shed": 5}.items() <= seen.json().items()
    assert seen.json()["age_seconds"] <= time.monotonic() - asked + 0.001, "it is told in whole milliseconds"
    assert (await http.get("/livez")).status_code == 200
    assert stand.users_may_go is not None
    stand.users_may_go.set()
    await asyncio.gather(*inside)
    await asyncio.sleep(2 * gateway.settings.golden_interval_seconds)
    await gateway.health.check()
    assert {"busy": False, "shed": 0}.items() <= (await http.get("/healthz")).json().items()


async def test_a_busy_triton_is_a_429_too_and_counted_as_shed(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    await gateway.health.check()
    stand.users_may_go, stand.failure = None, BusyError("Exceeds maximum queue size")
    refused = await http.post(PATH, json={"history": []})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    assert "Exceeds maximum queue size" in refused.json()["error"]["value"]
    seen = (await http.get("/healthz")).json()
    assert (seen["status"], seen["shed"]) == (TOKEN, 1)


async def test_shedding_is_counted_once_by_its_own_metric_and_by_code(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    inside = await fill(http, gateway)
    await http.post(PATH, json={"history": []})
    assert stand.users_may_go is not None
    stand.users_may_go.set()
    await asyncio.gather(*inside)
    stand.failure = BusyError("full")
    await http.post(PATH, json={"history": [], "surface": "search"})
    text = (await http.get("/metrics")).text
    assert 'tandem_shed_total{site="private"} 2.0' in text
    assert 'tandem_requests_total{code="429",site="private",surface="none"} 1.0' in text
    assert 'tandem_requests_total{code="429",site="private",surface="search"} 1.0' in text
    assert 'tandem_requests_total{code="200",site="private",surface="feed"} 3.0' in text


async def test_while_the_site_is_emptied_every_answer_asks_to_connect_anew_and_health_stays_green(
    http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    await gateway.health.check()
    inside = await fill(http, gateway)
    gateway.drain_mark.present = True
    answers = [
        await http.post(PATH, json={"history": []}),
        *[await http.get(path) for path in ("/healthz", "/livez", "/metrics", "/openapi.json", "/nothing")],
    ]
    assert stand.users_may_go is not None
    stand.users_may_go.set()
    answers += await asyncio.gather(*inside)
    assert [answer.status_code for answer in answers] == [429, 200, 200, 200, 200, 404, 200, 200, 200]
    assert [answer.headers.get_list("Connection") for answer in answers] == [["close"]] * 9
    assert 'tandem_site_draining{site="private"} 1.0' in answers[3].text
    gateway.drain_mark.present = False
    again = await http.post(PATH, json={"history": []})
    assert "Connection" not in again.headers
    assert 'tandem_site_draining{site="private"} 0.0' in (await http.get("/metrics")).text


async def test_connections_that_asked_are_counted_as_long_as_they_are_open(
    app: FastAPI, http: httpx.AsyncClient, gateway: Gateway, stand: Stand
) -> None:
    stand.users_may_go = None
    one, two, checker = ("127.83.6.1", 1), ("127.83.6.2", 1), ("127.83.6.3", 1)
    still_open = {one, two, checker}
    gateway.admission.callers.open_connections = lambda: still_open
    for client, path in ((one, PATH), (one, PATH), (two, PATH), (checker, "/healthz")):
        await app(_scope(path, client), _empty_body, _nowhere)
    assert 'tandem_connections{site="private"} 2.0' in (await http.get("/metrics")).text
    still_open.discard(one)
    assert 'tandem_connections{site="private"} 1.0' in (await http.get("/metrics")).text


async def _empty_body() -> Any:
    return {"type": "http.request", "body": b'{"history": []}', "more_body": False}


async def _nowhere(_: Any) -> None:
    pass


def test_connections_that_are_gone_do_not_pile_up_while_nobody_looks() -> None:
    callers = Callers()
    callers.open_connections = lambda: {("127.83.6.1", 9)}
    for port in range(20_000):
        callers.note(("127.83.6.1", port))
    assert len(callers._seen) <= 4096
    callers.note(None)
    assert callers.count == 1


def test_what_happened_longer_ago_than_the_interval_is_not_recent() -> None:
    clock = Clock()
    recent = RecentCount(2.0, clock)
    assert recent.value == 0
    for _ in range(40):
        recent.note()
        clock.now += 0.1
    assert 20 <= recent.value <= 22
    clock.now += 1.0
    assert 10 <= recent.value <= 12
    clock.now += 1.3
    assert recent.value == 0


def test_the_answer_to_those_turned_away_is_json_of_the_error_form(gateway: Gateway) -> None:
    start, body = gateway.admission.turn_away()
    assert start["status"] == 429
    assert set(json.loads(body["body"])["error"]) == {"value", "rule", "remedy"}
