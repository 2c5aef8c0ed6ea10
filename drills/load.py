"""A load in a process of its own: what a drill asks the Kubernetes APIs meanwhile cannot delay its users.

The child judges the answers and hands samples on in batches, several times a second. It ends by itself when its
standard input closes, which is when this process ends, however it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import IO, Any, Final, Protocol

from drills.drill import NotRun
from drills.generator import LAG_SHARE, LoadSettings, check_sources, generate
from drills.sample import Lag, LoadResult, Outcome, Sample, Tally, append_jsonl

__all__ = [
    "LAG_LIMIT_MS",
    "LATE",
    "Lag",
    "LoadResult",
    "LoadSettings",
    "Outcome",
    "Sample",
    "Tally",
    "append_jsonl",
    "generate",
    "refusal",
    "run",
]

LAG_LIMIT_MS: Final = 1000
"""The second of grace in the bound of a recovery is the generator's: later still, it could have missed a failure."""
LATE: Final = "the load generator was late"
LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024
SILENCE_SECONDS: Final = 30.0
"""The child says something several times a second."""
END_SECONDS: Final = 10.0
"""What a child may take, after the last request's timeout, to end."""


class Paced(Protocol):
    """Anything that says how often users ask."""

    @property
    def users(self) -> int: ...

    @property
    def rate_per_second(self) -> float: ...


def refusal(lag: Lag, settings: Paced) -> str | None:
    """Why a load with this lag is no evidence; None when it is."""
    budget_ms = 1000 * LAG_SHARE * settings.users / settings.rate_per_second
    if lag.p99_ms > budget_ms:
        late = f"one request in a hundred started {lag.p99_ms:.1f} ms late or more"
        rule = f"above {budget_ms:.1f} ms, {LAG_SHARE:.0%} of a user's interval"
    elif lag.max_ms > LAG_LIMIT_MS:
        late = f"a request started {lag.max_ms:.0f} ms late"
        rule = f"above the {LAG_LIMIT_MS} ms of grace"
    else:
        return None
    return f"{LATE}: {late}, {rule}"


async def run(
    settings: LoadSettings,
    until: asyncio.Event | float,
    *,
    on_sample: Callable[[Sample], None] | None = None,
    tally: Tally | None = None,
) -> LoadResult:
    """Load until the event is set, or for so many seconds; then wait for what is in flight, one timeout at most.

    Raises NotRun when the child cannot start, dies or falls silent. Cancelled, it leaves no child behind.
    """
    check_sources(settings)
    tally = Tally() if tally is None else tally
    seconds = None if isinstance(until, asyncio.Event) else until
    order = pickle.dumps((settings, seconds))
    with tempfile.TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "drills.load_process"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=errors,
            limit=LINE_LIMIT_BYTES,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # a terminal's Ctrl-C is the drill's: it stops its users when all is put back
        )
        stopping = asyncio.create_task(_stop_with(process, until)) if isinstance(until, asyncio.Event) else None
        try:
            samples = await _listen(process, order, settings, until, on_sample, tally, errors)
        finally:
            if stopping is not None:
                stopping.cancel()
            if process.returncode is None:
                process.kill()
            await process.communicate()
    return LoadResult(samples, Lag.of(samples, settings.lag_budget_ms))


async def _listen(
    process: Process,
    order: bytes,
    settings: LoadSettings,
    until: asyncio.Event | float,
    on_sample: Callable[[Sample], None] | None,
    tally: Tally,
    errors: IO[bytes],
) -> list[Sample]:
    """Every sample of the child, to its last word."""
    samples: list[Sample] = []
    assert process.stdin is not None  # noqa: S101  both are pipes
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(len(order).to_bytes(8, "big") + order)
    deadline = None
    while True:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                line = await process.stdout.readline()
        except TimeoutError as error:
            raise NotRun(f"the load generator said nothing for {SILENCE_SECONDS:g} s; nothing was measured") from error
        if not line:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(END_SECONDS):
                    await process.wait()  # its last words come after its last sample
            raise NotRun(f"the load generator died: {_last_words(errors)}")
        message: dict[str, Any] = json.loads(line)
        for fields in message["samples"]:
            sample = Sample(**{**fields, "outcome": Outcome(fields["outcome"])})
            samples.append(sample)
            tally.add(sample)
            if on_sample is not None:
                on_sample(sample)
        tally.in_flight = message["in_flight"]
        if message["ended"]:
            return samples
        if deadline is None and (not isinstance(until, asyncio.Event) or until.is_set()):
            ahead = 0.0 if isinstance(until, asyncio.Event) else until
            deadline = time.monotonic() + ahead + settings.request_timeout_seconds + END_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            raise NotRun(f"the load generator did not end within {END_SECONDS:g} s of its last request's timeout")


async def _stop_with(process: Process, event: asyncio.Event) -> None:
    """Tell the child the moment the load ended; both read the machine's one monotonic clock."""
    await event.wait()
    if process.stdin is not None:
        process.stdin.write(f"{time.monotonic()!r}\n".encode())


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read()[-2000:].decode("utf-8", "replace").strip() or "without a word"
