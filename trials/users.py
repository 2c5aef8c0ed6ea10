"""Users who ask while something else is done, and must not notice it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

from drills import load
from drills.answer import Expectation
from drills.drill import DrillError
from drills.expectation import PATH
from drills.measure import failures
from drills.sample import Sample
from stacks.contract import Deployment
from trials.line import TrialError

USERS: Final = 20
START_SECONDS: Final = 30.0
END_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.2


def settings(deployment: Deployment, expectation: Expectation, rate_per_second: float) -> load.LoadSettings:
    """Users of both client classes who ask for the service by its name."""
    traffic = deployment.traffic
    return load.LoadSettings(
        rate_per_second=rate_per_second,
        users=USERS,
        request_timeout_seconds=traffic.request_timeout_seconds,
        resolver=traffic.resolver,
        scheme=traffic.scheme,
        host=traffic.service_name,
        port=next(iter(traffic.sites.values())).port,
        path=PATH,
        make_request=expectation.body,
        judge=expectation.judge,
        classes=("dns", "dns-keepalive"),
    )


class Users:
    """From here to the end of the block they ask; their load is a process of its own."""

    def __init__(self, wanted: load.LoadSettings) -> None:
        self.samples: list[Sample] = []
        self._settings = wanted
        self._thread = threading.Thread(target=self._live, name="users", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._died: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self.until(lambda samples: bool(samples), START_SECONDS, "nobody asked anything")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(END_SECONDS)

    def check(self) -> None:
        """Raise TrialError when any of them was failed so far, or when nobody asks any more."""
        if self._died is not None:
            raise TrialError(f"the users' load ended: {self._died}")
        seen = list(self.samples)
        if bad := failures(seen):
            raise TrialError(f"{len(bad)} of {len(seen)} requests failed, the first: {bad[0]}")

    def until(self, seen: Callable[[list[Sample]], bool], seconds: float, trouble: str) -> None:
        """Wait for something in their samples. Raises TrialError with what to say when it does not come."""
        end = time.monotonic() + seconds
        while not seen(list(self.samples)):
            self.check()
            if time.monotonic() > end:
                raise TrialError(f"{trouble} within {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def _live(self) -> None:
        try:
            asyncio.run(self._ask())
        except (DrillError, OSError) as error:
            self._died = error

    async def _ask(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await load.run(self._settings, self._stop, on_sample=self.samples.append)


def answered_by(samples: Iterable[Sample], since: float) -> set[str]:
    """The sites that answered requests which began at that moment of the monotonic clock or later."""
    return {sample.site for sample in samples if sample.site and sample.started >= since}
