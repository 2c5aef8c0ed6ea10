"""A timeline as a picture: answers by site as bars, and every failure as a tick of its own row.

Bars add buckets up to a width that can be seen. Ticks are only ever made wider than their bucket, never left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

from drills.timeline import FAILED, Timeline

WIDTH: Final = 960
HEIGHT: Final = 190
ROW: Final = 16
MOST_BARS: Final = 240
LEAST_BAR_SECONDS: Final = 0.5
"""Fewer requests than that lets in would make bars of chance."""
SITE_COLOURS: Final = ("var(--site-0)", "var(--site-1)", "var(--site-2)", "var(--site-3)")
TICK_STEPS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
MOST_TICKS: Final = 16
LABEL_ROWS: Final = 3
WORDS: Final = {"broken": "fault", "effect": "effect", "restored": "restored", "well": "well again"}
"""Moments of a stage that are marked, and what the marks say unless the stage says it itself (`effect_word`)."""
LABEL_WIDTH: Final = 90


@dataclass(frozen=True)
class Box:
    """A rectangle with what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str


@dataclass(frozen=True)
class Mark:
    """A moment with its name."""

    x: float
    y: float
    word: str


@dataclass
class Chart:
    """Everything the page draws; lengths in the picture's own units."""

    bars: list[Box] = field(default_factory=list)
    ticks: list[Box] = field(default_factory=list)
    rows: list[tuple[float, str, int]] = field(default_factory=list)
    """Of failures: baseline, kind, how many."""
    marks: list[Mark] = field(default_factory=list)
    seconds: list[tuple[float, str]] = field(default_factory=list)
    rates: list[tuple[float, str]] = field(default_factory=list)
    legend: dict[str, str] = field(default_factory=dict)
    bar_seconds: float = 0.0
    width: int = WIDTH
    height: int = HEIGHT
    bottom: float = HEIGHT


def chart(measures: dict[str, Any]) -> Chart | None:
    """The picture of a journal's measures; None when nothing was asked."""
    if not measures.get("timeline"):
        return None
    timeline = Timeline.from_journal(measures["timeline"])
    if not timeline.buckets:
        return None
    drawn = Chart(legend={site: SITE_COLOURS[i % len(SITE_COLOURS)] for i, site in enumerate(timeline.sites)})
    length = timeline.buckets * timeline.bucket_seconds
    per_bar = max(1, math.ceil(max(LEAST_BAR_SECONDS, length / MOST_BARS) / timeline.bucket_seconds))
    drawn.bar_seconds = round(per_bar * timeline.bucket_seconds, 2)
    _bars(drawn, timeline, per_bar)
    _failures(drawn, timeline)
    first = timeline.first_seconds
    _seconds(drawn, first, length)
    _marks(drawn, _moments(measures.get("stages") or []), first, length)
    return drawn


def _bars(drawn: Chart, timeline: Timeline, per_bar: int) -> None:
    """Stacked answers per second by site, on a scale up to a round number."""
    starts = range(0, timeline.buckets, per_bar)
    rates = {
        site: [fmean(row[start : start + per_bar]) / timeline.bucket_seconds for start in starts]
        for site, row in timeline.counts.items()
        if site in drawn.legend
    }
    highest = max((sum(column) for column in zip(*rates.values(), strict=True)), default=0.0)
    top = _round_up(highest)
    drawn.rates = [(round(HEIGHT * (1 - share), 1), f"{top * share:g}") for share in (0.0, 0.5, 1.0)]
    width = WIDTH * per_bar / timeline.buckets
    for number, start in enumerate(starts):
        base = float(HEIGHT)
        at = timeline.first_seconds + start * timeline.bucket_seconds
        for site, row in rates.items():
            height = HEIGHT * row[number] / top
            if height:
                base -= height
                left, right = round(number * width, 2), round(min((number + 1) * width, WIDTH), 2)
                title = f"{at:+.1f} s: {site} {row[number]:.0f}/s"
                drawn.bars.append(
                    Box(
                        left,
                        round(base, 2),
                        round(right - left, 2),
                        round(height, 2),
                        drawn.legend[site],
                        title,
                    )
                )


def _failures(drawn: Chart, timeline: Timeline) -> None:
    """One row for each kind; neighbouring pixels that are hit become one tick."""
    pixel = WIDTH / timeline.buckets
    drawn.bottom = HEIGHT + 24.0
    for label in timeline.failures:
        row, kind = timeline.counts[label], label.removeprefix(FAILED)
        runs: list[list[int]] = []
        """Each: first pixel, last pixel, first bucket, last bucket, count."""
        for bucket, count in enumerate(row):
            if not count:
                continue
            here, beyond = int(bucket * pixel), max(int(bucket * pixel), math.ceil((bucket + 1) * pixel) - 1)
            if runs and here <= runs[-1][1] + 1:
                runs[-1][1], runs[-1][3] = beyond, bucket
                runs[-1][4] += count
            else:
                runs.append([here, beyond, bucket, bucket, count])
        for here, beyond, first, last, count in runs:
            since, till = (timeline.first_seconds + b * timeline.bucket_seconds for b in (first, last + 1))
            title = f"{since:+.2f} s to {till:+.2f} s: {count} {kind}"
            drawn.ticks.append(
                Box(here, drawn.bottom + 2, max(1.5, beyond - here + 1), ROW - 4, "var(--failure)", title)
            )
        drawn.rows.append((drawn.bottom + ROW - 4, kind, sum(row)))
        drawn.bottom += ROW


def _seconds(drawn: Chart, first: float, length: float) -> None:
    """Ticks of the time axis at round seconds."""
    step = next((step for step in TICK_STEPS if length / step <= MOST_TICKS), TICK_STEPS[-1])
    for number in range(math.ceil(first / step), math.floor((first + length) / step) + 1):
        at = number * step
        drawn.seconds.append((round(WIDTH * (at - first) / length, 1), f"{at:+d} s" if at else "0"))


def _moments(stages: list[dict[str, Any]]) -> list[tuple[float, str]]:
    """What happened when, in a journal's stages; where there are several, a fault has its stage's name."""
    return [
        (stage[moment], stage["name"] if moment == "broken" and len(stages) > 1 else stage.get(f"{moment}_word", word))
        for stage in stages
        for moment, word in WORDS.items()
        if stage.get(moment) is not None
    ]


def _marks(drawn: Chart, moments: list[tuple[float, str]], first: float, length: float) -> None:
    """Named moments; words that would cover each other go to different heights."""
    taken = [-math.inf] * LABEL_ROWS
    for at, word in sorted(moments):
        x = min(max(WIDTH * (at - first) / length, 0.0), float(WIDTH))
        row = next((row for row, end in enumerate(taken) if x >= end), LABEL_ROWS - 1)
        taken[row] = x + LABEL_WIDTH
        drawn.marks.append(Mark(round(x, 1), -6.0 - 13 * row, word))


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ..."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)
