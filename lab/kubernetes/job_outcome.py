"""What the pods of a Job amount to: what counts as failed, when the Job is over and why, what its status says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from lab.kubernetes.api.objects import Object, moment, terminating, timestamp
from lab.kubernetes.condition import condition, holds

SUCCEEDED: Final = "SuccessCriteriaMet"
FAILED: Final = "FailureTarget"
_FINAL: Final = {SUCCEEDED: "Complete", FAILED: "Failed"}


@dataclass(frozen=True)
class Verdict:
    """How a Job ends, known before the last of its pods has gone."""

    type: str
    reason: str
    message: str

    @property
    def final(self) -> str:
        """The condition once no pod is left."""
        return _FINAL[self.type]


_DONE: Final = Verdict(SUCCEEDED, "CompletionsReached", "Reached expected number of succeeded pods")
_TOO_OFTEN: Final = Verdict(FAILED, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
_TOO_LONG: Final = Verdict(FAILED, "DeadlineExceeded", "Job was active longer than specified deadline")


def finished(job: Object) -> Object | None:
    """The condition that says that the Job is over; None while it is not."""
    return next((condition(job, kind) for kind in _FINAL.values() if holds(job, kind)), None)


def phase(pod: Object) -> str:
    """status.phase, empty before there is one."""
    return str((pod.get("status") or {}).get("phase") or "")


def over(pod: Object) -> bool:
    """Whether nothing of the pod will run again."""
    return phase(pod) in {"Succeeded", "Failed"}


def active(pods: Iterable[Object]) -> list[Object]:
    """Pods that work towards the Job's end, or will."""
    return [pod for pod in pods if not over(pod) and not terminating(pod)]


def leaving(pods: Iterable[Object]) -> list[Object]:
    """Pods that are deleted and still run."""
    return [pod for pod in pods if not over(pod) and terminating(pod)]


def failed(job: Object, pod: Object) -> bool:
    """Whether the pod counts as failed: a deleted one does, as soon as the Job would replace it."""
    if phase(pod) == "Succeeded":
        return False
    if phase(pod) == "Failed" or not terminating(pod):
        return phase(pod) == "Failed"
    waits = job["spec"].get("podReplacementPolicy") == "Failed"
    return not waits or not pod["metadata"].get("deletionGracePeriodSeconds")


def ended_at(pod: Object, now: datetime) -> datetime:
    """When the pod ended, for the delay before the next one."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    ends = [each["state"]["terminated"]["finishedAt"] for each in statuses if "terminated" in each.get("state", {})]
    if ends:
        return moment(max(ends))
    meta = pod["metadata"]
    if terminating(pod):
        return moment(meta["deletionTimestamp"]) - timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    return now


def judge(job: Object, pods: Iterable[Object], now: datetime) -> Verdict | None:
    """The Job's verdict, once pronounced the same for ever; None while it may go on."""
    for kind in _FINAL:
        if holds(job, kind):
            known = condition(job, kind) or {}
            return Verdict(kind, known.get("reason", ""), known.get("message", ""))
    pods = list(pods)
    limit = int(job["spec"].get("backoffLimit", 6))
    restarts = _restarts(job, pods)
    if int(job["status"].get("failed") or 0) > limit or (restarts and restarts >= limit):
        return _TOO_OFTEN
    left = deadline_in(job, now)
    if left is not None and left <= 0:
        return _TOO_LONG
    successes, completions = int(job["status"].get("succeeded") or 0), job["spec"].get("completions")
    enough = successes > 0 and not active(pods) if completions is None else successes >= completions
    return _DONE if enough else None


def _restarts(job: Object, pods: Iterable[Object]) -> int:
    """Restarts in place, which count as failures where the policy is to restart."""
    if job["spec"]["template"]["spec"].get("restartPolicy") != "OnFailure":
        return 0
    fields = ("initContainerStatuses", "containerStatuses")
    statuses = [
        pod["status"].get(name) or () for pod in pods if phase(pod) in {"Pending", "Running"} for name in fields
    ]
    return sum(int(each.get("restartCount") or 0) for listed in statuses for each in listed)


def deadline_in(job: Object, now: datetime) -> float | None:
    """Seconds until the Job has been active for too long; None without a limit, and while it does not count."""
    seconds, start = job["spec"].get("activeDeadlineSeconds"), job["status"].get("startTime")
    if seconds is None or start is None or job["spec"].get("suspend"):
        return None
    return float(seconds) - (now - moment(start)).total_seconds()


def wanted(job: Object, running: int) -> int:
    """How many pods should be active, with `running` of them active now."""
    spec, successes = job["spec"], int(job["status"].get("succeeded") or 0)
    if spec.get("suspend"):
        return 0
    if spec.get("completions") is None:
        return running if successes else int(spec["parallelism"])
    return max(0, min(int(spec["parallelism"]), int(spec["completions"]) - successes))


def declare(job: Object, kind: str, value: bool, reason: str, message: str, now: datetime) -> bool:
    """Set one condition of the Job; whether that is news. One that is False is told only where it was True."""
    conditions: list[dict[str, Any]] = job["status"].setdefault("conditions", [])
    if holds(job, kind) == value:
        return False
    job["status"]["conditions"] = [each for each in conditions if each["type"] != kind]
    times = dict.fromkeys(("lastProbeTime", "lastTransitionTime"), timestamp(now))
    told = {"type": kind, "status": str(value), **times, "reason": reason, "message": message}
    job["status"]["conditions"].append(told)
    return True


def count(job: Object, field: str, number: int) -> None:
    """Write one number of the status; a zero is left out, as the API does."""
    if number:
        job["status"][field] = number
    else:
        job["status"].pop(field, None)
