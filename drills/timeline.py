"""What happened when, in buckets of 20 ms: small enough for a journal, fine enough to see a flap.

In a journal a label's counts are text: one number a bucket, `0x120` for 120 zeros in a row. 90 s are some 10 kB.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from drills.sample import Outcome, Sample

BUCKET_SECONDS: Final = 0.02
FAILED: Final = "failed: "
"""What the labels of failures begin with; the others are sites."""


@dataclass(frozen=True)
class Timeline:
    """Right answers by site and failures by kind, per bucket of intended start; time 0 is the fault's."""

    bucket_seconds: float
    first_seconds: float
    """Begin of the first bucket."""
    buckets: int
    counts: dict[str, list[int]]
    """For each label one count a bucket."""

    @classmethod
    def of(cls, samples: Iterable[Sample], origin: float, bucket_seconds: float = BUCKET_SECONDS) -> Timeline:
        """Samples whose origin is a moment of their own clock."""
        found: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for sample in samples:
            label = (sample.site or "unknown") if sample.outcome is Outcome.OK else f"{FAILED}{sample.outcome}"
            found[label][math.floor((sample.intended - origin) / bucket_seconds + 1e-6)] += 1
        if not found:
            return cls(bucket_seconds, 0.0, 0, {})
        first = min(min(row) for row in found.values())
        buckets = max(max(row) for row in found.values()) - first + 1
        counts = {label: [found[label].get(first + index, 0) for index in range(buckets)] for label in sorted(found)}
        return cls(bucket_seconds, round(first * bucket_seconds, 6), buckets, counts)

    @property
    def sites(self) -> list[str]:
        """Labels of right answers."""
        return [label for label in self.counts if not label.startswith(FAILED)]

    @property
    def failures(self) -> list[str]:
        """Labels of failures."""
        return [label for label in self.counts if label.startswith(FAILED)]

    def to_journal(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "bucket_seconds": self.bucket_seconds,
            "first_seconds": self.first_seconds,
            "buckets": self.buckets,
            "counts": {label: _shortened(row) for label, row in self.counts.items()},
        }

    @classmethod
    def from_journal(cls, content: dict[str, Any]) -> Timeline:
        """From such JSON."""
        counts = {label: _lengthened(text) for label, text in content["counts"].items()}
        return cls(content["bucket_seconds"], content["first_seconds"], content["buckets"], counts)


def _shortened(row: list[int]) -> str:
    runs = ((count, len(list(same))) for count, same in itertools.groupby(row))
    return " ".join(f"{count}x{length}" if length > 2 else " ".join([str(count)] * length) for count, length in runs)


def _lengthened(text: str) -> list[int]:
    row: list[int] = []
    for run in text.split():
        count, _, length = run.partition("x")
        row += [int(count)] * int(length or 1)
    return row
