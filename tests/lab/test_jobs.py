"""The Job controller, step by step on a store with a clock of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab.kubernetes.api.errors import ApiError, Invalid
from lab.kubernetes.api.kinds import EVENT, JOB, NAMESPACE, POD, RESOURCE_QUOTA
from lab.kubernetes.api.store import Store
from lab.kubernetes.job import TRACKING, JobController

Object = dict[str, Any]

START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


def job(name: str = "j", policy: str = "Never", **spec: Any) -> Object:
    containers = [{"name": "main", "image": "registry.example/work:1"}]
    template = {"spec": {"restartPolicy": policy, "containers": containers}}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"template": template, **spec}}


class Cluster:
    """A store with nothing but the Job controller; the kubelet is the test."""

    def __init__(self) -> None:
        self.now = START
        self.store = Store(clock=lambda: self.now)
        self.controller = JobController(self.store)

    def create(self, **spec: Any) -> None:
        self.store.create(JOB, job(**spec))
        self.turn()

    def turn(self, seconds: float = 0) -> float | None:
        self.now += timedelta(seconds=seconds)
        return self.controller.reconcile(("default", "j"))

    @property
    def job(self) -> Object:
        return self.store.get(JOB, "default", "j")

    @property
    def status(self) -> Object:
        found: Object = self.job["status"]
        return found

    def pods(self, phase: str = "") -> list[Object]:
        pods = self.store.list(POD, "default")
        return [pod for pod in pods if not phase or pod["status"]["phase"] == phase]

    def tell(self, pod: Object, phase: str, **status: Any) -> None:
        pod = self.store.get(POD, "default", pod["metadata"]["name"])
        pod["spec"]["nodeName"] = "n1"
        pod = self.store.update(POD, pod)
        pod["status"] |= {"phase": phase, **status}
        self.store.update(POD, pod, subresource="status")

    def end(self, phase: str, pod: Object | None = None) -> float | None:
        """One pod that still runs ends so, and the controller sees it."""
        running = [each for each in self.pods() if each["status"]["phase"] in ("Pending", "Running")]
        self.tell(pod or running[0], phase)
        return self.turn()

    def gone(self, pod: Object) -> None:
        """The kubelet is done with a deleted pod."""
        self.store.delete(POD, "default", pod["metadata"]["name"], grace_period_seconds=0)
        self.turn()

    def conditions(self) -> dict[str, str]:
        return {each["type"]: each.get("reason", "") for each in self.status["conditions"] if each["status"] == "True"}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_pod_of_a_job_names_its_job_and_waits_to_be_counted(cluster: Cluster) -> None:
    cluster.create()
    (pod,) = cluster.pods()
    uid = cluster.job["metadata"]["uid"]
    labels = pod["metadata"]["labels"]
    assert (labels["batch.kubernetes.io/job-name"], labels["batch.kubernetes.io/controller-uid"]) == ("j", uid)
    assert pod["metadata"]["generateName"] == "j-"
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", uid, True)
    assert pod["metadata"]["finalizers"] == [TRACKING]
    assert (cluster.status["active"], cluster.status["ready"]) == (1, 0)
    assert cluster.status["startTime"] == "2030-01-01T12:00:00Z"


def test_a_job_is_complete_when_enough_pods_have_succeeded_and_not_before(cluster: Cluster) -> None:
    cluster.create(completions=3, parallelism=2)
    assert len(cluster.pods()) == 2
    cluster.end("Succeeded")
    assert (cluster.status["active"], cluster.status["succeeded"]) == (2, 1)
    cluster.end("Succeeded")
    assert (cluster.status["active"], cluster.status["succeeded"], len(cluster.pods())) == (1, 2, 3)
    assert "conditions" not in cluster.status or not cluster.conditions()
    cluster.now += timedelta(seconds=5)
    cluster.end("Succeeded")
    assert cluster.conditions() == dict.fromkeys(("SuccessCriteriaMet", "Complete"), "CompletionsReached")
    assert cluster.status["completionTime"] == "2030-01-01T12:00:05Z"
    assert "active" not in cluster.status, "a zero is left out"
    assert [TRACKING in pod["metadata"].get("finalizers", ()) for pod in cluster.pods()] == [False] * 3


def test_a_work_queue_is_done_when_one_pod_succeeded_and_none_is_left(cluster: Cluster) -> None:
    cluster.create(parallelism=2)
    cluster.end("Succeeded")
    assert cluster.status["active"] == 1
    assert len(cluster.pods()) == 2, "nobody is added once one has succeeded"
    cluster.end("Succeeded")
    assert "Complete" in cluster.conditions()


def test_a_failed_pod_is_followed_by_a_new_one_after_a_growing_delay(cluster: Cluster) -> None:
    cluster.create(backoffLimit=3)
    assert cluster.end("Failed") == 10
    assert len(cluster.pods()) == 1, "not before the delay is over"
    cluster.turn(10)
    assert len(cluster.pods()) == 2
    assert cluster.end("Failed") == 20
    cluster.turn(20)
    assert cluster.status["failed"] == 2
    cluster.end("Succeeded")
    assert "Complete" in cluster.conditions()


def test_a_job_fails_when_its_pods_failed_once_more_than_its_limit(cluster: Cluster) -> None:
    cluster.create(backoffLimit=1)
    cluster.end("Failed")
    cluster.turn(10)
    assert not cluster.status.get("conditions")
    cluster.end("Failed")
    assert cluster.conditions() == dict.fromkeys(("FailureTarget", "Failed"), "BackoffLimitExceeded")
    assert (cluster.status["failed"], "completionTime" in cluster.status) == (2, False)
    assert cluster.turn(100) is None
    assert len(cluster.pods()) == 2


@pytest.mark.parametrize(("limit", "restarts", "ends"), [(2, 1, False), (2, 2, True), (0, 0, False), (0, 1, True)])
def test_restarts_in_place_count_toward_the_limit(cluster: Cluster, limit: int, restarts: int, ends: bool) -> None:
    cluster.create(policy="OnFailure", backoffLimit=limit)
    (pod,) = cluster.pods()
    cluster.tell(pod, "Running", containerStatuses=[{"name": "main", "restartCount": restarts, "state": {}}])
    cluster.turn()
    assert ("FailureTarget" in (cluster.conditions() if "conditions" in cluster.status else {})) is ends
    if ends:
        assert cluster.pods()[0]["metadata"]["deletionTimestamp"], "what still runs is ended"
        assert "Failed" not in cluster.conditions(), "not before its pod is gone"
        cluster.gone(pod)
        assert cluster.conditions()["Failed"] == "BackoffLimitExceeded"


def test_a_job_that_is_active_for_too_long_fails_and_its_pods_are_ended(cluster: Cluster) -> None:
    cluster.create(activeDeadlineSeconds=60, parallelism=2, completions=2)
    pods = cluster.pods()
    for pod in pods:
        cluster.tell(pod, "Running")
    assert cluster.turn(59) == 1
    assert not cluster.status.get("conditions")
    cluster.turn(1)
    assert cluster.conditions() == {"FailureTarget": "DeadlineExceeded"}
    assert (cluster.status["terminating"], cluster.status["failed"]) == (2, 2)
    for pod in pods:
        cluster.gone(pod)
    assert cluster.conditions()["Failed"] == "DeadlineExceeded"
    assert cluster.pods() == []


@pytest.mark.parametrize(("policy", "at_once"), [("TerminatingOrFailed", True), ("Failed", False)])
def test_a_deleted_pod_counts_as_failed_and_is_replaced(cluster: Cluster, policy: str, at_once: bool) -> None:
    cluster.create(podReplacementPolicy=policy)
    (pod,) = cluster.pods()
    cluster.tell(pod, "Running")
    cluster.store.delete(POD, "default", pod["metadata"]["name"])
    cluster.turn()
    cluster.turn(30)
    assert len(cluster.pods()) == (2 if at_once else 1)
    assert cluster.status.get("failed", 0) == (1 if at_once else 0)
    assert cluster.status["terminating"] == 1
    cluster.gone(pod)
    cluster.turn(30)
    (fresh,) = cluster.pods()
    assert fresh["metadata"]["uid"] != pod["metadata"]["uid"]
    assert cluster.status["failed"] == 1


def test_a_pod_that_never_got_a_node_can_be_deleted(cluster: Cluster) -> None:
    cluster.create()
    (pod,) = cluster.pods()
    cluster.store.delete(POD, "default", pod["metadata"]["name"])
    cluster.turn()
    cluster.turn(10)
    assert [each["metadata"]["uid"] != pod["metadata"]["uid"] for each in cluster.pods()] == [True]


def test_a_pod_is_counted_once_even_if_it_is_deleted_before_it_was_looked_at(cluster: Cluster) -> None:
    cluster.create(completions=2, parallelism=2)
    first, second = cluster.pods()
    cluster.tell(first, "Succeeded")
    cluster.store.delete(POD, "default", first["metadata"]["name"])
    assert len(cluster.pods()) == 2, "held back until it is counted"
    cluster.turn()
    assert (cluster.status["succeeded"], cluster.pods()) == (1, [cluster.store.get(POD, "default", _name(second))])
    cluster.turn()
    assert cluster.status["succeeded"] == 1


def test_a_suspended_job_has_no_pods_and_its_time_begins_anew(cluster: Cluster) -> None:
    cluster.create(suspend=True, activeDeadlineSeconds=60)
    assert cluster.pods() == []
    assert (cluster.conditions(), "startTime" in cluster.status) == ({"Suspended": "JobSuspended"}, False)
    assert cluster.turn(1000) is None
    _suspend(cluster, False)
    (pod,) = cluster.pods()
    assert cluster.status["startTime"] == "2030-01-01T12:16:40Z"
    cluster.tell(pod, "Running")
    _suspend(cluster, True)
    assert cluster.pods()[0]["metadata"]["deletionTimestamp"]
    cluster.gone(pod)
    assert "failed" not in cluster.status, "withdrawn, not failed"
    cluster.turn(1000)
    assert cluster.conditions() == {"Suspended": "JobSuspended"}, "the deadline stands still"


def test_less_parallelism_withdraws_pods_without_counting_them(cluster: Cluster) -> None:
    cluster.create(completions=4, parallelism=3)
    cluster.tell(cluster.pods()[0], "Running")
    changed = cluster.job
    changed["spec"]["parallelism"] = 1
    cluster.store.update(JOB, changed)
    cluster.turn()
    assert [pod["status"]["phase"] for pod in cluster.pods()] == ["Running"], "those that have not begun go first"
    assert "failed" not in cluster.status


def test_a_finished_job_goes_with_its_pods_when_its_time_is_over(cluster: Cluster) -> None:
    cluster.create(ttlSecondsAfterFinished=30)
    cluster.end("Succeeded")
    assert cluster.turn(29) == 1
    assert len(cluster.pods()) == 1
    cluster.turn(1)
    assert (cluster.store.list(JOB), cluster.pods()) == ([], [])


@pytest.mark.parametrize("propagation", ["Background", "Foreground", "Orphan"])
def test_a_deleted_job_takes_its_pods_along_unless_they_are_orphaned(cluster: Cluster, propagation: str) -> None:
    cluster.create(parallelism=2, completions=3)
    for pod in cluster.pods():
        cluster.tell(pod, "Running")
    cluster.store.delete(JOB, "default", "j", propagation=propagation)
    assert bool(cluster.store.list(JOB)) is (propagation == "Foreground")
    cluster.turn()
    cluster.turn(600)
    assert len(cluster.pods()) == 2, "no new one"
    assert not any(TRACKING in pod["metadata"].get("finalizers", ()) for pod in cluster.pods())
    for pod in cluster.pods():
        assert ("deletionTimestamp" in pod["metadata"]) is (propagation != "Orphan")
        if propagation != "Orphan":
            cluster.gone(pod)
    assert cluster.store.list(JOB) == []
    assert len(cluster.pods()) == (2 if propagation == "Orphan" else 0)


def test_a_job_of_the_same_name_lets_the_pods_of_the_former_one_go(cluster: Cluster) -> None:
    cluster.create()
    (old,) = cluster.pods()
    cluster.tell(old, "Running")
    cluster.store.delete(JOB, "default", "j")
    cluster.create()
    cluster.gone(old)
    (new,) = cluster.pods()
    assert new["metadata"]["ownerReferences"][0]["uid"] == cluster.job["metadata"]["uid"]


def test_a_namespace_with_a_job_in_it_can_go(cluster: Cluster) -> None:
    cluster.store.create(NAMESPACE, {"metadata": {"name": "other"}})
    made = job()
    made["metadata"]["namespace"] = "other"
    cluster.store.create(JOB, made)
    cluster.controller.reconcile(("other", "j"))
    assert len(cluster.store.list(POD, "other")) == 1
    cluster.store.delete(NAMESPACE, None, "other")
    cluster.controller.reconcile(("other", "j"))
    assert [each["metadata"]["name"] for each in cluster.store.list(NAMESPACE)] == ["default", "kube-system"]


def test_a_pod_the_quota_refuses_is_told_and_tried_again(cluster: Cluster) -> None:
    quota = {"metadata": {"name": "few", "namespace": "default"}, "spec": {"hard": {"pods": "1"}}}
    cluster.store.create(RESOURCE_QUOTA, quota)
    with pytest.raises(ApiError, match="exceeded quota: few"):
        cluster.create(completions=2, parallelism=2)
    assert cluster.status["active"] == 1
    reasons = [each["reason"] for each in cluster.store.list(EVENT)]
    assert "FailedCreate" in reasons
    cluster.end("Succeeded")
    assert (cluster.status["active"], cluster.status["succeeded"]) == (1, 1), "an ended pod uses no quota"


@pytest.mark.parametrize(
    ("spec", "field", "rule"),
    [
        ({"completionMode": "Indexed", "completions": 2}, "spec.completionMode", "does not run Indexed Jobs"),
        ({"podFailurePolicy": {"rules": []}}, "spec.podFailurePolicy", "the lab does not do it"),
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex", "the lab does not do it"),
        ({"managedBy": "example.com/other"}, "spec.managedBy", "Unsupported value"),
        ({"policy": "Always"}, "spec.template.spec.restartPolicy", "Unsupported value"),
        ({"backoffLimit": -1}, "spec.backoffLimit", "greater than or equal to 0"),
        ({"name": "j" * 64}, "metadata.labels", "at most 63 characters"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_the_lab_does_not_do_is_refused(cluster: Cluster, spec: Object, field: str, rule: str) -> None:
    with pytest.raises(Invalid, match=rule) as refused:
        cluster.create(**spec)
    assert field in {cause.field for cause in refused.value.causes}


def test_what_a_job_runs_cannot_be_changed(cluster: Cluster) -> None:
    cluster.create(completions=2)
    changed = cluster.job
    changed["spec"]["completions"] = 3
    with pytest.raises(Invalid, match="field is immutable"):
        cluster.store.update(JOB, changed)
    changed["spec"] |= {"completions": 2, "parallelism": 2}
    cluster.store.update(JOB, changed)


def _suspend(cluster: Cluster, value: bool) -> None:
    changed = cluster.job
    changed["spec"]["suspend"] = value
    cluster.store.update(JOB, changed)
    cluster.turn()


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])
