"""A gateway asked for three times what it takes: it turns away, answers the rest, and stays healthy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_stage as stage
import httpx
import numpy as np
import psutil
import pytest
import uvloop

from serving.event_loop import Loop
from serving.inference import InferenceTimeoutError, Lane, TritonInference

pytestmark = [pytest.mark.live, pytest.mark.timeout(90)]

TRITON, GATEWAY = "127.83.4.1", "127.83.4.2"
GOLDEN_SECONDS = 2.0
SECONDS, LOOKS = 4 * GOLDEN_SECONDS, 12
BODY = json.dumps({"history": ["70", "500", "990"]}).encode()
REQUEST = (
    b"POST /v1/recommendations HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BODY)
) + BODY


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("overload")


@pytest.fixture(scope="module")
def variables(home: Path) -> Iterator[dict[str, str]]:
    digest = stage.build_package(home / "package")
    stage.lay_out(home / "package", home / "models", digest)
    with stage.triton(home / "models" / "repository", TRITON, home):
        base = stage.environment(home / "models", digest, GATEWAY, f"{TRITON}:8001")
        stage.until(_triton_is_ready, 40)
        yield {**base, "GOLDEN_INTERVAL_SECONDS": str(GOLDEN_SECONDS)}


def _triton_is_ready() -> bool:
    answer = stage.get(f"http://{TRITON}:8000/v2/models/recommender/ready")
    return answer is not None and answer.status_code == 200


class Crowd:
    """Users who ask again as soon as they are answered, whatever the answer."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.codes: Counter[int] = Counter()
        self.served = 0
        self.over = False
        self.heads: set[bytes] = set()

    async def user(self) -> None:
        reader, writer = await asyncio.open_connection(GATEWAY, 8080)
        first = True
        try:
            while not self.over:
                writer.write(REQUEST)
                head = await reader.readuntil(b"\r\n\r\n")
                code = int(head[9:12])
                if code == 429 and len(self.heads) < 10:
                    self.heads.add(head)
                await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.codes[code] += 1
                self.served, first = self.served + first, False
        finally:
            writer.close()

    async def ask(self) -> None:
        await asyncio.gather(*(self.user() for _ in range(self.size)))

    async def ask_for(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, setattr, self, "over", True)
        await self.ask()


async def look(crowd: Crowd) -> list[dict[str, Any]]:
    """What /healthz says on fresh connections, some times and some seconds, once all in the crowd had an answer."""
    seen = []
    await stage.until_async(lambda: crowd.served == crowd.size, 20)
    end = time.monotonic() + SECONDS
    while len(seen) < LOOKS or time.monotonic() < end:
        async with httpx.AsyncClient(timeout=5) as client:
            answer = await client.get(f"http://{GATEWAY}:8080/healthz")
        seen.append({"code": answer.status_code, **answer.json()})
        await asyncio.sleep(0.05)
    crowd.over = True
    return seen


@pytest.mark.parametrize(("limit", "users"), [(100, 300), (16, 400)], ids=["three_times", "twenty_five_times"])
def test_more_than_the_limit_is_shed_and_health_stays_green_busy_and_fresh(
    variables: dict[str, str], home: Path, limit: int, users: int
) -> None:
    crowd = Crowd(users)

    async def overload() -> list[dict[str, Any]]:
        async with asyncio.TaskGroup() as both:
            looked = both.create_task(look(crowd))
            both.create_task(crowd.ask())
        return looked.result()

    with stage.gateway({**variables, "CONCURRENCY_LIMIT": str(limit)}, home):
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200, 30)
        seen = uvloop.run(overload())
        after = stage.health(GATEWAY)
        metrics = stage.get(f"http://{GATEWAY}:8080/metrics")
        stage.until(lambda: not stage.health(GATEWAY)["busy"], 10)
    assert set(crowd.codes) == {200, 429}
    assert all(b"retry-after: 1\r\n" in head and b"connection: close" not in head for head in crowd.heads)
    assert [one for one in seen if one["code"] != 200] == []
    assert all(one["busy"] and one["shed"] > 0 for one in seen)
    assert max(one["age_seconds"] for one in seen) < 2 * GOLDEN_SECONDS, "golden questions were late by an interval"
    assert after["code"] == 200
    assert metrics is not None
    shed = next(line for line in metrics.text.splitlines() if line.startswith("tandem_shed_total"))
    assert float(shed.rsplit(" ", 1)[1]) == crowd.codes[429]


