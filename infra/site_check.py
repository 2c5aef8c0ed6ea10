"""How the DNS service learns whether a site is well: it asks, or it listens to the site's own word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra import checkers, checks, golden_metric
from infra.checks import SettingError

ASKED: Final = "golden"
"""The checkers ask the site's edge; they come from the public internet."""
HEARD: Final = "alarm"
"""The site pushes a metric, and an alarm on it is the check."""


@dataclass(frozen=True, kw_only=True)
class SiteCheck:
    """An entry of `site_checks`."""

    site: str
    via: str
    treat_missing_data: str = ""
    """Has to be said with `via: alarm`; only breaching keeps the promise."""
    period_seconds: int = golden_metric.RESOLUTION_SECONDS
    periods: int = 1

    def __post_init__(self) -> None:
        key = f"site_checks of {self.site}"
        checks.label(key, self.site)
        checks.one_of(f"via in {key}", self.via, (ASKED, HEARD))
        if self.via == ASKED:
            if self.treat_missing_data:
                raise SettingError(
                    f"treat_missing_data in {key} is {self.treat_missing_data!r}; only a check with via: alarm has data"
                    " that can be missing: remove it"
                )
            return
        if self.treat_missing_data != golden_metric.BREACHING:
            raise SettingError(
                f"treat_missing_data in {key} is {self.treat_missing_data!r}; a site that says nothing is a lost one,"
                f" and a file that goes by an alarm says so: set it to {golden_metric.BREACHING}"
            )
        if self.period_seconds % golden_metric.RESOLUTION_SECONDS or not 60 <= self.period_seconds <= 300:
            raise SettingError(
                f"period_seconds in {key} is {self.period_seconds}; the DNS service goes by alarms of whole minutes:"
                " choose 60, 120, 180, 240 or 300"
            )
        checks.between(f"periods in {key}", self.periods, 1, 5)

    @property
    def detection_seconds(self) -> int:
        """Longest time until a site that fell silent leaves DNS."""
        return checkers.alarm_detection_seconds(period_seconds=self.period_seconds, periods=self.periods)
