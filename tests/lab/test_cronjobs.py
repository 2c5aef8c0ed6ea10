"""Schedules, and the CronJob controller on a clock of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab.kubernetes.api.cron import Schedule
from lab.kubernetes.api.errors import Invalid
from lab.kubernetes.api.kinds import CRON_JOB, EVENT, JOB, POD
from lab.kubernetes.api.store import Store
from lab.kubernetes.cronjob import CronJobController
from lab.kubernetes.job import JobController

Object = dict[str, Any]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "following"),
    [
        ("* * * * *", "2030-01-01T12:00:30", "2030-01-01T12:01"),
        ("* * * * *", "2030-01-01T12:01", "2030-01-01T12:02"),
        ("*/15 * * * *", "2030-01-01T12:46", "2030-01-01T13:00"),
        ("5/20 * * * *", "2030-01-01T12:26", "2030-01-01T12:45"),
        ("30 3 * * *", "2030-01-01T12:00", "2030-01-02T03:30"),
        ("0 9-17/4 * * mon-fri", "2030-01-04T17:30", "2030-01-07T09:00"),
        ("0 0 1 JAN,jul *", "2030-01-02T00:00", "2030-07-01T00:00"),
        ("0 0 29 2 *", "2030-01-01T00:00", "2032-02-29T00:00"),
        ("0 0 13 * 5", "2030-01-02T00:00", "2030-01-04T00:00"),
        ("0 0 */2 * 5", "2030-01-02T00:00", "2030-01-03T00:00"),
        ("@weekly", "2030-01-01T00:00", "2030-01-06T00:00"),
        ("@hourly", "2030-12-31T23:10", "2031-01-01T00:00"),
    ],
)
def test_the_time_that_follows(schedule: str, after: str, following: str) -> None:
    parsed = Schedule.parse(schedule)
    assert parsed.following(at(after)) == at(following)
    assert parsed.latest(at(after), at(following)) == at(following)
    assert parsed.latest(at(after), at(following) - timedelta(seconds=1)) is None


def test_a_date_that_never_comes_has_no_next_time() -> None:
    assert Schedule.parse("0 0 30 2 *").following(at("2030-01-01")) is None


@pytest.mark.parametrize(
    ("schedule", "rule"),
    [
        ("* * * *", "five fields"),
        ("@every 5m", "five fields"),
        ("60 * * * *", "minute '60' is not within 0 to 59"),
        ("* * * * 7", "weekday '7' is not within 0 to 6"),
        ("* * 0 * *", "day of month '0'"),
        ("*/0 * * * *", "the step"),
        ("5-1 * * * *", "ends before it begins"),
        ("* * * abc *", "month 'abc'"),
    ],
)
def test_a_schedule_that_is_none_says_why(schedule: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        Schedule.parse(schedule)


class Cluster:
    """A store with the two controllers; the kubelet is the test."""

    def __init__(self) -> None:
        self.now = at("2030-01-01T12:00:10")
        self.store = Store(clock=lambda: self.now)
        self.controller = CronJobController(self.store)
        self._jobs = JobController(self.store)

    def create(self, name: str = "c", schedule: str = "*/5 * * * *", **spec: Any) -> None:
        containers = [{"name": "main", "image": "registry.example/work:1"}]
        template = {"spec": {"restartPolicy": "Never", "containers": containers}}
        job = {
            "metadata": {"labels": {"app": "c"}, "annotations": {"note": "n"}},
            "spec": {"template": template, "backoffLimit": 0},
        }
        given = {"schedule": schedule, "jobTemplate": job, **spec}
        self.store.create(CRON_JOB, {"metadata": {"name": name, "namespace": "default"}, "spec": given})
        self.turn()

    def turn(self, seconds: float = 0) -> float | None:
        self.now += timedelta(seconds=seconds)
        for job in self.jobs:
            self._jobs.reconcile(("default", job))
        return self.controller.reconcile(("default", "c"))

    def end(self, phase: str) -> None:
        """Every pod ends so."""
        for pod in self.store.list(POD):
            pod["status"]["phase"] = phase
            self.store.update(POD, pod, subresource="status")
        self.turn()

    @property
    def jobs(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.store.list(JOB)]

    @property
    def status(self) -> Object:
        found: Object = self.store.get(CRON_JOB, "default", "c")["status"]
        return found

    def change(self, **spec: Any) -> None:
        cron = self.store.get(CRON_JOB, "default", "c")
        cron["spec"] |= spec
        self.store.update(CRON_JOB, cron)

    def events(self) -> list[str]:
        return [each["reason"] for each in self.store.list(EVENT)]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_job_is_started_at_its_time_and_once(cluster: Cluster) -> None:
    cluster.create()
    assert cluster.turn() == 290
    assert cluster.turn(289) == 1
    assert cluster.jobs == []
    assert cluster.turn(1) == 300
    assert cluster.jobs == [f"c-{int(cluster.now.timestamp()) // 60}"]
    cluster.turn()
    assert len(cluster.jobs) == 1
    job = cluster.store.list(JOB)[0]
    assert job["metadata"]["annotations"] == {
        "note": "n",
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2030-01-01T12:05:00Z",
    }
    assert (job["metadata"]["labels"]["app"], job["metadata"]["ownerReferences"][0]["kind"]) == ("c", "CronJob")
    assert cluster.status["lastScheduleTime"] == "2030-01-01T12:05:00Z"
    assert [each["name"] for each in cluster.status["active"]] == cluster.jobs
    cluster.now += timedelta(seconds=7)
    cluster.end("Succeeded")
    assert (cluster.status["lastSuccessfulTime"], "active" in cluster.status) == ("2030-01-01T12:05:07Z", False)
    assert "SawCompletedJob" in cluster.events()


@pytest.mark.parametrize(("policy", "left"), [("Allow", [0, 5]), ("Forbid", [0]), ("Replace", [5])])
def test_what_happens_to_a_job_that_still_runs(cluster: Cluster, policy: str, left: list[int]) -> None:
    cluster.create(concurrencyPolicy=policy)
    cluster.turn(290)
    first = int(cluster.now.timestamp()) // 60
    cluster.turn(300)
    assert cluster.jobs == [f"c-{first + minutes}" for minutes in left]
    if policy == "Forbid":
        cluster.now += timedelta(seconds=30)
        cluster.end("Succeeded")
        assert cluster.jobs == [f"c-{first}", f"c-{first + 5}"], "late, as soon as it may"


def test_only_the_latest_of_the_missed_times_is_made_up_for(cluster: Cluster) -> None:
    cluster.create()
    cluster.turn(3600)
    assert len(cluster.jobs) == 1
    assert cluster.status["lastScheduleTime"] == "2030-01-01T13:00:00Z"


@pytest.mark.parametrize(("late", "started"), [(8, False), (12, True)])
def test_a_time_that_is_too_long_ago_is_missed(cluster: Cluster, late: int, started: bool) -> None:
    cluster.create(startingDeadlineSeconds=late)
    cluster.turn(300)  # ten seconds after the time
    assert bool(cluster.jobs) is started
    assert ("MissSchedule" in cluster.events()) is not started


def test_a_suspended_cron_job_starts_nothing(cluster: Cluster) -> None:
    cluster.create(suspend=True)
    assert cluster.turn(300) is None
    assert cluster.jobs == []
    cluster.change(suspend=False)
    cluster.turn()
    assert len(cluster.jobs) == 1


@pytest.mark.parametrize(("phase", "kept"), [("Succeeded", 2), ("Failed", 1)])
def test_old_jobs_are_removed_the_oldest_first(cluster: Cluster, phase: str, kept: int) -> None:
    cluster.create(successfulJobsHistoryLimit=2)
    made: list[str] = []
    for seconds in (290, 300, 300):
        cluster.turn(seconds)
        made += [job for job in cluster.jobs if job not in made]
        cluster.turn()  # which starts the pod
        cluster.end(phase)
    assert len(made) == 3
    assert cluster.jobs == made[-kept:]


def test_a_deleted_cron_job_takes_its_jobs_along(cluster: Cluster) -> None:
    cluster.create()
    cluster.turn(290)
    cluster.store.delete(CRON_JOB, "default", "c")
    assert cluster.turn() is None
    assert cluster.jobs == []


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        ({"schedule": "61 * * * *"}, "spec.schedule"),
        ({"timeZone": "Europe/Berlin"}, 'supported values: "Etc/UTC", "UTC"'),
        ({"concurrencyPolicy": "Maybe"}, "spec.concurrencyPolicy"),
        ({"startingDeadlineSeconds": -1}, "spec.startingDeadlineSeconds"),
        ({"name": "c" * 53}, "no more than 52 characters"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_cron_job_that_cannot_be_kept_to_is_refused(cluster: Cluster, spec: Object, rule: str) -> None:
    with pytest.raises(Invalid, match=rule):
        cluster.create(**spec)


def test_utc_may_be_named(cluster: Cluster) -> None:
    cluster.create(timeZone="Etc/UTC")
    cluster.turn(290)
    assert len(cluster.jobs) == 1
