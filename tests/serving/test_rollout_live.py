"""Versions that change behind a gateway under load, and wrong ones: real tritonservers behind a Service."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gateway_stage as stage
import httpx
import numpy as np
import pytest
from service_stage import Service

from serving.manifest import hex_of

pytestmark = [pytest.mark.live, pytest.mark.timeout(110)]

OLD_SERVER, NEW_SERVER, SERVICE, GATEWAY, SPOILT_SERVER = (f"127.83.3.{n}" for n in range(1, 6))
PATH = "/v1/recommendations"
HISTORY = ["70", "500", "990"]
SEEDS = {"old": 1, "new": 2}
SHIFTS = {"old": 0, "new": 37}
PER_SECOND = 50
GOLDEN_INTERVAL = 0.3
PATIENT = {"REQUEST_TIMEOUT_SECONDS": "5", "GOLDEN_INTERVAL_SECONDS": "1"}
"""For tests that count failures and start servers meanwhile: a busy machine is slow, which is no failure."""
REPLACEMENTS = (("new", NEW_SERVER, False), ("old", OLD_SERVER, True), ("new", NEW_SERVER, True))
"""Who comes, and whether the one that leaves is told to before the Service has forgotten it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rollout")


@pytest.fixture(scope="module")
def digests(home: Path) -> dict[str, str]:
    """Two versions that know the same items by other indices and rank them otherwise; the gateway has both."""
    found = {}
    for name in ("old", "new"):
        found[name] = stage.build_package(home / name, seed=SEEDS[name], shift=SHIFTS[name])
        stage.lay_out(home / name, home / "server" / name, found[name])
        stage.lay_out(home / name, home / "gateway", found[name], f"unused-{name}", hex_of(found[name]))
    return found


@pytest.fixture
def service() -> Iterator[Service]:
    with Service(SERVICE, 8001).serving() as running:
        yield running


@contextlib.contextmanager
def server(home: Path, name: str, address: str) -> Iterator[Any]:
    with stage.triton(home / "server" / name / "repository", address, home) as process:
        stage.until(lambda: _ready(address), 40)
        yield process


def _ready(address: str) -> bool:
    answer = stage.get(f"http://{address}:8000/v2/models/recommender/ready")
    return answer is not None and answer.status_code == 200


def variables(home: Path, *accepted: str) -> dict[str, str]:
    base = stage.environment(home / "gateway", ",".join(accepted), GATEWAY, f"{SERVICE}:8001")
    return {**base, "GOLDEN_INTERVAL_SECONDS": str(GOLDEN_INTERVAL), "HOLD_DOWN_SECONDS": "0"}


def expected(name: str) -> tuple[list[str], list[float]]:
    """What a version answers to the history, in its own words, computed without it."""
    ids = stage.item_ids(SHIFTS[name])
    history = np.zeros((1, 50), dtype=np.int64)
    history[0, -len(HISTORY) :] = [ids.index(item) + 1 for item in HISTORY]
    items, scores = stage.answer_of(history, SEEDS[name])
    return [ids[index - 1] for index in items[0, :10].tolist()], scores[0, :10].tolist()


@dataclass
class Users:
    """An open loop of users on kept connections, and somebody who looks at health; all they saw."""

    answers: list[tuple[int, str, list[str], list[float]]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ill: list[str] = field(default_factory=list)
    looks: int = 0

    async def _ask(self, client: httpx.AsyncClient) -> None:
        try:
            answer = await client.post(f"http://{GATEWAY}:8080{PATH}", json={"history": HISTORY})
            document = answer.json()
            if answer.status_code != 200:
                self.failures.append(f"{answer.status_code} {answer.text}")
                return
            items = document["items"]
            self.answers.append((200, document["model_digest"], [i["id"] for i in items], [i["score"] for i in items]))
        except httpx.HTTPError as error:
            self.failures.append(repr(error))

    async def _look(self, client: httpx.AsyncClient) -> None:
        try:
            answer = await client.get(f"http://{GATEWAY}:8080/healthz")
        except httpx.HTTPError as error:
            self.ill.append(repr(error))
            return
        self.looks += 1
        if answer.status_code != 200:
            self.ill.append(answer.text)

    async def _run(self, stop: threading.Event) -> None:
        tasks = set()
        async with httpx.AsyncClient(timeout=30) as client:
            while not stop.is_set():
                tasks.add(asyncio.create_task(self._ask(client)))
                if len(tasks) % 2:
                    tasks.add(asyncio.create_task(self._look(client)))
                await asyncio.sleep(1 / PER_SECOND)
            await asyncio.gather(*tasks)

    @contextlib.contextmanager
    def asking(self) -> Iterator[Users]:
        stop = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._run(stop)), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join(15)
        assert not thread.is_alive()

    def last_named(self, digest: str) -> bool:
        return bool(self.answers) and self.answers[-1][1] == digest


