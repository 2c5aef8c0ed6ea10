"""The gateway's loop takes gRPC's wake-ups in one go, and nobody else's."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Coroutine
from typing import Any

import grpc

from serving.event_loop import Loop


class Poller:
    """Reads one byte per call, as gRPC's does."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.calls = 0

    def handle(self, _: object) -> None:
        self.calls += 1
        assert len(self.end.recv(1)) == 1


class OfGrpc(Poller):
    """The same, from a module of gRPC."""


OfGrpc.__module__ = "grpc._cython.cygrpc"


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(asyncio.wait_for(coroutine, 30))


async def calls_for(kind: type[Poller], wake_ups: int) -> int:
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        poller = kind(near)
        far.send(b"1" * wake_ups)
        loop.add_reader(near, functools.partial(poller.handle, loop))
        for _ in range(20):
            await asyncio.sleep(0)
        while _waiting(near):  # noqa: ASYNC110  the reader is a callback
            await asyncio.sleep(0)
        loop.remove_reader(near)
    return poller.calls


def _waiting(near: socket.socket) -> bool:
    try:
        return bool(near.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_wake_ups_of_grpc_that_piled_up_are_taken_in_one_call() -> None:
    assert run(calls_for(OfGrpc, 200)) == 1
    assert run(calls_for(OfGrpc, 1)) == 1


def test_others_get_every_byte() -> None:
    assert run(calls_for(Poller, 200)) == 200


def test_grpc_is_recognised_by_its_reader() -> None:
    seen: list[tuple[socket.socket, functools.partial[Any]]] = []

    class Watched(Loop):
        def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
            seen.append((fd, callback))
            super().add_reader(fd, callback, *args)

    async def open_and_close() -> None:
        await grpc.aio.insecure_channel("127.83.6.30:1").close()

    with asyncio.Runner(loop_factory=Watched) as runner:
        runner.run(open_and_close())
    (fd, callback), *_ = seen
    assert isinstance(fd, socket.socket)
    assert type(callback.func.__self__).__module__.startswith("grpc."), "gRPC changed: look at serving/event_loop.py"
