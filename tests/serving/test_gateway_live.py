"""Gateway processes in front of the real tritonserver, over real connections."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gateway_stage as stage
import httpx
import numpy as np
import psutil
import pytest

from serving.inference import (
    HISTORY_LENGTH,
    Histories,
    InferenceError,
    InferenceTimeoutError,
    Lane,
    TritonInference,
    WrongAnswerError,
)
from serving.manifest import version_number

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

TRITON, GATEWAY, SPOILT_GATEWAY, STRICT_GATEWAY = "127.83.2.1", "127.83.2.2", "127.83.2.3", "127.83.2.4"
PATH = "/v1/recommendations"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def digests(home: Path) -> dict[str, str]:
    """A right package, and one whose golden answer is not what its model answers, in one repository."""
    found = {}
    for name, golden_seed in (("recommender", None), ("spoilt", 2)):
        found[name] = stage.build_package(home / name / "package", golden_seed=golden_seed)
        stage.lay_out(home / name / "package", home / name / "models", found[name], name)
    spoilt = home / "spoilt" / "models" / "repository" / "spoilt"
    spoilt.rename(home / "recommender" / "models" / "repository" / "spoilt")
    return found


@pytest.fixture(scope="module")
def server(home: Path, digests: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with stage.triton(home / "recommender" / "models" / "repository", TRITON, home) as process:
        stage.until(lambda: _ready("recommender") and _ready("spoilt"), 40)
        yield process


@pytest.fixture
def variables(home: Path, digests: dict[str, str]) -> dict[str, str]:
    return stage.environment(home / "recommender" / "models", digests["recommender"], GATEWAY, f"{TRITON}:8001")


def _ready(model: str) -> bool:
    answer = stage.get(f"http://{TRITON}:8000/v2/models/{model}/ready")
    return answer is not None and answer.status_code == 200


def _ask(address: str = GATEWAY, **body: Any) -> httpx.Response:
    return httpx.post(f"http://{address}:8080{PATH}", json={"history": ["70", "500", "990"], **body}, timeout=30)


def test_the_version_of_an_answer_is_the_sixty_bit_number_of_the_digest_and_batches_keep_their_rows(
    server: subprocess.Popen[bytes], digests: dict[str, str]
) -> None:
    digest = digests["recommender"]
    histories = [np.zeros((1 + n % 3, HISTORY_LENGTH), dtype=np.int64) for n in range(60)]
    for n, history in enumerate(histories):
        history[:, -1] = np.arange(len(history)) + n

    async def ask_all() -> list[Any]:
        inference = TritonInference(f"{TRITON}:8001", "recommender", [digest])
        try:
            asked = (
                inference.ask(partial(_same, history), deadline_seconds=5, lane=Lane.USERS) for history in histories
            )
            return await asyncio.gather(*asked)
        finally:
            await inference.close()

    for history, answer in zip(histories, asyncio.run(ask_all()), strict=True):
        items, scores = stage.answer_of(history)
        assert answer.digest == digest
        assert (answer.items == items).all()
        assert np.allclose(answer.scores, scores, atol=1e-5)
    assert _versions() == [str(version_number(digest))]


def _same(history: Histories, _: str) -> Histories:
    return history


def _versions() -> list[str]:
    document: dict[str, list[str]] = httpx.get(f"http://{TRITON}:8000/v2/models/recommender", timeout=30).json()
    return document["versions"]


def test_bursts_do_not_make_the_batcher_miss_a_wake_up(
    server: subprocess.Popen[bytes], digests: dict[str, str]
) -> None:
    async def seconds_of_answers() -> list[float]:
        inference = TritonInference(f"{TRITON}:8001", "recommender", [digests["recommender"]])
        zeros = np.zeros((1, HISTORY_LENGTH), dtype=np.int64)
        taken: list[float] = []

        async def ask(lane: Lane) -> None:
            start = time.monotonic()
            await inference.ask(partial(_same, zeros), deadline_seconds=5, lane=lane)
            taken.append(time.monotonic() - start)

        try:
            for _ in range(15):
                await asyncio.gather(*(ask(Lane.USERS) for _ in range(60)), ask(Lane.GOLDEN))
                for _ in range(20):
                    await ask(Lane.USERS)
        finally:
            await inference.close()
        return taken

    taken = asyncio.run(seconds_of_answers())
    slow = [seconds for seconds in taken if seconds > 0.45]
    assert len(slow) < 0.02 * len(taken), "Triton's batcher sleeps half a second when it is not woken"


def test_a_question_given_up_before_its_turn_is_not_computed(
    server: subprocess.Popen[bytes], digests: dict[str, str]
) -> None:
    stubs = psutil.Process(server.pid).children(recursive=True)

    async def give_up() -> None:
        inference = TritonInference(f"{TRITON}:8001", "recommender", [digests["recommender"]])
        zeros = np.zeros((1, HISTORY_LENGTH), dtype=np.int64)
        asked = (inference.ask(partial(_same, zeros), deadline_seconds=0.5, lane=Lane.USERS) for _ in range(400))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {InferenceTimeoutError}
        await inference.close()

    def computed() -> int:
        before = _computed()
        # For no longer than the questions last: Triton takes a stub that is silent for a second for a dead one.
        for stub in stubs:
            stub.suspend()
        try:
            asyncio.run(give_up())
        finally:
            for stub in stubs:
                stub.resume()
        stage.until(lambda: _pending() == 0, 30)
        return _computed() - before

    # At most the batches that were formed by then; a busy Triton may hear too late that the others were given up.
    stage.until(lambda: computed() <= 200, 30)


def _computed() -> int:
    document = httpx.get(f"http://{TRITON}:8000/v2/models/recommender/stats", timeout=30).json()
    return int(document["model_stats"][0]["inference_count"])


def _pending() -> int:
    lines = httpx.get(f"http://{TRITON}:8002/metrics", timeout=30).text.splitlines()
    gauge = 'nv_inference_pending_request_count{model="recommender"'
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(gauge))


def test_an_answer_of_a_version_that_is_not_accepted_is_refused(
    server: subprocess.Popen[bytes], digests: dict[str, str]
) -> None:
    async def ask() -> None:
        inference = TritonInference(f"{TRITON}:8001", "recommender", ["sha256:" + "ab" * 32])
        try:
            zeros = np.zeros((1, HISTORY_LENGTH), dtype=np.int64)
            await inference.ask(lambda _: zeros, deadline_seconds=5, lane=Lane.USERS)
        finally:
            await inference.close()

    with pytest.raises(WrongAnswerError, match=str(version_number(digests["recommender"]))):
        asyncio.run(ask())


def test_a_gateway_turns_healthy_answers_and_refuses_over_real_connections(
    server: subprocess.Popen[bytes], variables: dict[str, str], home: Path, digests: dict[str, str]
) -> None:
    with stage.gateway(variables, home):
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        seen = stage.get(f"http://{GATEWAY}:8080/healthz")
        assert seen is not None
        assert stage.TOKEN in seen.text[:512]
        assert seen.json()["digest"] == digests["recommender"]
        answer = _ask(k=5)
        items, _ = stage.answer_of(stage.golden_history())
        assert [item["id"] for item in answer.json()["items"]] == [str(10 * n) for n in items[0, :5].tolist()]
        assert answer.headers["X-Tandem-Digest"] == digests["recommender"]

        huge = b'{"history": [' + b'"10",' * 400_000 + b'"10"]}'
        url = f"http://{GATEWAY}:8080{PATH}"
        json_type = {"Content-Type": "application/json"}
        assert httpx.post(url, content=huge, headers=json_type, timeout=30).status_code == 413
        parts = iter([huge[:100_000], huge[100_000:]])
        assert httpx.post(url, content=parts, headers=json_type, timeout=30).status_code == 413
        assert httpx.post(url, content=b"{", headers=json_type, timeout=30).status_code == 400
        assert httpx.post(url, content=b"{}", timeout=30).status_code == 415
        assert _body_that_never_ends() == 408
        assert stage.health(GATEWAY)["code"] == 200
        assert " 200 " not in (home / "gateway.log").read_text(), "access logs are off"


def _body_that_never_ends() -> int:
    connection = http.client.HTTPConnection(GATEWAY, 8080, timeout=30)
    connection.putrequest("POST", PATH)
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_golden_answer_that_is_not_the_model_s_keeps_health_red_without_token(
    server: subprocess.Popen[bytes], home: Path, digests: dict[str, str]
) -> None:
    models = home / "spoilt" / "models"
    variables = stage.environment(models, digests["spoilt"], SPOILT_GATEWAY, f"{TRITON}:8001")
    with stage.gateway({**variables, "MODEL_NAME": "spoilt"}, home):
        stage.until(lambda: stage.health(SPOILT_GATEWAY).get("reason") == "wrong")
        seen = stage.get(f"http://{SPOILT_GATEWAY}:8080/healthz")
        assert seen is not None
        assert seen.status_code == 503
        assert stage.TOKEN not in seen.text
        assert "golden answer" in seen.json()["detail"]
        live = stage.get(f"http://{SPOILT_GATEWAY}:8080/livez")
        assert live is not None
        assert live.status_code == 200


def test_a_server_of_another_version_is_never_served_and_turns_health_red(
    server: subprocess.Popen[bytes], home: Path, digests: dict[str, str]
) -> None:
    models = home / "spoilt" / "models"
    variables = stage.environment(models, digests["spoilt"], STRICT_GATEWAY, f"{TRITON}:8001")
    with stage.gateway(variables, home):
        stage.until(lambda: stage.health(STRICT_GATEWAY).get("reason") == "wrong")
        assert _ask(STRICT_GATEWAY).status_code == 503
        assert str(version_number(digests["recommender"])) in stage.health(STRICT_GATEWAY)["detail"]


def test_a_gateway_without_its_reference_says_so_and_ends(variables: dict[str, str], home: Path) -> None:
    with stage.gateway({**variables, "ACCEPTED_DIGESTS": "sha256:" + "ab" * 32}, home) as process:
        assert process.wait(30) == 2
    assert "not the accepted sha256:abab" in (home / "gateway.log").read_text()


def test_sigterm_drains_health_turns_red_and_late_requests_are_still_answered(
    server: subprocess.Popen[bytes], variables: dict[str, str], home: Path
) -> None:
    with stage.gateway(variables, home) as process:
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        process.send_signal(signal.SIGTERM)
        stage.until(lambda: stage.health(GATEWAY).get("reason") == "draining", 1)
        late = _ask()
        assert (late.status_code, late.headers["Connection"]) == (200, "close")
        assert process.wait(30) == 0
    with pytest.raises(httpx.ConnectError):
        _ask()


def test_a_request_in_flight_when_the_gateway_stops_listening_is_answered(
    server: subprocess.Popen[bytes], variables: dict[str, str], home: Path
) -> None:
    answers: list[int] = []
    longer = {**variables, "DRAIN_SECONDS": "0.1", "REQUEST_TIMEOUT_SECONDS": "5"}
    with stage.gateway(longer, home) as process:
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        os.killpg(server.pid, signal.SIGSTOP)
        try:
            user = threading.Thread(target=lambda: answers.append(_ask().status_code))
            user.start()
            time.sleep(0.2)  # until the request has reached Triton; nothing tells from outside
            process.send_signal(signal.SIGTERM)
            stage.until(lambda: stage.get(f"http://{GATEWAY}:8080/livez") is None, 30)
            assert answers == []
        finally:
            os.killpg(server.pid, signal.SIGCONT)
        user.join(30)
        assert answers == [200]
        assert process.wait(30) == 0


def test_triton_killed_is_unreachable_requests_get_503_and_its_return_is_seen_soon(
    home: Path, digests: dict[str, str], server: subprocess.Popen[bytes]
) -> None:
    address, own_gateway = "127.83.2.5", "127.83.2.6"
    models = home / "recommender" / "models"
    variables = stage.environment(models, digests["recommender"], own_gateway, f"{address}:8001")
    repository = home / "alone"
    repository.mkdir()
    (repository / "recommender").symlink_to(models / "repository" / "recommender")
    with stage.gateway(variables, home):
        with stage.triton(repository, address, home) as process:
            stage.until(lambda: stage.health(own_gateway).get("code") == 200, 30)
            assert _ask(own_gateway).status_code == 200
            os.kill(process.pid, signal.SIGKILL)
            stage.until(lambda: stage.health(own_gateway).get("reason") == "unreachable", 30)
            refused = _ask(own_gateway)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        with stage.triton(repository, address, home):
            stage.until(lambda: stage.get(f"http://{address}:8000/v2/models/recommender/ready") is not None, 30)
            start = time.monotonic()
            stage.until(lambda: _ask(own_gateway).status_code == 200, 30)
            stage.until(lambda: stage.health(own_gateway).get("code") == 200, 30)
            assert time.monotonic() - start < 8


def test_a_frozen_triton_gives_504_and_health_turns_stale_then_recovers(
    home: Path, digests: dict[str, str], variables: dict[str, str], server: subprocess.Popen[bytes]
) -> None:
    with stage.gateway({**variables, "REQUEST_TIMEOUT_SECONDS": "0.3"}, home):
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        os.killpg(server.pid, signal.SIGSTOP)
        try:
            assert _ask().status_code == 504
            assert stage.health(GATEWAY)["code"] == 200, "busy or frozen, it was right a moment ago"
            stage.until(lambda: stage.health(GATEWAY).get("reason") == "stale", 30)
        finally:
            os.killpg(server.pid, signal.SIGCONT)
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        assert _ask().status_code == 200


def test_the_gateway_imports_neither_torch_nor_pandas() -> None:
    script = "import serving.gateway, sys, json; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, cwd=stage.ROOT, capture_output=True, check=True, timeout=30).stdout
    assert not {"torch", "pandas", "onnxruntime", "boto3"} & set(json.loads(output))


def test_an_inference_that_cannot_connect_fails_fast() -> None:
    async def ask() -> float:
        inference = TritonInference("127.83.2.99:8001", "recommender", ["sha256:" + "ab" * 32])
        start = time.monotonic()
        try:
            zeros = np.zeros((1, HISTORY_LENGTH), dtype=np.int64)
            with pytest.raises(InferenceError):
                await inference.ask(lambda _: zeros, deadline_seconds=5, lane=Lane.USERS)
        finally:
            await inference.close()
        return time.monotonic() - start

    assert asyncio.run(ask()) < 1