def check_answers(users: Users, digests: dict[str, str]) -> None:
    names = {digest: name for name, digest in digests.items()}
    right = {name: expected(name) for name in digests}
    for _, digest, items, scores in users.answers:
        wanted_items, wanted_scores = right[names[digest]]
        assert items == wanted_items
        assert np.allclose(scores, wanted_scores, atol=2e-5), "the question was put in the words of another version"


def test_a_new_version_replaces_the_old_and_back_under_load_without_a_failure(
    home: Path, digests: dict[str, str], service: Service
) -> None:
    users = Users()
    with contextlib.ExitStack() as servers:
        running = servers.enter_context(server(home, "old", OLD_SERVER))
        service.backends = [f"{OLD_SERVER}:8001"]
        with stage.gateway({**variables(home, digests["old"], digests["new"]), **PATIENT}, home):
            stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
            with users.asking():
                for name, address, hurried in REPLACEMENTS:
                    before = running
                    running = servers.enter_context(server(home, name, address))
                    service.backends = [*service.backends, f"{address}:8001"]
                    time.sleep(0.3)  # both are in the Service for a while
                    if not hurried:
                        service.backends = [f"{address}:8001"]
                        time.sleep(0.3)  # the old one's preStop
                    before.terminate()
                    time.sleep(0.3)
                    service.backends = [f"{address}:8001"]
                    before.wait(15)
                    stage.until(partial(users.last_named, digests[name]), 30)
                    assert stage.health(GATEWAY)["code"] == 200
    assert users.failures == []
    assert users.ill == []
    assert len(users.answers) > 200
    assert users.looks > 100
    assert {digest for _, digest, _, _ in users.answers} == set(digests.values())
    check_answers(users, digests)


def test_two_versions_behind_one_service_and_connections_that_break_give_right_answers_of_both(
    home: Path, digests: dict[str, str], service: Service
) -> None:
    users = Users()
    with (
        server(home, "old", OLD_SERVER),
        server(home, "new", NEW_SERVER),
        stage.gateway({**variables(home, digests["old"], digests["new"]), **PATIENT}, home),
    ):
        service.backends = [f"{OLD_SERVER}:8001", f"{NEW_SERVER}:8001"]
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        with users.asking():
            for _ in range(12):
                service.cut()
                time.sleep(0.4)
    assert users.failures == []
    assert users.ill == []
    assert {digest for _, digest, _, _ in users.answers} == set(digests.values())
    check_answers(users, digests)


def test_a_model_that_answers_wrongly_under_the_right_version_turns_health_red_within_one_golden_period(
    home: Path, digests: dict[str, str], service: Service
) -> None:
    stage.lay_out(home / "new", home / "server" / "spoilt", digests["old"])  # the new model under the old number
    period = 3
    unhurried = {"GOLDEN_INTERVAL_SECONDS": str(period), "HOLD_DOWN_SECONDS": "4"}
    with (
        server(home, "old", OLD_SERVER),
        server(home, "spoilt", SPOILT_SERVER),
        stage.gateway({**variables(home, digests["old"]), **unhurried}, home),
    ):
        service.backends = [f"{OLD_SERVER}:8001"]
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200)
        service.backends = [f"{SPOILT_SERVER}:8001"]
        service.cut()
        injected = time.monotonic()
        stage.until(lambda: stage.health(GATEWAY).get("reason") == "wrong", 2 * period)
        assert time.monotonic() - injected < 1.5 * period
        assert "golden answer of" in stage.health(GATEWAY)["detail"]
        service.backends = [f"{OLD_SERVER}:8001"]
        service.cut()
        stage.until(lambda: stage.health(GATEWAY).get("reason") == "holding", 2 * period)
        mended = time.monotonic()
        stage.until(lambda: stage.health(GATEWAY).get("code") == 200, 30)
        assert time.monotonic() - mended > 1.5
