"""CronJobs: a Job at every time of a schedule, in UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from lab.kubernetes.api.cron import Schedule
from lab.kubernetes.api.errors import AlreadyExists, ApiError, NotFound
from lab.kubernetes.api.kinds import CRON_JOB, JOB, Kind
from lab.kubernetes.api.objects import Object, clone, moment, name_of, namespace_of, terminating, timestamp, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.controller import Controller, Key, owned, owned_by, owner_reference
from lab.kubernetes.job_outcome import finished
from lab.kubernetes.recorder import Recorder

SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
"""Annotation of a Job: the time of the schedule it stands for."""


class CronJobController(Controller):
    """Starts the Jobs of every CronJob and removes its old ones."""

    primary = CRON_JOB

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._recorder = Recorder(store, "cronjob-controller")

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """The Jobs it owns."""
        return {JOB: owned_by(CRON_JOB)}

    def reconcile(self, key: Key) -> float | None:
        """Tell of its Jobs, remove old ones, start the one that is due."""
        try:
            cron = self.store.get(CRON_JOB, *key)
        except NotFound:
            return None
        status = cron.setdefault("status", {})
        self._review(cron)
        again: float | None = None
        failure: ApiError | None = None
        if not terminating(cron) and not cron["spec"].get("suspend"):
            try:
                again = self._start_due(cron)
            except ApiError as error:
                self._recorder.warning(cron, "FailedCreate", f"Error creating job: {error.message}")
                failure = error
        status["active"] = [_reference(job) for job in self._jobs(cron) if not finished(job)]
        if not status["active"]:
            del status["active"]
        self.store.update(CRON_JOB, cron, subresource="status")
        if failure:
            raise failure
        return again

    def _jobs(self, cron: Object) -> list[Object]:
        return owned(self.store, JOB, cron)

    def _review(self, cron: Object) -> None:
        """Take note of Jobs that ended, and keep as many of them as the limits say."""
        status, jobs = cron["status"], self._jobs(cron)
        was_active = {each["uid"] for each in status.get("active") or ()}
        for job in jobs:
            ended = finished(job)
            if ended and uid_of(job) in was_active:
                message = f"Saw completed job: {name_of(job)}, condition: {ended['type']}"
                self._recorder.normal(cron, "SawCompletedJob", message)
            completed = (job.get("status") or {}).get("completionTime")
            if completed and completed > status.get("lastSuccessfulTime", ""):
                status["lastSuccessfulTime"] = completed
        for ending, limit in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
            over = [job for job in jobs if (finished(job) or {}).get("type") == ending and not terminating(job)]
            over.sort(key=_age)
            for job in over[: max(0, len(over) - int(cron["spec"][limit]))]:
                self._delete(cron, job)

    def _start_due(self, cron: Object) -> float | None:
        """Start the Job of the latest time that has none; returns the seconds until the next time."""
        spec, now = cron["spec"], self.store.clock()
        schedule = Schedule.parse(spec["schedule"])
        following = schedule.following(now)
        again = (following - now).total_seconds() if following else None
        since = moment(cron["status"].get("lastScheduleTime") or cron["metadata"]["creationTimestamp"])
        due = schedule.latest(since, now)
        if due is None:
            return again
        late = spec.get("startingDeadlineSeconds")
        if late is not None and now - due > timedelta(seconds=late):
            self._recorder.warning(cron, "MissSchedule", f"Missed scheduled time to start a job: {timestamp(due)}")
            return again
        running = [job for job in self._jobs(cron) if not finished(job)]
        if running and spec["concurrencyPolicy"] == "Forbid":
            rule = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._recorder.normal(cron, "JobAlreadyActive", rule)
            return again
        if spec["concurrencyPolicy"] == "Replace":
            for job in running:
                self._delete(cron, job)
        with suppress(AlreadyExists):  # started, and not told
            made = self.store.create(JOB, _job_of(cron, due))
            self._recorder.normal(cron, "SuccessfulCreate", f"Created job {name_of(made)}")
        cron["status"]["lastScheduleTime"] = timestamp(due)
        return again

    def _delete(self, cron: Object, job: Object) -> None:
        with suppress(NotFound):
            self.store.delete(JOB, namespace_of(job), name_of(job), propagation="Background")
            self._recorder.normal(cron, "SuccessfulDelete", f"Deleted job {name_of(job)}")


def _job_of(cron: Object, due: datetime) -> Object:
    template = clone(cron["spec"]["jobTemplate"])
    metadata = template.get("metadata") or {}
    return {
        "metadata": {
            "name": f"{name_of(cron)}-{int(due.timestamp()) // 60}",
            "namespace": namespace_of(cron),
            "labels": metadata.get("labels") or {},
            "annotations": {**(metadata.get("annotations") or {}), SCHEDULED: timestamp(due)},
            "ownerReferences": [owner_reference(CRON_JOB, cron)],
        },
        "spec": template["spec"],
    }


def _age(job: Object) -> tuple[str, str]:
    """Sorts the oldest first."""
    return str((job.get("status") or {}).get("startTime") or ""), name_of(job)


def _reference(job: Object) -> Object:
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "namespace": namespace_of(job),
        "name": name_of(job),
        "uid": uid_of(job),
        "resourceVersion": job["metadata"]["resourceVersion"],
    }
