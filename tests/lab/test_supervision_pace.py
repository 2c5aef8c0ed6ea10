"""What a probe's own numbers decide: how many failures, how long one question may take, and by which scheme it asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from lab.kubernetes import probes
from lab.kubernetes.supervision import Supervision

HOST = "127.79.0.45"
PERIOD = 0.02


class Application:
    """Answers 503 until it is well; `slow` seconds late."""

    def __init__(self) -> None:
        self.asked, self.well, self.slow = 0, False, 0.0
        self.answering: set[asyncio.Task[None]] = set()

    def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answering.add(asyncio.create_task(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if (await reader.readline()).startswith(b"GET "):
                self.asked += 1
                await asyncio.sleep(self.slow)
                status = b"200 OK" if self.well else b"503 Service Unavailable"
                writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            await writer.wait_closed()


class Stage:
    """One run of a container, whose probes ask the application."""

    def __init__(self, application: Application, port: int, session: aiohttp.ClientSession) -> None:
        self.application, self.port, self.session = application, port, session
        self.told: list[Any] = []
        self.decided = asyncio.Event()

    def tell(self, what: Any) -> None:
        self.told.append(what)
        self.decided.set()

    def supervise(self, which: str, **probe: Any) -> Supervision:
        spec = {"name": "main", which: {"httpGet": {"port": self.port}, "periodSeconds": PERIOD, **probe}}
        silent = SimpleNamespace(warning=lambda *_: None, normal=lambda *_: None)
        scope: Any = SimpleNamespace(
            pod={}, placement=SimpleNamespace(pod_ip=HOST), session=self.session, recorder=silent, grace_seconds=1.0
        )
        unused: Any = None
        return Supervision(spec, scope, unused, unused, changed=lambda: self.tell("changed"), end=self.tell)

    async def until_told(self) -> int:
        """How often the application had been asked when something was decided."""
        async with asyncio.timeout(30):
            await self.decided.wait()
        self.decided.clear()
        return self.application.asked


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    application = Application()
    server = await asyncio.start_server(application.take, HOST, 0)
    async with server:
        async with aiohttp.ClientSession() as session:
            yield Stage(application, server.sockets[0].getsockname()[1], session)
        await asyncio.gather(*application.answering)


@pytest.mark.parametrize("threshold", [1, 4])
@pytest.mark.parametrize("which", ["startupProbe", "livenessProbe"])
async def test_a_run_is_ended_after_as_many_failures_as_its_probe_says(
    stage: Stage, which: str, threshold: int
) -> None:
    subject = stage.supervise(which, failureThreshold=threshold)
    assert await stage.until_told() == threshold
    await subject.close()
    assert stage.told == [1.0], "with the pod's grace"


@pytest.mark.parametrize("threshold", [1, 4])
async def test_a_run_is_ready_no_more_after_as_many_failures_as_its_probe_says(stage: Stage, threshold: int) -> None:
    stage.application.well = True
    subject = stage.supervise("readinessProbe", failureThreshold=threshold)
    await stage.until_told()
    assert subject.ready
    stage.application.well, stage.application.asked = False, 0
    assert await stage.until_told() == threshold
    assert not subject.ready
    await subject.close()


@pytest.mark.parametrize(("seconds", "said"), [(0.05, "no answer within 0.05 s"), (5, None)])
async def test_a_question_may_take_as_long_as_its_probe_says(stage: Stage, seconds: float, said: str | None) -> None:
    stage.application.well, stage.application.slow = True, 0.2
    found = await probes.ask({"httpGet": {"port": stage.port}, "timeoutSeconds": seconds}, target(stage))
    assert found is None if said is None else said in str(found)


@pytest.mark.parametrize(("scheme", "well"), [("HTTP", True), ("HTTPS", False)])
async def test_a_question_is_asked_by_the_scheme_its_probe_says(stage: Stage, scheme: str, well: bool) -> None:
    stage.application.well = True
    found = await probes.ask({"httpGet": {"port": stage.port, "scheme": scheme}}, target(stage))
    assert (found is None) is well


def target(stage: Stage) -> probes.Target:
    async def execute(*_: Any) -> tuple[int, str]:
        raise AssertionError

    return probes.Target({"name": "main"}, HOST, execute, stage.session)