async def _golden_seconds(url: str, digest: str) -> float:
    """The longest of some golden questions on a loop whose rounds take 10 ms and more, beside 32 users."""
    inference = TritonInference(url, "recommender", [digest])
    zeros = np.zeros((1, 50), dtype=np.int64)
    loop = asyncio.get_running_loop()
    over = False

    def busy() -> None:
        end = time.perf_counter() + 0.01
        while time.perf_counter() < end:
            pass
        if not over:
            loop.call_soon(busy)

    async def ask(lane: Lane) -> float:
        start = time.monotonic()
        with contextlib.suppress(InferenceTimeoutError):
            await inference.ask(lambda _: zeros, deadline_seconds=1.0, lane=lane)
        return time.monotonic() - start

    async def user() -> None:
        while not over:
            await ask(Lane.USERS)

    await ask(Lane.USERS)
    loop.call_soon(busy)
    users = [asyncio.create_task(user()) for _ in range(32)]
    await asyncio.sleep(2)
    longest = max([await ask(Lane.GOLDEN) for _ in range(8)])
    over = True
    await asyncio.gather(*users)
    await inference.close()
    return longest


@pytest.mark.parametrize(("kind", "late"), [(Loop, False), (uvloop.Loop, True)], ids=["the_gateway_s", "plain"])
def test_the_golden_question_is_not_starved_by_long_rounds_of_the_gateway_s_loop(
    variables: dict[str, str], kind: type[asyncio.AbstractEventLoop], *, late: bool
) -> None:
    digest = variables["ACCEPTED_DIGESTS"]
    with asyncio.Runner(loop_factory=kind) as runner:
        longest = runner.run(_golden_seconds(variables["TRITON_URL"], digest))
    assert (longest > 1.0) is late, f"{longest:.2f} s"


def test_connections_of_users_are_counted_until_they_are_closed(variables: dict[str, str], home: Path) -> None:
    def connections() -> str:
        text = httpx.get(f"http://{GATEWAY}:8080/metrics", timeout=3).text
        return next(line for line in text.splitlines() if line.startswith("tandem_connections"))

    with stage.gateway(variables, home):
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200, 30)
        assert connections().endswith(" 0.0")
        with httpx.Client(base_url=f"http://{GATEWAY}:8080", timeout=3) as one, httpx.Client(timeout=3) as checker:
            checker.get(f"http://{GATEWAY}:8080/healthz")
            for _ in range(3):
                one.post("/v1/recommendations", json={"history": []})
            assert connections().endswith(" 1.0")
        stage.until(lambda: connections().endswith(" 0.0"))


def test_turning_away_costs_far_less_than_answering(variables: dict[str, str], home: Path) -> None:
    def per_cpu_second(process: psutil.Process, code: int, size: int, seconds: float) -> float:
        crowd, before = Crowd(size), sum(process.cpu_times()[:2])
        uvloop.run(crowd.ask_for(seconds))
        return crowd.codes[code] / (sum(process.cpu_times()[:2]) - before)

    with stage.gateway({**variables, "CONCURRENCY_LIMIT": "16"}, home) as running:
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200, 30)
        process = psutil.Process(running.pid)
        answers = per_cpu_second(process, 200, 16, 2.0)
        sheds = per_cpu_second(process, 429, 100, 2.0)
    print(f"LAB: {answers:.0f} answers and {sheds:.0f} sheds (beside answers) per second of one core")
    assert sheds > 3 * answers
