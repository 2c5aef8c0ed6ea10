"""One DNS server for the session, one HTTP server for each test that asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from drills import run
from tests.drills.answering import FIRST, Site, Zone, name_serving, serving


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world of these tests is quick."""
    monkeypatch.setattr(run, "AFTERWARDS_SECONDS", 0.1)


@pytest.fixture(scope="session")
def name_server() -> Iterator[tuple[Zone, str]]:
    zone = Zone()
    with name_serving(zone) as server:
        yield zone, server


@pytest.fixture
def zone(name_server: tuple[Zone, str]) -> Zone:
    zone, _ = name_server
    zone.reset()
    return zone


@pytest.fixture
def resolver(name_server: tuple[Zone, str], zone: Zone) -> str:
    return name_server[1]


@pytest.fixture
def site() -> Site:
    return Site("private")


@pytest_asyncio.fixture
async def port(site: Site) -> AsyncIterator[int]:
    async with serving(site, FIRST) as number:
        yield number
