"""One question to Triton: asked within a deadline, answered by a version whose digest is accepted, or a named failure.

Errors of this module:

    InferenceError
    ├── InferenceTimeoutError   no answer within the deadline
    ├── BusyError               too much in flight at Triton; asking again would only add load
    ├── UnreachableError        no server, or one that is shutting down
    ├── ModelFailureError       the server stands, but the model failed on this question
    └── WrongAnswerError        an answer that must not be served: of a version not accepted, or of a wrong shape
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import InferInput, InferRequestedOutput  # type: ignore[import-untyped]  # ships no types
from tritonclient.grpc.aio import InferenceServerClient  # type: ignore[import-untyped]  # ships no types
from tritonclient.utils import InferenceServerException  # type: ignore[import-untyped]  # ships no types

from serving import ServingError
from serving.manifest import version_number

HISTORY_LENGTH: Final = 50
ANSWER_LENGTH: Final = 50

RETRY_SECONDS: Final = 0.6
"""So long another server is looked for: enough to pass from one that leaves to one that came, too short to pile up."""
RETRY_PAUSE_SECONDS: Final = 0.05
RETRY_GROWTH: Final = 1.5
CHANNEL_REST_SECONDS: Final = 0.1
"""A channel younger than this is not replaced: it has not had its chance yet."""
SEEK_CONNECTIONS: Final = 4
"""A timeout may mean that the server at the other end lost its power: so many new connections look for another one.

