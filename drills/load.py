"""Open-loop load: requests start when the schedule says, whatever became of earlier ones.

Virtual users take turns on one fixed schedule; latency counts from the intended start, so a stalled service cannot hide
its own delay. Each user behaves as its client class (drills/clients.py) does.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import h11

from drills.clients import CLASSES, Client, Exchange, Target
from drills.resolver import ResolutionError, Resolver

SITE_HEADER: Final = b"x-tandem-site"
DIGEST_HEADER: Final = b"x-tandem-digest"
STOP_CHECK_SECONDS: Final = 0.1
DETAIL_LENGTH: Final = 200


class Outcome(StrEnum):
    """What became of one request."""

    OK = "ok"
    WRONG = "wrong"
    """Answered with success, but not with what is right."""
    HTTP_4XX = "http_4xx"
    HTTP_5XX = "http_5xx"
    REFUSED = "refused"
    RESET = "reset"
    TIMEOUT = "timeout"
    DNS = "dns"
    OVERFLOW = "overflow"
    """Not sent: too many were in flight."""


@dataclass(frozen=True)
class Sample:
    """One request of one user; times are in seconds on the monotonic clock."""

    intended: float
    started: float
    finished: float
    user: int
    client_class: str
    site: str | None
    address: str | None
    status: int | None
    outcome: Outcome
    digest: str | None
    detail: str

    def to_json(self) -> str:
        """One line of a JSONL file."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """The sample of such a line."""
        document = json.loads(line)
        return cls(**{**document, "outcome": Outcome(document["outcome"])})


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """Who asks what, how often, and what a right answer is."""

    rate_per_second: float
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
    """User i is of class i modulo their number."""
    in_flight_limit: int = 0
    """0: four times what the rate can pile up within one timeout, at least 64."""

    def __post_init__(self) -> None:
        if self.users < 1 or not 0 < self.rate_per_second <= 10_000 or self.request_timeout_seconds <= 0:
            raise ValueError(
                f"{self.users} users, {self.rate_per_second} requests/s, timeout {self.request_timeout_seconds} s:"
                " at least one user, a rate above 0 and up to 10000, a timeout above 0"
            )
        unknown = sorted(set(self.classes) - set(CLASSES))
        if unknown or not self.classes or self.scheme not in {"http", "https"}:
            raise ValueError(
                f"classes {self.classes}, scheme {self.scheme!r}: classes are {', '.join(sorted(CLASSES))},"
                " schemes http and https"
            )

    @property
    def most_in_flight(self) -> int:
        """The bound on requests that are not finished."""
        pile = math.ceil(4 * self.rate_per_second * self.request_timeout_seconds)
        return self.in_flight_limit or max(64, pile)


@dataclass(frozen=True)
class Lag:
    """How late the generator itself was: started minus intended, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Lag:
        """Nearest-rank quantiles; zeros of nothing."""
        late = sorted(1000 * (sample.started - sample.intended) for sample in samples) or [0.0]
        ranks = [late[max(0, math.ceil(share * len(late)) - 1)] for share in (0.5, 0.99, 1.0)]
        return cls(*(round(value, 3) for value in ranks))


@dataclass
class Tally:
    """Live counts of a running load, for a display."""

    in_flight: int = 0
    finished: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    sites: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        """Count a finished request."""
        self.finished += 1
        self.outcomes[sample.outcome] += 1
        if sample.site:
            self.sites[sample.site] += 1


@dataclass(frozen=True)
class LoadResult:
    """Every request of a load, and the generator's own lag."""

    samples: list[Sample]
    lag: Lag


async def run(
    settings: LoadSettings,
    until: asyncio.Event | float,
    *,
    on_sample: Callable[[Sample], None] | None = None,
    tally: Tally | None = None,
) -> LoadResult:
    """Load until the event is set, or for so many seconds; then wait for what is in flight, one timeout at most."""
    target = Target.of(settings.scheme, settings.host, settings.port, settings.path, Resolver(settings.resolver))
    classes = [settings.classes[user % len(settings.classes)] for user in range(settings.users)]
    clients = [CLASSES[name](target) for name in classes]
    tally = Tally() if tally is None else tally
    samples: list[Sample] = []

    def finish(sample: Sample) -> None:
        samples.append(sample)
        tally.add(sample)
        if on_sample is not None:
            on_sample(sample)

    async def ask(turn: int, intended: float) -> None:
        user = turn % settings.users
        try:
            finish(await _ask(settings, clients[user], turn, intended, user, classes[user]))
        finally:
            tally.in_flight -= 1

    origin = time.monotonic()
    turn = 0
    async with asyncio.TaskGroup() as requests:
        while await _due(intended := origin + turn / settings.rate_per_second, until, origin):
            if tally.in_flight < settings.most_in_flight:
                tally.in_flight += 1
                requests.create_task(ask(turn, intended))
            else:
                user, now = turn % settings.users, time.monotonic()
                detail = f"{tally.in_flight} requests in flight"
                finish(
                    Sample(intended, now, now, user, classes[user], None, None, None, Outcome.OVERFLOW, None, detail)
                )
            turn += 1
    return LoadResult(samples, Lag.of(samples))


async def _due(intended: float, until: asyncio.Event | float, origin: float) -> bool:
    """Wait for a request's moment; False when the load ends before it."""
    if not isinstance(until, asyncio.Event) and intended >= origin + until:
        return False
    while True:
        if isinstance(until, asyncio.Event) and until.is_set():
            return False
        wait = intended - time.monotonic()
        if wait <= 0:
            return True
        await asyncio.sleep(min(wait, STOP_CHECK_SECONDS))


async def _ask(
    settings: LoadSettings, client: Client, turn: int, intended: float, user: int, client_class: str
) -> Sample:
    """One request from its start to its judgement; never raises for what the service does."""
    started = time.monotonic()
    exchange = Exchange()
    body = settings.make_request(turn)
    try:
        async with asyncio.timeout(settings.request_timeout_seconds):
            await client.send(body, exchange)
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
    return Sample(
        intended=intended,
        started=started,
        finished=time.monotonic(),
        user=user,
        client_class=client_class,
        site=exchange.text(SITE_HEADER),
        address=exchange.address,
        status=exchange.status,
        outcome=outcome,
        digest=exchange.text(DIGEST_HEADER),
        detail=detail[:DETAIL_LENGTH],
    )


def _judged(settings: LoadSettings, body: bytes, exchange: Exchange) -> tuple[Outcome, str]:
    status, answer = exchange.status or 0, bytes(exchange.body)
    if status >= 500:
        return Outcome.HTTP_5XX, f"{status} {answer[:DETAIL_LENGTH].decode('utf-8', 'replace')}"
    if status >= 400:
        return Outcome.HTTP_4XX, f"{status} {answer[:DETAIL_LENGTH].decode('utf-8', 'replace')}"
    if status != 200:
        return Outcome.WRONG, f"status {status} is no answer to a question"
    try:
        fault = settings.judge(body, answer)
    except Exception as error:  # noqa: BLE001  an answer the judge chokes on is no right answer
        fault = f"cannot be judged: {type(error).__name__} {error}"
    return (Outcome.OK, "") if fault is None else (Outcome.WRONG, fault)


def append_jsonl(path: Path, samples: Sequence[Sample]) -> None:
    """Append the samples to a file, one line each."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(sample.to_json() + "\n" for sample in samples)
