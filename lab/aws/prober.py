"""Runs the declared health checks: every checker at its own pace, all of them together the health DNS goes by."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from lab.aws import check as rules
from lab.aws.check import ALARM, STATES, UNPROBED, Check, Checker, Result
from lab.aws.probe import probe
from lab.aws.prober_settings import CHECKER_LIMIT, DEFAULT_CHECKERS, FIRST_ADDRESS, REGIONS

Ask = Callable[[Check, str, str | None], Awaitable[Result]]
Lookup = Callable[[str], str | None]
"""Address of a host name, or None."""

log = logging.getLogger(__name__)


class Prober:
    """The checkers of every check, and what they think of it."""

    def __init__(
        self,
        lookup: Lookup,
        *,
        source_network: str | None = None,
        checkers: int = DEFAULT_CHECKERS,
        clock_factor: float = 1.0,
        healthy_share: float = rules.HEALTHY_SHARE,
        ask: Ask = probe,
    ) -> None:
        """`source_network`: three octets of the checkers' addresses; `clock_factor` divides the intervals.

        `healthy_share` other than Route 53's own is for seeing what its rule is good for.
        """
        if not 1 <= checkers <= CHECKER_LIMIT:
            raise ValueError(f"checkers is {checkers}; it must be from 1 to {CHECKER_LIMIT}: choose one that is")
        if clock_factor < 1:
            raise ValueError(f"clock_factor is {clock_factor}; it must be at least 1, which is real time")
        self._lookup, self._ask = lookup, ask
        self._source_network, self._checker_count, self.clock_factor = source_network, checkers, clock_factor
        self.healthy_share = healthy_share
        self._checks: dict[str, Check] = {}
        self._views: dict[str, list[Checker]] = {}
        self._tasks: dict[str, list[asyncio.Task[None]]] = {}
        self._status: dict[str, bool] = {}
        self._changed: dict[str, float] = {}
        self._heard: dict[str, bool] = {}
        self._last_known: dict[str, bool] = {}
        self._states: dict[str, str] = {}

    def hear(self, states: Mapping[str, str]) -> None:
        """Take in the states of alarms, by the id of the check that goes by each."""
        for check_id, state in states.items():
            check = self._checks.get(check_id)
            if check is None:
                continue
            self._states[check_id] = state
            if state in STATES:
                self._last_known[check_id] = STATES[state]
            well = self._heard[check_id] = rules.alarm_healthy(check, state, self._last_known.get(check_id))
            said = Result(well, f"{'Success' if well else 'Failure'}: alarm {check.alarm_name} is {state or 'gone'}")
            for checker in self._views.setdefault(check_id, self._checkers(check)):
                checker.observe(said, 1, time.time())
        self._note_changes()

    def apply(self, declared: Mapping[str, Check]) -> None:
        """Run exactly these checks; one whose declaration changed keeps its checkers' views."""
        for check_id in [known for known in self._checks if self._checks[known] != declared.get(known)]:
            for task in self._tasks.pop(check_id, ()):
                task.cancel()
            if check_id not in declared:
                self._views.pop(check_id, None)
                self._status.pop(check_id, None)
                self._changed.pop(check_id, None)
                self._heard.pop(check_id, None)
                self._last_known.pop(check_id, None)
                self._states.pop(check_id, None)
        self._checks = dict(declared)
        for check_id, check in declared.items():
            if check.type in UNPROBED or check.disabled or check_id in self._tasks:
                continue
            views = self._views[check_id] = self._checkers(check)
            self._tasks[check_id] = [
                asyncio.ensure_future(self._run(check, checker, number / len(views)))
                for number, checker in enumerate(views)
            ]
        self._note_changes()

    @property
    def goes_by_alarms(self) -> bool:
        """Whether any check wants to know of an alarm."""
        return any(check.type == ALARM for check in self._checks.values())

    def healthy(self, check_id: str) -> bool:
        """Whether records with this check may be answered."""
        return rules.healthy(check_id, self._checks, self._views, self.healthy_share, self._heard)

    def report(self) -> dict[str, Any]:
        """Every check with its status, since when, and what each checker saw last."""
        return {
            check_id: {
                "type": check.type,
                "healthy": self.healthy(check_id),
                "since": self._changed.get(check_id),
                "disabled": check.disabled,
                "inverted": check.inverted,
                "interval_seconds": check.interval_seconds,
                "failure_threshold": check.failure_threshold,
                "regions": list(check.regions),
                "children": list(check.children),
                "health_threshold": check.health_threshold,
                "alarm": check.alarm_name,
                "alarm_state": self._states.get(check_id, ""),
                "checkers": [asdict(checker) for checker in self._views.get(check_id, ())],
            }
            for check_id, check in self._checks.items()
        }

    async def stop(self) -> None:
        """End all checkers."""
        tasks = [task for tasks in self._tasks.values() for task in tasks]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _checkers(self, check: Check) -> list[Checker]:
        """Those in the check's regions, with the views they have already.

        All of them where none is: a lab of few checkers has not got every region, and a check that nobody looks at
        would be healthy for ever.
        """
        known = {checker.number: checker for checker in self._views.get(check.id, ())}
        every = [known.get(number) or self._checker(number) for number in range(self._checker_count)]
        return [checker for checker in every if not check.regions or checker.region in check.regions] or every

    def _checker(self, number: int) -> Checker:
        network = self._source_network
        return Checker(
            region=REGIONS[number % len(REGIONS)],
            address=f"{network}.{FIRST_ADDRESS + number}" if network else "127.0.0.1",
            number=number,
        )

    async def _run(self, check: Check, checker: Checker, share: float) -> None:
        """Probe for ever: the interval runs from one result to the next request, as Route 53's does.

        `share` of an interval passes before the first probe, and a bit of chance, so that checkers do not ask at once.
        """
        interval = check.interval_seconds / self.clock_factor
        chance = random.Random(f"{check.id} {checker.number}")  # noqa: S311  # spreads the checkers, hides nothing
        await asyncio.sleep((share + chance.random() / self._checker_count) * interval)
        source = checker.address if self._source_network else None
        while True:
            try:
                result = await self._look(check, source)
            except Exception as error:  # a checker that ended would count as one that sees the endpoint healthy
                log.exception("health check %s: the probe itself failed", check.id)
                result = Result(False, f"Failure: the probe itself failed: {type(error).__name__}: {error}.")
            checker.observe(result, check.failure_threshold, time.time())
            self._note_changes()
            await asyncio.sleep(interval)

    async def _look(self, check: Check, source: str | None) -> Result:
        address = check.ip_address or self._lookup(check.fqdn)
        if address is None:
            return Result(False, f"Failure: DNS resolution of {check.fqdn} failed: no zone here has an address.")
        return await self._ask(check, address, source)

    def _note_changes(self) -> None:
        for check_id in self._checks:
            now = self.healthy(check_id)
            if self._status.get(check_id) != now:
                if check_id in self._status:
                    log.warning("health check %s is now %s", check_id, "healthy" if now else "unhealthy")
                self._status[check_id] = now
                self._changed[check_id] = time.time()
