"""What a drill has seen: the samples of its users, the moments that divide them, and the answers of its probes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from drills import load, measure
from drills.drill import Finding as Finding
from drills.drill import Observation, Verdict
from stacks.contract import Deployment


@dataclass
class Moments:
    """When one stage began, was seen, had its effect and ended; seconds on the monotonic clock."""

    name: str
    broken: float
    """The actions were about to be applied."""
    bitten: float | None = None
    """The symptom was seen."""
    effect: float | None = None
    """Every probe of the effect held."""
    lasted: bool = False
    """Whether the symptom was there to the end."""
    restored: float | None = None
    """The undo began."""
    well: float | None = None
    """What has to hold after the undo held again."""
    looks: int = 0
    """How often the probes that have to hold all the time were asked."""
    breaches: list[Observation] = field(default_factory=list)
    """Answers of the probes that have to hold all the time and did not."""


@dataclass
class Evidence:
    """All of one drill."""

    deployment: Deployment
    site: str
    samples: list[load.Sample] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    stages: list[Moments] = field(default_factory=list)
    after: list[Observation] = field(default_factory=list)
    """The steady state's probes at the end."""
    residue: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """What else a drill's own probes have counted, by name."""
    last_failure: float | None = None
    source_addresses: tuple[str, ...] = ()
    """Addresses some users were told to ask from."""

    def add(self, sample: load.Sample) -> None:
        """Take one finished request."""
        self.samples.append(sample)
        if sample.outcome != measure.OK:
            self.last_failure = max(sample.finished, self.last_failure or 0.0)

    @property
    def broken(self) -> float | None:
        """When the first stage began."""
        return self.stages[0].broken if self.stages else None

    @property
    def restored(self) -> float | None:
        """When the last stage was put back."""
        return self.stages[-1].restored if self.stages else None

    def quiet_for(self, seconds: float) -> bool:
        """Whether nothing has failed for that long, nor has anything been broken since."""
        return time.monotonic() - max(self.started, self.broken or 0.0, self.last_failure or 0.0) >= seconds

    def recovery_seconds(self, stage: int = 0) -> float:
        """From the start of a stage to the end of the last request that failed before the stage was put back."""
        moments = self.stages[stage]
        until = moments.restored or time.monotonic()
        hit = [s for s in self.samples if s.finished >= moments.broken and s.intended < until]
        return measure.recovery_seconds(hit, moments.broken)

    def outside_recovery(self) -> list[load.Sample]:
        """Requests before the first stage, and those after its recovery."""
        begun = self.broken
        if begun is None:
            return self.samples
        over = begun + self.recovery_seconds()
        return [s for s in self.samples if s.finished < begun or s.intended > over]


@dataclass
class Result:
    """How the drill ended and what it rests on."""

    verdict: Verdict
    reason: str
    findings: list[Finding] = field(default_factory=list)
    measures: dict[str, Any] = field(default_factory=dict)
