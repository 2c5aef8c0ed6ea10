"""The data plane follows the declaration, whatever its reader raises."""

from __future__ import annotations

import asyncio
import http.client
import time

import pytest

from lab.aws import route53
from lab.aws.inventory import Snapshot
from lab.aws.zone import Zone


class Unsteady:
    """An inventory that fails as told, then reads."""

    def __init__(self, failures) -> None:
        self.failures = list(failures)

    def version(self):
        if self.failures:
            raise self.failures.pop(0)
        return "1"

    def read(self):
        return Snapshot(zones=(Zone("tandem.test", ()),), checks={}, load_balancers={})


@pytest.mark.parametrize(
    "failure",
    [http.client.IncompleteRead(b""), http.client.BadStatusLine("?"), AttributeError("text"), OSError("refused")],
    ids=lambda failure: type(failure).__name__,
)
async def test_the_follower_outlives_what_the_reader_raises(monkeypatch, caplog, failure) -> None:
    monkeypatch.setattr(route53, "POLL_SECONDS", 0.01)
    plane = route53.DataPlane(
        Unsteady([failure]), source_network="127.77.1", checkers=1, clock_factor=1.0, healthy_share=0.18
    )
    following = asyncio.create_task(plane.follow())
    deadline = time.monotonic() + 30
    while "tandem.test" not in plane.status()["zones"]:
        assert not following.done()
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    following.cancel()
    assert await asyncio.gather(following, return_exceptions=True)
    assert type(failure).__name__ in caplog.text
    assert plane.status()["api_trouble"] == ""
