"""The process a load runs in: `python -m drills.load_process`, started by drills.load and by nobody else.

Standard input: the order's length in 8 bytes, the pickled order, later the moment to stop as one line. Standard output:
one JSON object a line, several times a second: samples, requests in flight, whether the load has ended.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Final

from drills.generator import Generator, LoadSettings
from drills.sample import Sample, Tally

BATCH_SECONDS: Final = 0.1
BATCH_SAMPLES: Final = 1000
"""Samples on one line at most."""
PRIORITY: Final = -10
"""Asked for: on a machine that is shared with what is measured, users must not wait for it."""


async def serve(orders: int, answers: int) -> None:
    """Read an order from one file descriptor, carry it out, and write what is seen to the other."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(orders, "rb", 0))
    out, said = await loop.connect_write_pipe(Said, os.fdopen(answers, "wb", 0))
    length = int.from_bytes(await reader.readexactly(8), "big")
    # The order comes through a pipe that only the process that started this one holds.
    settings, seconds = pickle.loads(await reader.readexactly(length))  # noqa: S301
    await _load(settings, seconds, reader, out)
    out.close()
    await said.everything


class Said(asyncio.BaseProtocol):
    """The write pipe's end."""

    def __init__(self) -> None:
        self.everything = asyncio.get_running_loop().create_future()
        """Done when the pipe has taken all, or is broken."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's word
        self.everything.set_result(None)


async def _load(
    settings: LoadSettings, seconds: float | None, reader: asyncio.StreamReader, out: asyncio.WriteTransport
) -> None:
    waiting: list[Sample] = []
    tally = Tally()

    def say(*, ended: bool) -> None:
        while True:
            batch = [asdict(sample) for sample in waiting[:BATCH_SAMPLES]]
            del waiting[:BATCH_SAMPLES]
            last = ended and not waiting
            message = {"samples": batch, "in_flight": tally.in_flight, "ended": last}
            out.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")
            if not waiting:
                return

    generator = Generator(settings, waiting.append, tally)
    gc.collect()
    gc.freeze()  # nothing of what is loaded now is garbage ever again; a long collection would be lag
    async with asyncio.TaskGroup() as tasks:
        helpers = [tasks.create_task(_obey(reader, generator)), tasks.create_task(_repeat(say))]
        await generator.run(seconds)
        for helper in helpers:
            helper.cancel()
    say(ended=True)


async def _repeat(say: Callable[..., None]) -> None:
    while True:
        say(ended=False)
        await asyncio.sleep(BATCH_SECONDS)


async def _obey(reader: asyncio.StreamReader, generator: Generator) -> None:
    """Stop when told to; end at once when the one who tells is gone."""
    while line := await reader.readline():
        generator.stop(float(line))
    os._exit(1)


def main() -> None:
    """Run on uvloop where it is installed."""
    try:
        import uvloop  # comes with the serving packages, which a drill's host may not have

        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        loop_factory = None
    with suppress(OSError):  # not every account may; in the field users have machines of their own
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    orders, answers = os.dup(0), os.dup(1)
    os.dup2(2, 1)  # whatever prints must not be read as a sample
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(serve(orders, answers))
    sys.exit(0)


if __name__ == "__main__":
    main()
