"""The timeline keeps 20 ms buckets small, and its picture leaves no failure out."""

import json
import random
from dataclasses import replace

import pytest

from drills.chart import HEIGHT, WIDTH, Chart, chart
from drills.load import Outcome, Sample
from drills.timeline import Timeline


def sample(at: float, outcome: Outcome = Outcome.OK, site: str | None = "public") -> Sample:
    return Sample(at, at, at + 0.1, 0, "dns", site, "127.20.0.10", 200, outcome, None, "")


def ninety_seconds(*failed: float) -> list[Sample]:
    """50 requests/s on two sites around a fault at 1000; those at the given seconds after it are refused."""
    samples = [sample(990 + turn / 50, site=("public", "private")[turn % 3 == 0]) for turn in range(4500)]
    broken = {round((10 + at) * 50) for at in failed}
    return [replace(s, outcome=Outcome.REFUSED, site=None) if n in broken else s for n, s in enumerate(samples)]


def drawn(samples: list[Sample], **measures: object) -> Chart:
    made = chart({"timeline": Timeline.of(samples, 1000).to_journal(), **measures})
    assert made is not None
    return made


def test_buckets_count_20_ms_before_and_after_the_fault() -> None:
    line = Timeline.of([sample(9.99), sample(10.01, Outcome.REFUSED, None), sample(10.05)], origin=10)
    assert (line.first_seconds, line.buckets) == (-0.02, 4)
    assert line.counts == {"failed: refused": [0, 1, 0, 0], "public": [1, 0, 0, 1]}


def test_a_timeline_survives_a_journal() -> None:
    chance = random.Random(4)  # noqa: S311  no secret
    samples = [sample(1000 + chance.uniform(-10, 80), chance.choice(list(Outcome))) for _ in range(3000)]
    line = Timeline.of(samples, 1000)
    assert Timeline.from_journal(json.loads(json.dumps(line.to_journal()))) == line
    assert sum(map(sum, line.counts.values())) == 3000


def test_ninety_seconds_stay_small_in_a_journal() -> None:
    samples = ninety_seconds(*(after / 50 for after in range(0, 1500, 2)))
    assert len(json.dumps(Timeline.of(samples, 1000).to_journal(), indent=1)) < 25_000


def test_nothing_asked_is_no_picture() -> None:
    assert chart({}) is None
    assert chart({"timeline": Timeline.of([], 0).to_journal()}) is None


def test_a_single_failure_of_20_ms_is_seen_in_ninety_seconds() -> None:
    picture = drawn(ninety_seconds(33.34))
    (tick,) = picture.ticks
    assert tick.width >= 1.5
    assert tick.x == pytest.approx(WIDTH * 43.34 / 90, abs=1)
    assert tick.title == "+33.34 s to +33.36 s: 1 refused"
    assert picture.rows[0][1:] == ("refused", 1)


def test_time_without_failures_between_two_of_them_stays_empty() -> None:
    first, second = drawn(ninety_seconds(10, 10.02, 50)).ticks
    assert second.x - (first.x + first.width) > WIDTH * 39 / 90
    assert first.title.endswith(": 2 refused")


@pytest.mark.parametrize("length", [0.02, 3.0, 90.0, 3600.0])
def test_every_failure_is_under_a_tick_at_any_length(length: float) -> None:
    chance = random.Random(7)  # noqa: S311  no secret
    moments = sorted(chance.uniform(0, length) for _ in range(200))
    samples = [sample(1000 + at, chance.choice([Outcome.TIMEOUT, Outcome.WRONG]), None) for at in moments]
    picture = drawn([sample(1000.0), *samples, sample(1000 + length - 0.001)])
    counted = sum(int(tick.title.split(": ")[1].split()[0]) for tick in picture.ticks)
    assert counted == 200
    pixel = WIDTH / Timeline.of([sample(1000.0), *samples, sample(1000 + length - 0.001)], 1000).buckets
    for failed in samples:
        x = int((failed.intended - 1000) / 0.02 + 1e-6) * pixel
        rows = {y - 12: kind for y, kind, _ in picture.rows}
        assert any(
            tick.x - 1 <= x <= tick.x + tick.width + 1 and rows[tick.y - 2] == failed.outcome for tick in picture.ticks
        )


def test_bars_add_up_to_what_was_answered_and_stay_in_the_picture() -> None:
    picture = drawn(ninety_seconds(1, 2, 3))
    rates = sum(bar.height for bar in picture.bars) / HEIGHT * float(picture.rates[-1][1])
    assert rates * picture.bar_seconds == pytest.approx(4497, rel=0.01)
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT + 0.1 for bar in picture.bars)
    assert all(bar.x >= 0 and bar.x + bar.width <= WIDTH + 0.1 for bar in picture.bars)
    assert len(picture.bars) < 500


def test_moments_are_marked_where_they_were_and_words_do_not_cover_each_other() -> None:
    picture = drawn(
        ninety_seconds(),
        stages=[
            {
                "name": "site lost",
                "broken": 0.0,
                "effect": 2.0,
                "effect_word": "dropped",
                "restored": 40.0,
                "well": None,
            }
        ],
    )
    assert [(mark.word, mark.x) for mark in picture.marks] == [
        ("fault", pytest.approx(WIDTH * 10 / 90, abs=1)),
        ("dropped", pytest.approx(WIDTH * 12 / 90, abs=1)),
        ("restored", pytest.approx(WIDTH * 50 / 90, abs=1)),
    ]
    assert picture.marks[0].y != picture.marks[1].y
    assert picture.marks[0].y == picture.marks[2].y


def test_a_second_fault_is_marked_by_its_name() -> None:
    stages = [{"name": "site lost", "broken": 0.0, "restored": 20.0}, {"name": "relapse", "broken": 30.0}]
    assert [mark.word for mark in drawn(ninety_seconds(), stages=stages).marks] == ["site lost", "restored", "relapse"]


def test_only_failures_are_a_picture_too() -> None:
    picture = drawn([sample(1000 + turn / 50, Outcome.TIMEOUT, None) for turn in range(100)])
    assert (len(picture.bars), len(picture.ticks)) == (0, 1)
