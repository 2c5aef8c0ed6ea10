"""The load itself: virtual users that ask when their schedule says, whatever became of earlier requests.

Each user has a schedule of its own, and the users' first moments are spread over one interval. Latency counts from the
intended start, so a stalled service cannot hide its own delay, nor a late generator its own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import math
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import h11

from drills.clients import CLASSES, Client, Exchange, Target
from drills.drill import NotRun
from drills.resolver import ResolutionError, Resolver
from drills.sample import Lag, LoadResult, Outcome, Sample, Tally

SITE_HEADER: Final = b"x-tandem-site"
DIGEST_HEADER: Final = b"x-tandem-digest"
DETAIL_LENGTH: Final = 200
LAG_SHARE: Final = 0.05
"""Of a user's interval: what the generator's p99 lag may be."""
MOST_PER_SECOND: Final = 10_000
LONGEST_SECONDS: Final = 3600.0
"""A load that nobody stops ends by itself."""


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """Who asks what, how often, and what a right answer is; `drills.load.run` pickles it."""

    rate_per_second: float
    """Of all users together."""
    users: int
    request_timeout_seconds: float
    host: str
    """Name that is resolved and sent as Host."""
    port: int
    path: str
    make_request: Callable[[int], bytes]
    """JSON body of the n-th request of the schedule."""
    judge: Callable[[bytes, bytes], str | None]
    """Body asked and body answered: None when it is right, else what is wrong with it."""
    resolver: str = ""
    """host:port of the name server; empty means the system's."""
    scheme: str = "http"
    classes: tuple[str, ...] = ("dns",)
    """Users are of these classes in turn."""
    source_addresses: tuple[str, ...] = ()
    """Local addresses the users connect from: each round of classes takes the next one; an empty one binds nobody."""
    in_flight_limit: int = 0
    """0: four times what the rate can pile up within one timeout, at least 64."""

    def __post_init__(self) -> None:
        if self.users < 1 or not 0 < self.rate_per_second <= MOST_PER_SECOND or self.request_timeout_seconds <= 0:
            raise ValueError(
                f"{self.users} users, {self.rate_per_second} requests/s, timeout {self.request_timeout_seconds} s:"
                f" at least one user, a rate above 0 and up to {MOST_PER_SECOND}, a timeout above 0"
            )
        unknown = sorted(set(self.classes) - set(CLASSES))
        if unknown or not self.classes or self.scheme not in {"http", "https"}:
            raise ValueError(
                f"classes {self.classes}, scheme {self.scheme!r}: classes are {', '.join(sorted(CLASSES))},"
                " schemes http and https"
            )
        for source in filter(None, self.source_addresses):
            try:
                ipaddress.ip_address(source)
            except ValueError:
                raise ValueError(f"source address {source!r} is no IP address of this machine; name one") from None

    @property
    def most_in_flight(self) -> int:
        """The bound on requests that are not finished."""
        pile = math.ceil(4 * self.rate_per_second * self.request_timeout_seconds)
        return self.in_flight_limit or max(64, pile)

    @property
    def interval_seconds(self) -> float:
        """Time between two requests of one user."""
        return self.users / self.rate_per_second

    @property
    def lag_budget_ms(self) -> float:
        """What the generator's p99 lag may be for the run to be evidence."""
        return 1000 * LAG_SHARE * self.interval_seconds

    def class_of(self, user: int) -> str:
        """The user's client class."""
        return self.classes[user % len(self.classes)]

    def source_of(self, user: int) -> str:
        """The local address the user is bound to; changes more slowly than the class, so that all pairs occur."""
        if not self.source_addresses:
            return ""
        return self.source_addresses[user // len(self.classes) % len(self.source_addresses)]


class Generator:
    """All users of one load. Its schedule begins when `run` is called."""

    def __init__(self, settings: LoadSettings, finish: Callable[[Sample], None], tally: Tally) -> None:
        self._settings = settings
        self._finish = finish
        self._tally = tally
        check_sources(settings)
        resolver = Resolver(settings.resolver)
        target = Target.of(settings.scheme, settings.host, settings.port, settings.path, resolver)
        self._clients: list[Client] = [
            CLASSES[settings.class_of(user)](replace(target, source=settings.source_of(user)))
            for user in range(settings.users)
        ]
        self._end = math.inf
        self._woken = asyncio.Event()

    def stop(self, at: float) -> None:
        """End the schedule at a moment of the monotonic clock; what was due before it is still asked, however late."""
        self._end = min(self._end, at, time.monotonic())
        self._woken.set()

    async def run(self, seconds: float | None = None) -> None:
        """Ask until stopped, or for so long; then wait for what is in flight, one timeout at most."""
        origin = time.monotonic()
        self._end = min(self._end, origin + (LONGEST_SECONDS if seconds is None else min(seconds, LONGEST_SECONDS)))
        try:
            async with asyncio.TaskGroup() as tasks:
                for user in range(self._settings.users):
                    tasks.create_task(self._live(user, origin, tasks))
        finally:
            for client in self._clients:
                client.close()

    async def _live(self, user: int, origin: float, tasks: asyncio.TaskGroup) -> None:
        """One user's schedule."""
        settings, tally = self._settings, self._tally
        phase = origin + user / settings.rate_per_second
        for round_ in itertools.count():
            intended = phase + round_ * settings.interval_seconds
            if not await self._due(intended):
                return
            if tally.in_flight < settings.most_in_flight:
                tally.in_flight += 1
                tasks.create_task(self._ask(round_ * settings.users + user, intended, user))
            else:
                now = time.monotonic()
                detail = f"{tally.in_flight} requests in flight"
                self._finish(self._sample(user, intended, now, Exchange(), Outcome.OVERFLOW, detail, way=""))

    async def _due(self, intended: float) -> bool:
        """Wait for a request's moment; False when the load ends before it."""
        while intended < self._end:
            wait = intended - time.monotonic()
            if wait <= 0:
                return True
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                continue
        return False

    async def _ask(self, turn: int, intended: float, user: int) -> None:
        """One request from its start to its judgement; never raises for what the service does."""
        started = time.monotonic()
        settings, exchange = self._settings, Exchange()
        body = settings.make_request(turn)
        try:
            async with asyncio.timeout(settings.request_timeout_seconds):
                await self._clients[user].send(body, exchange)
        except ResolutionError as error:
            outcome, detail = Outcome.DNS, str(error)
        except TimeoutError:
            where = "no name resolved" if exchange.address is None else "no answer"
            outcome = Outcome.DNS if exchange.address is None else Outcome.TIMEOUT
            detail = f"{where} within {settings.request_timeout_seconds:g} s"
        except (ConnectionResetError, BrokenPipeError, h11.RemoteProtocolError, ssl.SSLError) as error:
            outcome, detail = Outcome.RESET, f"{type(error).__name__}: {error}"
        except OSError as error:
            outcome, detail = Outcome.REFUSED, f"{type(error).__name__}: {error}"
        else:
            outcome, detail = _judged(settings, body, exchange)
        finally:
            self._tally.in_flight -= 1
        self._finish(self._sample(user, intended, started, exchange, outcome, detail, way=exchange.way))

    def _sample(
        self, user: int, intended: float, started: float, exchange: Exchange, outcome: Outcome, detail: str, *, way: str
    ) -> Sample:
        return Sample(
            intended=intended,
            started=started,
            finished=time.monotonic(),
            user=user,
            client_class=self._settings.class_of(user),
            site=exchange.text(SITE_HEADER),
            address=exchange.address,
            status=exchange.status,
            outcome=outcome,
            digest=exchange.text(DIGEST_HEADER),
            detail=detail[:DETAIL_LENGTH],
            source=self._settings.source_of(user),
            way=way,
        )


async def generate(
    settings: LoadSettings,
    until: asyncio.Event | float,
    *,
    on_sample: Callable[[Sample], None] | None = None,
    tally: Tally | None = None,
) -> LoadResult:
    """Load from within this process and loop, until the event is set or for so many seconds."""
    tally = Tally() if tally is None else tally
    samples: list[Sample] = []

    def finish(sample: Sample) -> None:
        samples.append(sample)
        tally.add(sample)
        if on_sample is not None:
            on_sample(sample)

    generator = Generator(settings, finish, tally)
    if isinstance(until, asyncio.Event):
        stopping = asyncio.create_task(_stop_with(generator, until))
        try:
            await generator.run()
        finally:
            stopping.cancel()
    else:
        await generator.run(until)
    return LoadResult(samples, Lag.of(samples, settings.lag_budget_ms))


async def _stop_with(generator: Generator, event: asyncio.Event) -> None:
    await event.wait()
    generator.stop(time.monotonic())


def check_sources(settings: LoadSettings) -> None:
    """Raise NotRun for a source address that this machine cannot bind: it would read as the service's failure."""
    for source in sorted(set(filter(None, settings.source_addresses))):
        with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET) as probe:
            try:
                probe.bind((source, 0))
            except OSError as error:
                raise NotRun(f"source address {source} cannot be bound here: {error}; name one that can") from error


def _judged(settings: LoadSettings, body: bytes, exchange: Exchange) -> tuple[Outcome, str]:
    status, answer = exchange.status or 0, bytes(exchange.body)
    if status != 200:
        said = f"{status} {answer[:DETAIL_LENGTH].decode('utf-8', 'replace')}"
        if status >= 500:
            return Outcome.HTTP_5XX, said
        if status >= 400:
            return (Outcome.SHED if status == 429 else Outcome.HTTP_4XX), said
        return Outcome.WRONG, f"status {status} is no answer to a question"
    try:
        fault = settings.judge(body, answer)
    except Exception as error:  # noqa: BLE001  an answer the judge chokes on is no right answer
        fault = f"cannot be judged: {type(error).__name__} {error}"
    return (Outcome.OK, "") if fault is None else (Outcome.WRONG, fault)
