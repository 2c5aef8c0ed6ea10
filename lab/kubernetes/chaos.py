"""Says of every declared fault whom it hits and whether it is in force; the links act on it by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from lab.kubernetes import faults
from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import HTTP_CHAOS, NETWORK_CHAOS, POD, Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import condition, set_condition
from lab.kubernetes.controller import Controller, Key, key_of
from lab.kubernetes.faults import FaultError
from lab.kubernetes.recorder import Recorder

SETTLE_SECONDS: Final = 0.3
"""What the site's edge, another process, has to hear of a fault before it is called injected or recovered."""


class FaultController(Controller):
    """Keeps the status of the faults of one kind."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._since: dict[str, tuple[bool, float]] = {}

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A pod may become one that a fault hits."""
        return {POD: lambda _pod: [key_of(each) for each in self.store.list(self.primary)]}

    def reconcile(self, key: Key) -> float | None:
        """Write the status; look again when time will have changed it."""
        try:
            fault = self.store.get(self.primary, *key)
        except NotFound:
            return None
        if terminating(fault):
            return None
        now = datetime.now(UTC)
        try:
            hit = self._hit(faults.fault_of(fault))
            end = faults.ends(fault)
        except FaultError as error:
            self._refuse(fault, error)
            return None
        runs = faults.runs(fault, now) and bool(hit)
        settling = self._settling(uid_of(fault), runs)
        self._write(fault, runs, settled=settling is None, hit=hit)
        if settling is not None:
            return settling
        return (end - now).total_seconds() + 0.001 if runs and end else None

    def _hit(self, fault: faults.Fault) -> list[str]:
        pods = (each for each in self.store.list(POD) if each in fault.selected)
        return sorted(f"{namespace_of(each)}/{name_of(each)}" for each in pods)

    def _settling(self, uid: str, runs: bool) -> float | None:
        """Seconds until everybody knows that the fault runs, or that it does not; None once they do."""
        now = time.monotonic()
        known, since = self._since.get(uid, (False, 0.0))
        if known != runs or uid not in self._since:
            since = now if runs or uid in self._since else 0.0
            self._since[uid] = (runs, since)
        left = since + SETTLE_SECONDS - now
        return left if left > 0 else None

    def _write(self, fault: Object, runs: bool, *, settled: bool, hit: list[str]) -> None:
        status = fault.setdefault("status", {})
        injected = runs == settled
        reason = "" if hit else "NoPodSelected"
        message = "" if hit else "the selector matches no pod"
        set_condition(status, "Selected", bool(hit), reason, message)
        set_condition(status, "AllInjected", runs and settled, reason, message)
        set_condition(status, "AllRecovered", not runs and settled)
        set_condition(status, "Paused", faults.paused(fault))
        status["experiment"] = {
            "desiredPhase": "Run" if runs else "Stop",
            "containerRecords": [
                {"id": each, "selectorKey": ".", "phase": "Injected" if injected else "Not Injected"} for each in hit
            ],
        }
        self.store.update(self.primary, fault, subresource="status")

    def _refuse(self, fault: Object, error: FaultError) -> None:
        if (condition(fault, "AllInjected") or {}).get("message") == str(error):
            return
        status: dict[str, Any] = fault.setdefault("status", {})
        for kind in ("Selected", "AllInjected"):
            set_condition(status, kind, False, "NotActedOn", str(error))
        set_condition(status, "AllRecovered", True)
        status["experiment"] = {"desiredPhase": "Stop", "containerRecords": []}
        self.store.update(self.primary, fault, subresource="status")
        Recorder(self.store, "chaos-mesh").warning(fault, "NotActedOn", str(error))


class NetworkChaosController(FaultController):
    """Status of NetworkChaos."""

    primary = NETWORK_CHAOS


class HttpChaosController(FaultController):
    """Status of HTTPChaos."""

    primary = HTTP_CHAOS
