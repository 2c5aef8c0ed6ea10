"""The gateway's answers, form by form, in front of an inference that the test plays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
import pytest_asyncio
from fastapi import FastAPI
from gateway_stage import ITEMS, STEP, Stand, answer_of, settings, small_reference

from serving.gateway import Gateway, application
from serving.inference import (
    Answer,
    BusyError,
    InferenceError,
    InferenceTimeoutError,
    Lane,
    ModelFailureError,
    UnreachableError,
    WrongAnswerError,
)
from serving.reference import Reference

DIGEST = "sha256:" + "ab" * 32
PATH = "/v1/recommendations"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def stand() -> Stand:
    return Stand(DIGEST)


@pytest.fixture
def app(stand: Stand) -> FastAPI:
    return application(settings(), {DIGEST: small_reference(DIGEST)}, stand)


@pytest_asyncio.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def ids(answer: httpx.Response) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


def expected(indices: list[int], k: int) -> list[str]:
    history = np.zeros((1, 50), dtype=np.int64)
    if indices:
        history[0, -len(indices) :] = indices
    items, _ = answer_of(history)
    return [str(10 * item) for item in items[0, :k].tolist()]


async def test_an_answer_names_titles_site_version_and_digest(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json={"history": ["10", "20"], "k": 3, "surface": "search"})
    assert answer.status_code == 200
    document = answer.json()
    assert ids(answer) == expected([1, 2], 3)
    assert document["items"][0]["title"] == f"Item {int(ids(answer)[0]) // 10}"
    assert document["site"] == "private"
    assert document["model_digest"] == DIGEST
    assert document["model_version"] == str(int("ab" * 7 + "a", 16))
    assert document["degraded"] is False
    assert answer.headers["X-Tandem-Site"] == "private"
    assert answer.headers["X-Tandem-Digest"] == DIGEST
    scores = [item["score"] for item in document["items"]]
    assert scores == sorted(scores, reverse=True)


async def test_ten_items_for_the_feed_unless_asked_otherwise(http: httpx.AsyncClient) -> None:
    assert len(ids(await http.post(PATH, json={"history": ["10"]}))) == 10


async def test_an_empty_history_gets_the_model_s_answer_to_all_zeros(http: httpx.AsyncClient, stand: Stand) -> None:
    answer = await http.post(PATH, json={"history": []})
    assert answer.status_code == 200
    assert not stand.asked[-1].any()
    assert ids(answer) == expected([], 10)


async def test_the_last_fifty_of_a_long_history_are_used_padded_on_the_left(
    http: httpx.AsyncClient, stand: Stand
) -> None:
    await http.post(PATH, json={"history": [str(10 * n) for n in range(1, 81)]})
    assert stand.asked[-1][0].tolist() == list(range(31, 81))
    await http.post(PATH, json={"history": ["50"]})
    assert stand.asked[-1][0].tolist() == [0] * 49 + [5]


async def test_users_ask_on_their_own_lane(http: httpx.AsyncClient, stand: Stand) -> None:
    await http.post(PATH, json={"history": []})
    assert stand.lanes == [Lane.USERS]


BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, ""),
    "cut": (b'{"history": ["10"', 400, ""),
    "not_utf8": (b'{"history": ["\xff\xfe"]}', 400, ""),
    "lone_surrogate": (b'{"history": ["\\ud800"]}', 400, ""),
    "bomb": (b"[" * 60_000, 400, ""),
    "nan": (b'{"history": [], "k": NaN}', 422, "k"),
    "array": (b"[]", 422, "body"),
    "text": (b'"history"', 422, "body"),
    "null": (b"null", 422, "body"),
    "no_history": (b"{}", 422, "history"),
    "history_text": (b'{"history": "10"}', 422, "history"),
    "history_numbers": (b'{"history": [10]}', 422, "history.0"),
    "history_null": (b'{"history": [null]}', 422, "history.0"),
    "history_nested": (b'{"history": [["10"]]}', 422, "history.0"),
    "empty_id": (b'{"history": [""]}', 422, "history.0"),
    "long_id": (b'{"history": ["' + b"9" * 65 + b'"]}', 422, "history.0"),
    "too_long_history": (json.dumps({"history": ["10"] * 1001}).encode(), 422, "history"),
    "k_zero": (b'{"history": [], "k": 0}', 422, "k"),
    "k_51": (b'{"history": [], "k": 51}', 422, "k"),
    "k_huge": (b'{"history": [], "k": ' + b"9" * 400 + b"}", 422, "k"),
    "k_infinite": (b'{"history": [], "k": 1e999}', 422, "k"),
    "k_fraction": (b'{"history": [], "k": 1.5}', 422, "k"),
    "k_text": (b'{"history": [], "k": "5"}', 422, "k"),
    "k_true": (b'{"history": [], "k": true}', 422, "k"),
    "unknown_surface": (b'{"history": [], "surface": "billboard"}', 422, "surface"),
    "unknown_field": (b'{"history": [], "user": "me"}', 422, "user"),
    "null_byte_id": (b'{"history": ["\\u0000"]}', 422, "history"),
    "unknown_item": (b'{"history": ["10", "11"]}', 422, '["11"]'),
}


@pytest.mark.parametrize(("body", "status", "named"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_gets_a_4xx_with_value_rule_and_remedy(
    http: httpx.AsyncClient, stand: Stand, body: bytes, status: int, named: str
) -> None:
    answer = await http.post(PATH, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"value", "rule", "remedy"}
    assert all(error.values()) or body == b""
    assert named in error["value"]
    assert len(answer.content) < 1000
    assert stand.asked == []


async def test_only_the_first_few_unknown_items_are_named(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, json={"history": [f"x{n}" for n in range(20)] * 2})
    assert answer.status_code == 422
    assert '["x0", "x1", "x2", "x3", "x4"] and 15 more' in answer.json()["error"]["value"]


async def test_an_item_that_one_of_two_accepted_versions_knows_is_no_fault(stand: Stand) -> None:
    other = "sha256:" + "cd" * 32
    newer = small_reference(other)
    newer = Reference(digest=other, ids=["new", *newer.ids[1:]], titles=newer.titles, golden=newer.golden)
    app = application(settings(), {DIGEST: small_reference(DIGEST), other: newer}, stand)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for history, answering, indices in ((["new", "20"], DIGEST, [2]), (["10", "20"], other, [2])):
            stand.digest = answering
            answer = await client.post(PATH, json={"history": history})
            assert (answer.status_code, answer.json()["model_digest"]) == (200, answering)
            assert stand.asked[-1][0, -2:].tolist() == [0, *indices]
        refused = await client.post(PATH, json={"history": ["nobody's"]})
    assert refused.status_code == 422
    assert DIGEST in refused.json()["error"]["rule"]
    assert other in refused.json()["error"]["rule"]


@pytest.mark.parametrize("declared", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_another_content_type_is_refused(http: httpx.AsyncClient, declared: str) -> None:
    answer = await http.post(PATH, content=b'{"history": []}', headers={"Content-Type": declared})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["remedy"]


async def test_a_charset_is_welcome_and_a_compressed_body_is_not(http: httpx.AsyncClient) -> None:
    charset = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await http.post(PATH, content=b'{"history": []}', headers=charset)).status_code == 200
    packed = {**JSON, "Content-Encoding": "gzip"}
    assert (await http.post(PATH, content=b"\x1f\x8b", headers=packed)).status_code == 415


async def test_64_kib_fit_and_one_byte_more_does_not(http: httpx.AsyncClient) -> None:
    def padded(size: int) -> bytes:
        return b'{"history": []}' + b" " * (size - len(b'{"history": []}'))

    assert (await http.post(PATH, content=padded(65536), headers=JSON)).status_code == 200
    assert (await http.post(PATH, content=padded(65537), headers=JSON)).status_code == 413


async def test_a_body_that_is_too_large_in_chunks_without_a_length_is_refused(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    answer = await http.post(PATH, content=chunks(), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["error"]["rule"] == "at most 65536 bytes"


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (UnreachableError("away"), 503),
        (BusyError("full"), 429),
        (ModelFailureError("INTERNAL"), 503),
        (WrongAnswerError("version 7"), 503),
        (InferenceTimeoutError("slow"), 504),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, InferenceError) else str(value),
)
async def test_what_triton_fails_at_is_told(
    http: httpx.AsyncClient, stand: Stand, failure: InferenceError, status: int
) -> None:
    stand.failure = failure
    answer = await http.post(PATH, json={"history": []})
    assert answer.status_code == status
    assert ("Retry-After" in answer.headers) == (status in {429, 503})
    assert "X-Tandem-Digest" not in answer.headers
    assert set(answer.json()["error"]) == {"value", "rule", "remedy"}


async def test_an_answer_of_another_version_turns_health_red_until_the_golden_answer_is_right_again(
    http: httpx.AsyncClient, app: FastAPI, stand: Stand
) -> None:
    gateway: Gateway = app.state.gateway
    await gateway.health.check()
    assert (await http.get("/healthz")).status_code == 200
    stand.failure = WrongAnswerError("version 7 answered")
    await http.post(PATH, json={"history": []})
    red = await http.get("/healthz")
    assert (red.status_code, red.json()["reason"]) == (503, "wrong")
    stand.failure = None
    await gateway.health.check()
    assert (await http.get("/healthz")).status_code == 200
    # Over again, but not forgotten: a scraper may have looked only before and after.
    assert 'tandem_wrong_answers_total{site="private"} 1.0' in (await http.get("/metrics")).text


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
async def test_scores_that_are_not_finite_are_never_served(http: httpx.AsyncClient, stand: Stand, score: float) -> None:
    def spoil(answer: Answer) -> Answer:
        answer.scores[0, 2] = score
        return answer

    stand.change = spoil
    assert (await http.post(PATH, json={"history": []})).status_code == 503


async def test_an_item_outside_the_catalogue_is_never_served(http: httpx.AsyncClient, stand: Stand) -> None:
    def spoil(answer: Answer) -> Answer:
        answer.items[0, 2] = ITEMS + 1
        return answer

    stand.change = spoil
    assert (await http.post(PATH, json={"history": []})).status_code == 503


async def test_masked_items_end_an_answer_early(http: httpx.AsyncClient, stand: Stand) -> None:
    def mask(answer: Answer) -> Answer:
        answer.scores[0, 4:] = -np.inf
        return answer

    stand.change = mask
    assert len(ids(await http.post(PATH, json={"history": []}))) == 4


async def test_unknown_paths_and_methods_have_the_same_error_form(http: httpx.AsyncClient) -> None:
    missing = await http.get("/nothing")
    assert (missing.status_code, missing.json()["error"]["value"]) == (404, "GET /nothing")
    method = await http.get(PATH)
    assert (method.status_code, method.headers["Allow"]) == (405, "POST")


async def test_a_fault_of_the_gateway_itself_is_a_500_without_a_traceback(
    http: httpx.AsyncClient, stand: Stand
) -> None:
    def fault(_: Answer) -> Answer:
        raise RuntimeError("secret detail")

    stand.change = fault
    answer = await http.post(PATH, json={"history": []})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert (await http.get("/metrics")).text.count('code="500"') >= 1


async def test_metrics_count_by_site_surface_and_code(http: httpx.AsyncClient, app: FastAPI) -> None:
    await app.state.gateway.health.check()
    await http.post(PATH, json={"history": [], "surface": "search"})
    await http.post(PATH, content=b"{", headers=JSON)
    text = (await http.get("/metrics")).text
    assert 'tandem_requests_total{code="200",site="private",surface="search"} 1.0' in text
    assert 'tandem_requests_total{code="400",site="private",surface="none"} 1.0' in text
    assert 'tandem_golden_result{result="healthy",site="private"} 1.0' in text
    assert f'digest="{DIGEST}"' in text
    assert "tandem_request_duration_seconds_bucket" in text
    assert 'tandem_in_flight{site="private"} 0.0' in text
    assert f'tandem_concurrency_limit{{site="private"}} {app.state.gateway.admission.limit:.1f}' in text


async def test_liveness_does_not_rest_on_health(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).status_code == 503
    assert (await http.get("/livez")).status_code == 200


async def test_a_draining_gateway_answers_and_asks_clients_to_go(http: httpx.AsyncClient, app: FastAPI) -> None:
    await app.state.gateway.health.check()
    app.state.gateway.drain()
    red = await http.get("/healthz")
    assert (red.status_code, red.json()["reason"]) == (503, "draining")
    answer = await http.post(PATH, json={"history": []})
    assert (answer.status_code, answer.headers["Connection"]) == (200, "close")


async def test_openapi_tells_the_request_its_examples_and_every_refusal(http: httpx.AsyncClient) -> None:
    document: dict[str, Any] = (await http.get("/openapi.json")).json()
    assert set(document["paths"]) == {PATH, "/healthz", "/readyz", "/livez", "/metrics"}
    operation = document["paths"][PATH]["post"]
    body = operation["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {"history", "k", "surface"}
    assert body["schema"]["properties"]["surface"]["enum"] == ["search", "feed", "advertisement", "questions"]
    assert set(operation["responses"]) == {"200", "400", "408", "413", "415", "422", "429", "503", "504"}
    for example in body["examples"].values():
        known = {**example["value"], "history": ["10" for _ in example["value"]["history"]]}
        assert (await http.post(PATH, json=known)).status_code == 200


def test_the_small_model_s_answers_depend_on_the_history() -> None:
    zeros, some = np.zeros((1, 50), dtype=np.int64), np.ones((1, 50), dtype=np.int64)
    assert np.allclose(answer_of(some)[1] - answer_of(zeros)[1], 50 * STEP, atol=1e-5)
