"""The way to Triton, against a gRPC server that behaves as Triton was seen to behave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2, service_pb2_grpc  # type: ignore[import-untyped]  # ships no types

from serving.inference import (
    BusyError,
    Histories,
    InferenceTimeoutError,
    Lane,
    ModelFailureError,
    TritonInference,
    UnreachableError,
    WrongAnswerError,
)
from serving.manifest import version_number

OLD, NEW = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32


@dataclass
class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # the generated base has no types
    """Answers with the version it is told; refuses connections it has seen before the shutdown began."""

    version: str = str(version_number(OLD))
    failure: tuple[grpc.StatusCode, str] | None = None
    leaving: set[str] = field(default_factory=set)
    delay_seconds: float = 0.0
    width: int = 50
    empty: bool = False
    peers: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802  the protocol's name
        peer, leaving = context.peer(), context.peer() in self.leaving
        self.peers.append(peer)
        self.requests.append(request)
        await asyncio.sleep(self.delay_seconds)
        if leaving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "Request for unknown model: no available versions")
        if self.failure is not None:
            await context.abort(*self.failure)
        rows = request.inputs[0].shape[0]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=self.version)
        for name, kind, dtype in (("items", "INT64", np.int64), ("scores", "FP32", np.float32)):
            answer.outputs.add(name=name, datatype=kind, shape=[rows, self.width])
            data = b"" if self.empty else np.ones((rows, self.width), dtype).tobytes()
            answer.raw_output_contents.append(data)
        return answer


@pytest.fixture
def triton() -> Triton:
    return Triton()


@pytest_asyncio.fixture
async def url(triton: Triton) -> AsyncIterator[str]:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
    port = server.add_insecure_port("127.83.7.1:0")
    await server.start()
    yield f"127.83.7.1:{port}"
    await server.stop(0)


@pytest_asyncio.fixture
async def inference(url: str) -> AsyncIterator[TritonInference]:
    client = TritonInference(url, "recommender", [OLD, NEW])
    yield client
    await client.close()


def zeros(_: str) -> Histories:
    return np.zeros((1, 50), dtype=np.int64)


async def ask(inference: TritonInference, deadline_seconds: float = 2.0) -> str:
    return (await inference.ask(zeros, deadline_seconds=deadline_seconds, lane=Lane.USERS)).digest


async def test_the_lane_and_what_is_left_of_the_deadline_travel_with_the_question(
    inference: TritonInference, triton: Triton
) -> None:
    await inference.ask(zeros, deadline_seconds=1.5, lane=Lane.GOLDEN)
    parameters = triton.requests[0].parameters
    assert parameters["priority"].uint64_param == 1
    assert 1_000_000 < parameters["timeout"].int64_param <= 1_500_000


async def test_all_questions_share_one_connection(inference: TritonInference, triton: Triton) -> None:
    await asyncio.gather(*(ask(inference) for _ in range(20)))
    assert len(set(triton.peers)) == 1


async def test_a_server_that_is_shutting_down_is_left_for_a_new_connection_within_the_same_question(
    inference: TritonInference, triton: Triton
) -> None:
    await ask(inference)
    triton.leaving = set(triton.peers)
    await asyncio.sleep(0.15)  # a channel's rest
    assert await ask(inference) == OLD
    assert len(set(triton.peers)) == 2
    assert triton.peers[-2] in triton.leaving


async def test_questions_open_on_the_connection_that_is_left_are_still_answered(
    inference: TritonInference, triton: Triton
) -> None:
    await ask(inference)
    await asyncio.sleep(0.15)
    triton.delay_seconds = 0.4
    open_questions = [asyncio.create_task(ask(inference)) for _ in range(3)]
    await asyncio.sleep(0.1)
    triton.leaving, triton.delay_seconds = set(triton.peers), 0.0
    assert await ask(inference) == OLD
    assert await asyncio.gather(*open_questions) == [OLD] * 3


@pytest.mark.parametrize("message", ["[request id: 1] Exceeds maximum queue size", "Request timeout expired"])
async def test_a_busy_server_is_not_asked_again(inference: TritonInference, triton: Triton, message: str) -> None:
    triton.failure = (grpc.StatusCode.UNAVAILABLE, message)
    with pytest.raises(BusyError):
        await ask(inference)
    assert len(triton.requests) == 1


async def test_users_beyond_the_budget_are_refused_at_once_and_the_golden_question_is_not(
    url: str, triton: Triton
) -> None:
    inference = TritonInference(url, "recommender", [OLD], users_in_flight=3)
    triton.delay_seconds = 0.3
    users = [asyncio.create_task(ask(inference)) for _ in range(3)]
    await asyncio.sleep(0.1)
    with pytest.raises(BusyError, match="at most 3"):
        await ask(inference)
    golden = await inference.ask(zeros, deadline_seconds=2, lane=Lane.GOLDEN)
    assert golden.digest == OLD
    assert await asyncio.gather(*users) == [OLD] * 3
    assert await ask(inference) == OLD
    assert len(triton.requests) == 5
    await inference.close()


async def test_a_server_that_stays_away_is_asked_twice_and_no_more(inference: TritonInference, triton: Triton) -> None:
    triton.failure = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
    with pytest.raises(UnreachableError, match="Socket closed"):
        await ask(inference)
    assert len(triton.requests) == 2


async def test_a_model_that_fails_is_told_apart(inference: TritonInference, triton: Triton) -> None:
    triton.failure = (grpc.StatusCode.INTERNAL, "Stub process is not healthy")
    with pytest.raises(ModelFailureError, match="Stub process"):
        await ask(inference)


async def test_no_question_outlives_its_deadline(inference: TritonInference, triton: Triton) -> None:
    triton.delay_seconds = 3
    start = time.monotonic()
    with pytest.raises(InferenceTimeoutError):
        await ask(inference, 0.3)
    assert time.monotonic() - start < 0.6


async def test_a_connection_that_stays_silent_is_replaced(inference: TritonInference, triton: Triton) -> None:
    await ask(inference)
    triton.delay_seconds = 0.5
    for _ in range(3):
        with pytest.raises(InferenceTimeoutError):
            await ask(inference, 0.1)
    triton.delay_seconds = 0
    await ask(inference)
    assert len(set(triton.peers)) == 2


async def test_a_version_that_is_not_accepted_is_a_wrong_answer(inference: TritonInference, triton: Triton) -> None:
    triton.version = "7"
    with pytest.raises(WrongAnswerError, match="version 7"):
        await ask(inference)


@pytest.mark.parametrize("change", [{"empty": True}, {"width": 49}], ids=["no_bytes", "another_shape"])
async def test_an_answer_that_is_no_ranking_is_a_wrong_answer(
    inference: TritonInference, triton: Triton, change: dict[str, Any]
) -> None:
    for name, value in change.items():
        setattr(triton, name, value)
    with pytest.raises(WrongAnswerError):
        await ask(inference)


async def test_a_question_is_put_again_in_the_words_of_the_version_that_answers(
    inference: TritonInference, triton: Triton
) -> None:
    def encode(digest: str) -> Histories:
        return np.full((1, 50), 1 if digest == OLD else 2, dtype=np.int64)

    triton.version = str(version_number(NEW))
    answer = await inference.ask(encode, deadline_seconds=2, lane=Lane.USERS)
    assert answer.digest == NEW
    asked = [np.frombuffer(request.raw_input_contents[0], np.int64)[0] for request in triton.requests]
    assert asked == [1, 2]
    await inference.ask(encode, deadline_seconds=2, lane=Lane.USERS)
    assert len(triton.requests) == 3, "from now on it is asked in these words at once"