The Service leads each of them to any of its servers, those that are dead and not known to be so among them."""
SEEK_SECONDS: Final = 0.5
SEEK_PAUSE_SECONDS: Final = 1.0
"""From one search to the next: a server that is only slow is not crowded with connections."""
CHANNEL_OPTIONS: Final = [
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, which may reach another pod
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),  # the default of two minutes would outlast every outage
]
BUSY_MESSAGES: Final = ("Exceeds maximum queue size", "Request timeout expired")

Histories = npt.NDArray[np.int64]
"""Item indices 1..N, [n, 50], padded with 0 on the left."""
Encode = Callable[[str], Histories]
"""The question in the item indices of the version with this digest."""


class InferenceError(ServingError):
    """Triton gave no answer that could be served."""


class InferenceTimeoutError(InferenceError):
    """No answer within the deadline."""


class BusyError(InferenceError):
    """Too much in flight at Triton."""


class UnreachableError(InferenceError):
    """No server, or one that is shutting down."""


class ModelFailureError(InferenceError):
    """The server stands, but the model failed on this question."""


class WrongAnswerError(InferenceError):
    """An answer that must not be served."""


class Lane(IntEnum):
    """Who asks. The golden lane is outside the limit on users, so that no crowd of users can keep it waiting.

    The value travels as Triton's priority, lower first, for models whose configuration has priority levels.
    """

    GOLDEN = 1
    USERS = 2


@dataclass(frozen=True, eq=False)
class Answer:
    """Ranked items of one version: `items` [n, 50] indices 1..N, `scores` [n, 50], best first."""

    digest: str
    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


class Inference(Protocol):
    """Whoever answers: Triton, or a stand-in."""

    async def ask(self, encode: Encode, *, deadline_seconds: float, lane: Lane) -> Answer:
        """The answer, from an accepted version. Raises InferenceError."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class TritonInference:
    """One shared gRPC channel to the site's Triton, replaced when the server behind it goes away."""

    def __init__(self, url: str, model: str, accepted_digests: Iterable[str]) -> None:
        self._url = url
        self._model = model
        self._digests = {str(version_number(digest)): digest for digest in accepted_digests}
        self._digest = next(iter(self._digests.values()))
        self._outputs = [InferRequestedOutput("items"), InferRequestedOutput("scores")]
        self._channel: Any = None
        self._channel_since = 0.0
        self._sought = 0.0
        self._background: set[asyncio.Task[None]] = set()

    async def ask(self, encode: Encode, *, deadline_seconds: float, lane: Lane) -> Answer:
        """The answer of an accepted version to the question in its own words, whichever version answers."""
        end = asyncio.get_running_loop().time() + deadline_seconds
        asked = self._digest
        histories = encode(asked)
        tried = True
        while True:
            answer = await self._infer(histories, end, lane)
            self._digest = answer.digest
            if answer.digest == asked or np.array_equal(histories, again := encode(answer.digest)):
                return answer
            # Two versions that take turns never meet the words put after the last answer: after the first change, words
            # are tried twice. Each round is a full answer, and the deadline ends them.
            if tried:
                asked, histories = answer.digest, again
            tried = not tried

    async def close(self) -> None:
        """Close every channel at once."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    async def _infer(self, histories: Histories, end: float, lane: Lane) -> Answer:
        """One question, put again on new connections for a moment while those at hand reach no serving model."""
        question = InferInput("history", list(histories.shape), "INT64").set_data_from_numpy(histories)
        loop = asyncio.get_running_loop()
        last_try = loop.time() + RETRY_SECONDS
        pause = RETRY_PAUSE_SECONDS
        while True:
            remaining = end - loop.time()
            if remaining <= 0:
                raise InferenceTimeoutError("no time left to ask Triton within the deadline")
            channel = self._open()
            try:
                result = await channel.infer(
                    self._model,
                    [question],
                    outputs=self._outputs,
                    priority=int(lane),
                    timeout=int(remaining * 1e6),
                    client_timeout=remaining,
                )
            except InferenceServerException as error:
                failure = _failure(error)
                self._note(failure, channel)
                if not isinstance(failure, UnreachableError) or loop.time() + pause > min(end, last_try):
                    raise failure from error
                await asyncio.sleep(pause)
                pause *= RETRY_GROWTH
            else:
                return self._read(result, len(histories))

    def _read(self, result: Any, rows: int) -> Answer:
        version = result.get_response().model_version
        digest = self._digests.get(version)
        if digest is None:
            raise WrongAnswerError(
                f"version {version} answered, accepted are {sorted(self._digests)}; check what Triton serves here"
            )
        try:
            items, scores = result.as_numpy("items"), result.as_numpy("scores")
        except ValueError as error:
            raise WrongAnswerError(f"an answer that is no tensor: {error}; check the model's backend") from error
        expected = (rows, ANSWER_LENGTH)
        if items is None or scores is None or items.shape != expected or scores.shape != expected:
            raise WrongAnswerError(f"an answer of another shape than {expected}; check the model's outputs")
        return Answer(digest, items, scores)

    def _open(self) -> Any:
        if self._channel is None:
            self._use(self._connection())
        return self._channel

    def _connection(self) -> Any:
        return InferenceServerClient(self._url, channel_args=CHANNEL_OPTIONS)

    def _use(self, channel: Any) -> None:
        self._channel = channel
        self._channel_since = asyncio.get_running_loop().time()

    def _note(self, failure: InferenceError, channel: Any) -> None:
        """Give up the channel when nobody useful is at its other end; look for another when it is silent."""
        now = asyncio.get_running_loop().time()
        if channel is not self._channel or now - self._channel_since < CHANNEL_REST_SECONDS:
            return
        if isinstance(failure, UnreachableError):
            self._channel = None
            self._later(_close_later(channel))
        elif isinstance(failure, InferenceTimeoutError) and now - self._sought >= SEEK_PAUSE_SECONDS:
            self._sought = now
            self._later(self._seek(channel))

    async def _seek(self, silent: Any) -> None:
        """Put a connection whose server has the model in the place of the silent one; without any that one stays."""
        connections = [self._connection() for _ in range(SEEK_CONNECTIONS)]
        asked = {asyncio.ensure_future(self._has_model(each)): each for each in connections}
        found = None
        try:
            for answer in asyncio.as_completed(asked):
                if await answer:
                    found = next(each for task, each in asked.items() if task.done() and task.result())
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            if found is not None and self._channel is silent:
                connections.remove(found)
                self._use(found)
                self._later(_close_later(silent))
            for each in connections:
                await each.close()

    async def _has_model(self, connection: Any) -> bool:
        try:
            return bool(await connection.is_model_ready(self._model, client_timeout=SEEK_SECONDS))
        except InferenceServerException:
            return False

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _close_later(channel: Any) -> None:
    """Close a channel once calls still open on it have had their time."""
    try:
        await asyncio.sleep(10)
    finally:
        await channel.close()


def _failure(error: Any) -> InferenceError:
    """The failure in our words; Triton says UNAVAILABLE both when it is busy and when it is away."""
    status = str(error.status()).removeprefix("StatusCode.")
    message = str(error.message())
    said = f"Triton said {status}: {message[:200]}"
    if status == "DEADLINE_EXCEEDED":
        return InferenceTimeoutError("no answer from Triton within the deadline")
    if status == "RESOURCE_EXHAUSTED" or any(busy in message for busy in BUSY_MESSAGES):
        return BusyError(said)
    if status in {"UNAVAILABLE", "NOT_FOUND", "CANCELLED"}:
        return UnreachableError(said)
    return ModelFailureError(said)
