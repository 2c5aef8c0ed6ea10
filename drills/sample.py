"""One request of one virtual user as evidence, and what a load leaves behind."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path


class Outcome(StrEnum):
    """What became of one request."""

    OK = "ok"
    WRONG = "wrong"
    """Answered with success, but not with what is right."""
    SHED = "shed"
    """429: the site is busy and says so."""
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
    """One request of one user; times are in seconds on the machine's monotonic clock."""

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
    source: str = ""
    """Local address the user is bound to; empty: none."""
    way: str = ""
    """How the request came to its connection: new, reused or retried."""

    def to_json(self) -> str:
        """One line of a JSONL file."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Sample:
        """The sample of such a line."""
        document = json.loads(line)
        return cls(**{**document, "outcome": Outcome(document["outcome"])})


@dataclass(frozen=True)
class Lag:
    """How late the generator itself was: started minus intended, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    budget_ms: float = 0.0
    """What p99 may be for the run to be evidence."""

    @classmethod
    def of(cls, samples: Iterable[Sample], budget_ms: float = 0.0) -> Lag:
        """Nearest-rank quantiles; zeros of nothing."""
        late = sorted(max(0.0, 1000 * (sample.started - sample.intended)) for sample in samples) or [0.0]
        p50, p99, most = (round(late[max(0, math.ceil(share * len(late)) - 1)], 3) for share in (0.5, 0.99, 1.0))
        return cls(p50, p99, most, round(budget_ms, 3))


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


def append_jsonl(path: Path, samples: Sequence[Sample]) -> None:
    """Append the samples to a file, one line each."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(sample.to_json() + "\n" for sample in samples)
