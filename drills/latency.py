"""Latency in HdrHistograms: 1 microsecond to 10 minutes at three significant digits, and two of them can be added.

The text form is the V2 encoding that every HdrHistogram library reads (https://hdrhistogram.github.io/HdrHistogram/).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]  # ships no types

MOST_MICROSECONDS: Final = 600_000_000
SIGNIFICANT_DIGITS: Final = 3
QUANTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}


class Histogram:
    """Latencies that were recorded; what is longer than it can hold counts as the longest it can."""

    def __init__(self) -> None:
        self._counts = HdrHistogram(1, MOST_MICROSECONDS, SIGNIFICANT_DIGITS)

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Histogram:
        """With these latencies."""
        made = cls()
        for value in seconds:
            made._counts.record_value(min(MOST_MICROSECONDS, max(1, round(value * 1e6))))
        return made

    @classmethod
    def merged(cls, encoded: Iterable[str]) -> Histogram:
        """The sum of histograms in their text form, as of several runs."""
        made = cls()
        for text in encoded:
            made._counts.decode_and_add(text.encode("ascii"))
        return made

    @property
    def count(self) -> int:
        """How many were recorded."""
        return int(self._counts.get_total_count())

    def encode(self) -> str:
        """The text form: V2, compressed, base64."""
        return str(self._counts.encode().decode("ascii"))

    def quantiles_ms(self) -> dict[str, float | None]:
        """The usual ones in milliseconds, within a thousandth of their value; None when nothing was recorded."""
        if not self.count:
            return dict.fromkeys(QUANTILES)
        found = self._counts.get_percentile_to_value_dict(list(QUANTILES.values()))
        return {name: round(found[percentile] / 1000, 3) for name, percentile in QUANTILES.items()}
