"""The way to Triton, against a gRPC server that behaves as Triton was seen to behave."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from gateway_stage import until_async
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
    turns: list[str] = field(default_factory=list)
    """Digests that answer one after the other, again and again; empty: `version` answers."""
    answered: list[str] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    async def ModelReady(self, _request: Any, _context: Any) -> Any:  # noqa: N802  the protocol's name
        return service_pb2.ModelReadyResponse(ready=True)

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
        version = self.version
        if self.turns:
            version = str(version_number(self.turns[len(self.answered) % len(self.turns)]))
        self.answered.append(version)
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version=version)
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


async def test_a_server_that_stays_away_is_given_up_soon(inference: TritonInference, triton: Triton) -> None:
    triton.failure = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="Socket closed"):
        await ask(inference, 20.0)
    assert time.monotonic() - start < 10, "of the 20 s it had"
    assert 2 <= len(triton.requests) <= 6


@pytest.mark.parametrize(
    "said",
    [
        (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'recommender' has no available versions"),
        (grpc.StatusCode.UNAVAILABLE, "Server is stopping"),
        (grpc.StatusCode.CANCELLED, "CANCELLED"),
    ],
    ids=["not_found", "unavailable", "cancelled"],
)
async def test_a_server_that_comes_within_half_a_second_is_waited_for(
    inference: TritonInference, triton: Triton, said: tuple[grpc.StatusCode, str]
) -> None:
    triton.failure = said
    question = asyncio.create_task(ask(inference, 5.0))
    await until_async(lambda: len(triton.requests) >= 2)  # a server's absence
    triton.failure = None
    assert await question == OLD


async def test_a_model_that_fails_is_told_apart(inference: TritonInference, triton: Triton) -> None:
    triton.failure = (grpc.StatusCode.INTERNAL, "Stub process is not healthy")
    with pytest.raises(ModelFailureError, match="Stub process"):
        await ask(inference)


async def test_no_question_outlives_its_deadline(inference: TritonInference, triton: Triton) -> None:
    triton.delay_seconds = 10
    start = time.monotonic()
    with pytest.raises(InferenceTimeoutError):
        await ask(inference, 0.3)
    assert time.monotonic() - start < 8


async def test_a_server_that_lost_its_power_is_left_after_one_timeout(triton: Triton, url: str) -> None:
    """Connections to it stand and stay silent; every second new one reaches it too."""
    async with half_dead(url) as front:
        inference = TritonInference(front.url, "recommender", [OLD])
        try:
            await ask(inference)
            front.fall_silent()
            await asyncio.sleep(0.15)  # a channel's rest
            with pytest.raises(InferenceTimeoutError):
                await ask(inference, 0.2)
            async with asyncio.timeout(30):
                while not await answers(inference):
                    pass
            assert front.silenced >= 1, "some of the new connections met the dead server as well"
        finally:
            await inference.close()
    assert len(set(triton.peers)) == 2


async def test_a_server_that_is_only_slow_keeps_its_connection_or_gets_one_new_one_a_second(
    inference: TritonInference, triton: Triton
) -> None:
    await ask(inference)
    await asyncio.sleep(0.15)
    triton.delay_seconds = 0.3
    for _ in range(5):
        with pytest.raises(InferenceTimeoutError):
            await ask(inference, 0.05)
    triton.delay_seconds = 0
    assert await ask(inference) == OLD
    assert len(set(triton.peers)) <= 2


async def answers(inference: TritonInference) -> bool:
    try:
        return await ask(inference, 0.2) == OLD
    except InferenceTimeoutError:
        return False


@dataclass
class HalfDead:
    """A Service of two servers; once silent, whatever is open and every second new connection reaches nobody."""

    server: str
    url: str = ""
    silent: bool = False
    silenced: int = 0
    opened: int = 0
    pipes: set[asyncio.Task[None]] = field(default_factory=set)
    kept: list[asyncio.StreamWriter] = field(default_factory=list)

    def fall_silent(self) -> None:
        self.silent = True
        for pipe in self.pipes:
            pipe.cancel()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        if self.silent and self.opened % 2:
            self.silenced += 1
            self.kept.append(writer)
            return
        host, _, port = self.server.rpartition(":")
        back_reader, back_writer = await asyncio.open_connection(host, int(port))
        self.kept += [writer, back_writer]
        for source, target in ((reader, back_writer), (back_reader, writer)):
            self.pipes.add(asyncio.create_task(pump(source, target)))


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()


@asynccontextmanager
async def half_dead(server: str) -> AsyncIterator[HalfDead]:
    front = HalfDead(server)
    listener = await asyncio.start_server(front.connected, "127.83.7.2", 0)
    front.url = f"127.83.7.2:{listener.sockets[0].getsockname()[1]}"
    try:
        yield front
    finally:
        listener.close()
        for pipe in front.pipes:
            pipe.cancel()
        await asyncio.gather(*front.pipes, return_exceptions=True)
        for writer in front.kept:
            writer.close()


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


def words(digest: str) -> Histories:
    """The question differs from version to version."""
    return np.full((1, 50), 1 if digest == OLD else 2, dtype=np.int64)


async def test_versions_that_take_turns_answer_every_question_in_their_own_words(
    inference: TritonInference, triton: Triton
) -> None:
    triton.turns = [NEW, OLD]
    for _ in range(20):
        answer = await inference.ask(words, deadline_seconds=2, lane=Lane.USERS)
        last = triton.requests[-1]
        assert np.frombuffer(last.raw_input_contents[0], np.int64)[0] == words(answer.digest)[0, 0]
        assert triton.answered[-1] == str(version_number(answer.digest))


async def test_questions_at_once_to_versions_at_random_are_all_answered(
    inference: TritonInference, triton: Triton
) -> None:
    chance = random.Random(7)  # noqa: S311  no secret, the order of answers
    triton.turns = [chance.choice([OLD, NEW]) for _ in range(997)]
    asked = (inference.ask(words, deadline_seconds=30, lane=Lane.USERS) for _ in range(200))
    answers = await asyncio.gather(*asked)
    assert {answer.digest for answer in answers} == {OLD, NEW}


async def test_words_that_are_the_same_for_both_versions_are_put_once(
    inference: TritonInference, triton: Triton
) -> None:
    triton.turns = [NEW, OLD]
    assert [await ask(inference) for _ in range(4)] == [NEW, OLD, NEW, OLD]
    assert len(triton.requests) == 4
