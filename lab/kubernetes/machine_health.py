"""MachineHealthChecks: an ill Machine is replaced, unless so many are ill that something else must be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import MACHINE, MACHINE_HEALTH_CHECK, NODE, Kind
from lab.kubernetes.api.objects import Object, clone, labels_of, moment, name_of, namespace_of, terminating
from lab.kubernetes.api.selectors import matches_selector
from lab.kubernetes.condition import condition, set_condition
from lab.kubernetes.controller import Controller, Key, key_of
from lab.kubernetes.recorder import Recorder

STARTUP_SECONDS: Final = 600.0
"""What a check that says nothing gives a Machine to become a Node."""
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_RANGE: Final = re.compile(r"\[(\d+)-(\d+)\]")


def seconds_of(text: str) -> float:
    """A duration such as 20m or 1h30m; ValueError for anything else."""
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise ValueError(f"duration {text!r} is not written like 300s, 20m or 1h30m")
    hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def allowed(check: Object, ill: int, machines: int) -> bool:
    """Whether so many ill machines may be replaced; a range goes before maxUnhealthy, a share is rounded down."""
    spec = check["spec"]
    if found := _RANGE.fullmatch(str(spec.get("unhealthyRange") or "")):
        return int(found[1]) <= ill <= int(found[2])
    most = str(spec.get("maxUnhealthy", "100%"))
    limit = int(most[:-1]) * machines // 100 if most.endswith("%") else int(most)
    return ill <= limit


class MachineHealthController(Controller):
    """Deletes an ill Machine, whose MachineDeployment then makes another, as far as the check's guard lets it.

    As in Cluster API a machine that is on its way to being ill counts against the guard from its first moment.
    """

    primary = MACHINE_HEALTH_CHECK

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """Machines and Nodes: every check looks at its own."""
        return {MACHINE: self._checks, NODE: self._checks}

    def _checks(self, _changed: Object) -> list[Key]:
        return [key_of(check) for check in self.store.list(MACHINE_HEALTH_CHECK)]

    def reconcile(self, key: Key) -> float | None:
        """Count, then replace what is ill for long enough."""
        try:
            check = self.store.get(MACHINE_HEALTH_CHECK, *key)
        except NotFound:
            return None
        recorder = Recorder(self.store, "machinehealthcheck-controller")
        machines = [
            each
            for each in self.store.list(MACHINE, key[0])
            if not terminating(each) and matches_selector(check["spec"].get("selector"), labels_of(each))
        ]
        try:
            left = {name_of(each): self._patience(check, each) for each in machines}
            unwell = [each for each in machines if left[name_of(each)] is not None]
            may = allowed(check, len(unwell), len(machines))
        except ValueError as error:
            recorder.warning(check, "InvalidCheck", str(error))
            return None
        self._tell(check, machines, unwell, may=may)
        due = [each for each in unwell if (left[name_of(each)] or 0.0) <= 0]
        for machine in due:
            if not may:
                message = f"Remediation restricted: {len(unwell)} of {len(machines)} machines are not healthy"
                recorder.warning(check, "RemediationRestricted", message)
            elif check["spec"].get("remediationTemplate"):
                recorder.warning(machine, "NotActedOn", "the lab does not act on remediation templates")
            else:
                recorder.normal(machine, "MachineMarkedUnhealthy", "replaced: its node was ill for too long")
                self.store.delete(MACHINE, namespace_of(machine), name_of(machine))
        waiting = [seconds for seconds in left.values() if seconds is not None and seconds > 0]
        return min(waiting, default=None)

    def _patience(self, check: Object, machine: Object) -> float | None:
        """Seconds until the machine counts as ill, none or fewer when it does; None while it is well."""
        spec, now = check["spec"], datetime.now(UTC)
        reference = (machine.get("status") or {}).get("nodeRef")
        if reference is None:
            limit = spec.get("nodeStartupTimeout")
            patience = STARTUP_SECONDS if limit is None else seconds_of(str(limit))
            return patience - (now - moment(machine["metadata"]["creationTimestamp"])).total_seconds()
        try:
            node = self.store.get(NODE, None, reference["name"])
        except NotFound:
            return 0.0
        found = []
        for wanted in spec.get("unhealthyConditions") or []:
            has = condition(node, wanted["type"])
            if has is not None and has["status"] == wanted["status"]:
                lasted = (now - moment(has["lastTransitionTime"])).total_seconds()
                found.append(seconds_of(wanted["timeout"]) - lasted)
        return min(found, default=None)

    def _tell(self, check: Object, machines: list[Object], unwell: list[Object], *, may: bool) -> None:
        before = clone(check.get("status") or {})
        status = check.setdefault("status", {})
        status["observedGeneration"] = check["metadata"].get("generation", 1)
        status["expectedMachines"] = len(machines)
        status["currentHealthy"] = len(machines) - len(unwell)
        set_condition(status, "RemediationAllowed", may, "" if may else "TooManyUnhealthy")
        if status != before:
            self.store.update(MACHINE_HEALTH_CHECK, check, subresource="status")
