"""Schedules of five fields, in UTC: minute, hour, day of month, month, weekday."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Self

_SHORTHANDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAYS_AHEAD: Final = 366 * 8
"""From one 29 February over a century without one to the next."""


@dataclass(frozen=True)
class _Range:
    """What one field may hold."""

    title: str
    first: int
    last: int
    names: tuple[str, ...] = ()

    def number(self, word: str) -> int:
        """A value by number or name; ValueError."""
        if word.lower() in self.names:
            return self.names.index(word.lower()) + self.first
        if not word.isdecimal() or not self.first <= int(word) <= self.last:
            raise ValueError(f"{self.title} {word!r} is not within {self.first} to {self.last}; correct the schedule")
        return int(word)

    def values(self, text: str) -> tuple[frozenset[int], bool]:
        """The values a field names, and whether it leaves the choice open; ValueError."""
        chosen: set[int] = set()
        free = False
        for part in text.split(","):
            span, slash, pace = part.partition("/")
            if slash and (not pace.isdecimal() or int(pace) < 1):
                raise ValueError(f"{self.title} {part!r}: the step is not a number of at least 1; correct the schedule")
            step = int(pace) if slash else 1
            first, last = self._span(span, open_end=bool(slash))
            free |= span in ("*", "?") and step == 1
            chosen.update(range(first, last + 1, step))
        return frozenset(chosen), free

    def _span(self, span: str, *, open_end: bool) -> tuple[int, int]:
        if span in ("*", "?"):
            return self.first, self.last
        low, dash, high = span.partition("-")
        first = self.number(low)
        last = self.number(high) if dash else self.last if open_end else first
        if last < first:
            raise ValueError(f"{self.title} {span!r} ends before it begins; correct the schedule")
        return first, last


_FIELDS: Final = (
    _Range("minute", 0, 59),
    _Range("hour", 0, 23),
    _Range("day of month", 1, 31),
    _Range("month", 1, 12, _MONTHS),
    _Range("weekday", 0, 6, _WEEKDAYS),
)


@dataclass(frozen=True)
class Schedule:
    """Moments that recur, to the minute."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    both: bool
    """Day and weekday have to fit; otherwise, as cron has it when both are named, one of them is enough."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From five fields or one of the shorthands such as @hourly; ValueError."""
        fields = _SHORTHANDS.get(text.strip(), text).split()
        if len(fields) != len(_FIELDS):
            raise ValueError(f"{text!r} has not five fields; write minute hour day month weekday")
        parsed = [kind.values(field) for kind, field in zip(_FIELDS, fields, strict=True)]
        (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = parsed
        return cls(tuple(sorted(minutes)), tuple(sorted(hours)), days, months, weekdays, any_day or any_weekday)

    def following(self, moment: datetime) -> datetime | None:
        """The first time after `moment`; None when there is none within eight years."""
        for ahead in range(_DAYS_AHEAD):
            for found in self._of(moment.date() + timedelta(days=ahead)):
                if found > moment:
                    return found
        return None

    def latest(self, after: datetime, until: datetime) -> datetime | None:
        """The last time after `after` and not after `until`."""
        for back in range((until.date() - after.date()).days + 1):
            for found in reversed(list(self._of(until.date() - timedelta(days=back)))):
                if found <= until:
                    return found if found > after else None
        return None

    def _of(self, day: date) -> Iterator[datetime]:
        weekday = day.isoweekday() % 7
        fits = (day.day in self.days, weekday in self.weekdays)
        if day.month in self.months and (all(fits) if self.both else any(fits)):
            for hour in self.hours:
                for minute in self.minutes:
                    yield datetime.combine(day, time(hour, minute), UTC)
