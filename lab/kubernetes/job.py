"""Jobs: pods that run until enough of them have succeeded, retried, counted once each, and cleaned up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from lab.kubernetes.api.errors import ApiError, NotFound
from lab.kubernetes.api.kinds import JOB, POD, Kind
from lab.kubernetes.api.objects import (
    Object,
    labels_of,
    moment,
    name_of,
    namespace_of,
    terminating,
    timestamp,
    uid_of,
)
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import holds
from lab.kubernetes.controller import Controller, Key, key_of, owned, owner_of, owner_reference
from lab.kubernetes.job_outcome import (
    FAILED,
    SUCCEEDED,
    Verdict,
    active,
    count,
    deadline_in,
    declare,
    ended_at,
    failed,
    finished,
    judge,
    leaving,
    over,
    phase,
    wanted,
)
from lab.kubernetes.recorder import Recorder
from lab.kubernetes.replicaset import pod_of

TRACKING: Final = "batch.kubernetes.io/job-tracking"
"""Finalizer of a pod that its Job has not counted yet."""
JOB_NAME: Final = "batch.kubernetes.io/job-name"
BACK_OFF_SECONDS: Final = 10.0
BACK_OFF_LIMIT_SECONDS: Final = 600.0


@dataclass
class _Streak:
    """Failures of one Job in a row, and when the last one was."""

    uid: str
    count: int = 0
    last: datetime | None = None

    def wait(self, base_seconds: float, now: datetime) -> float:
        """Seconds before the next pod may start: base, doubled with each failure."""
        if not self.count or self.last is None:
            return 0.0
        delay = min(base_seconds * 2.0 ** (self.count - 1), BACK_OFF_LIMIT_SECONDS)
        return max(0.0, delay - (now - self.last).total_seconds())


class JobController(Controller):
    """Runs the pods of every Job to its end."""

    primary = JOB

    def __init__(self, store: Store, *, back_off_seconds: float = BACK_OFF_SECONDS) -> None:
        super().__init__(store)
        self._back_off_seconds = back_off_seconds
        self._streaks: dict[Key, _Streak] = {}
        self._recorder = Recorder(store, "job-controller")

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """The pods it owns, and those it has to let go."""
        return {POD: _concerned}

    def reconcile(self, key: Key) -> float | None:
        """Count what has ended, judge, start or stop pods, tell."""
        job = None
        with suppress(NotFound):
            job = self.store.get(JOB, *key)
        self._let_go(key, job)
        if job is None:
            self._streaks.pop(key, None)
            return None
        ended = finished(job)
        return self._expire(job, ended) if ended else self._advance(job)

    def _advance(self, job: Object) -> float | None:
        now = self.store.clock()
        self._begin(job, now)
        self._count(job, self._pods(job), now)
        pods = self._pods(job)
        verdict = judge(job, pods, now)
        waits = [deadline_in(job, now)]
        failure: ApiError | None = None
        if verdict:
            self._end(job, pods, verdict, now)
        elif not terminating(job):
            try:
                waits.append(self._balance(job, pods, now))
            except ApiError as error:
                failure = error
        self._tell(job, verdict, now)
        if failure:
            raise failure
        return None if verdict else min((wait for wait in waits if wait is not None), default=None)

    def _pods(self, job: Object) -> list[Object]:
        return owned(self.store, POD, job)

    def _begin(self, job: Object, now: datetime) -> None:
        status = job.setdefault("status", {})
        if job["spec"].get("suspend"):
            if declare(job, "Suspended", True, "JobSuspended", "Job suspended", now):
                self._recorder.normal(job, "Suspended", "Job suspended")
        elif declare(job, "Suspended", False, "JobResumed", "Job resumed", now):
            status["startTime"] = timestamp(now)
            self._recorder.normal(job, "Resumed", "Job resumed")
        else:
            status.setdefault("startTime", timestamp(now))

    def _count(self, job: Object, pods: Iterable[Object], now: datetime) -> None:
        """Each pod once: the finalizer says that it has not been counted."""
        ended = [pod for pod in pods if _tracked(pod) and (phase(pod) == "Succeeded" or failed(job, pod))]
        known = self._streaks.get(key_of(job))
        if known is None or known.uid != uid_of(job):
            known = self._streaks[key_of(job)] = _Streak(uid_of(job))
        for pod in sorted(ended, key=lambda each: ended_at(each, now)):
            if phase(pod) == "Succeeded":
                known.count, known.last = 0, None
                self._add(job, "succeeded")
            else:
                known.count, known.last = known.count + 1, ended_at(pod, now)
                self._add(job, "failed")
            self._untrack(pod)

    def _add(self, job: Object, field: str) -> None:
        count(job, field, int(job["status"].get(field) or 0) + 1)

    def _end(self, job: Object, pods: Iterable[Object], verdict: Verdict, now: datetime) -> None:
        """Nothing goes on: what still runs is deleted, and with a failed Job counts as failed."""
        if declare(job, verdict.type, True, verdict.reason, verdict.message, now) and verdict.type == FAILED:
            self._recorder.warning(job, verdict.reason, verdict.message)
        for pod in pods:
            if _tracked(pod):
                if verdict.type == FAILED:
                    self._add(job, "failed")
                self._untrack(pod)
            if not over(pod) and not terminating(pod):
                self._delete(job, pod)

    def _balance(self, job: Object, pods: list[Object], now: datetime) -> float | None:
        """As many active pods as the Job wants; returns the seconds a failure makes the next one wait."""
        running = active(pods)
        aim = wanted(job, len(running))
        for pod in sorted(running, key=_worth)[: max(0, len(running) - aim)]:
            self._untrack(pod)  # withdrawn, not failed
            self._delete(job, pod)
        missing = aim - len(running)
        if job["spec"].get("podReplacementPolicy") == "Failed":
            missing -= len(leaving(pods))
        if missing <= 0:
            return None
        wait = self._streaks[key_of(job)].wait(self._back_off_seconds, now)
        if wait > 0:
            return wait
        for _ in range(missing):
            self._create(job)
        return None

    def _create(self, job: Object) -> None:
        pod = pod_of(job["spec"]["template"], namespace_of(job), owner_reference(JOB, job))
        pod["metadata"]["finalizers"] = [*pod["metadata"].get("finalizers", ()), TRACKING]
        try:
            made = self.store.create(POD, pod)
        except ApiError as error:
            self._recorder.warning(job, "FailedCreate", f"Error creating: {error.message}")
            raise
        self._recorder.normal(job, "SuccessfulCreate", f"Created pod: {name_of(made)}")

    def _delete(self, job: Object, pod: Object) -> None:
        with suppress(NotFound):
            self.store.delete(POD, namespace_of(pod), name_of(pod))
            self._recorder.normal(job, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")

    def _tell(self, job: Object, verdict: Verdict | None, now: datetime) -> None:
        status, pods = job["status"], self._pods(job)
        running = active(pods)
        count(job, "active", len(running))
        status["ready"] = sum(holds(pod, "Ready") for pod in running)
        status["terminating"] = len(leaving(pods))
        status["uncountedTerminatedPods"] = {}
        if verdict and not running and not status["terminating"]:
            declare(job, verdict.final, True, verdict.reason, verdict.message, now)
            if verdict.type == SUCCEEDED:
                status["completionTime"] = timestamp(now)
                self._recorder.normal(job, "Completed", "Job completed")
        with suppress(NotFound):  # one that is being deleted went with its last pod
            self.store.update(JOB, job, subresource="status")

    def _expire(self, job: Object, ended: Object) -> float | None:
        """A finished Job goes when its time to live is over."""
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None or terminating(job):
            return None
        left = seconds - (self.store.clock() - moment(ended["lastTransitionTime"])).total_seconds()
        if left > 0:
            return float(left)
        same = {"uid": uid_of(job)}
        self.store.delete(JOB, namespace_of(job), name_of(job), propagation="Foreground", preconditions=same)
        return None

    def _let_go(self, key: Key, job: Object | None) -> None:
        """Pods of a Job that is gone, or no longer owns them, are held back no longer."""
        uid = uid_of(job) if job else ""
        for pod in self.store.list(POD, key[0]):
            if _tracked(pod) and key in _concerned(pod) and (owner_of(pod) or {}).get("uid") != uid:
                self._untrack(pod)

    def _untrack(self, pod: Object) -> None:
        with suppress(NotFound):
            fresh = self.store.get(POD, namespace_of(pod), name_of(pod))
            if uid_of(fresh) == uid_of(pod) and _tracked(fresh):
                kept = [each for each in fresh["metadata"].pop("finalizers") if each != TRACKING]
                fresh["metadata"] |= {"finalizers": kept} if kept else {}
                self.store.update(POD, fresh)


def _tracked(pod: Object) -> bool:
    return TRACKING in (pod["metadata"].get("finalizers") or ())


def _concerned(pod: Object) -> list[Key]:
    """The Job that owns the pod, or that did."""
    owner = owner_of(pod)
    if owner:
        return [(namespace_of(pod), owner["name"])] if owner["kind"] == JOB.kind else []
    name = labels_of(pod).get(JOB_NAME)
    return [(namespace_of(pod), name)] if name and _tracked(pod) else []


def _worth(pod: Object) -> tuple[bool, bool, str]:
    """Sorts what goes first: unplaced, then not ready, then the oldest name."""
    return bool(pod["spec"].get("nodeName")), holds(pod, "Ready"), name_of(pod)
