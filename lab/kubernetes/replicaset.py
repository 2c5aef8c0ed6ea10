"""ReplicaSets: as many pods of one template as asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from lab.kubernetes.api.errors import ApiError, NotFound
from lab.kubernetes.api.kinds import POD, REPLICA_SET, Kind
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, terminating
from lab.kubernetes.condition import condition, holds, set_condition
from lab.kubernetes.controller import Controller, Key, owned, owned_by, owner_reference
from lab.kubernetes.recorder import Recorder


def active(pods: Iterable[Object]) -> list[Object]:
    """Pods that are neither over nor on their way out."""
    return [
        pod
        for pod in pods
        if not terminating(pod) and (pod.get("status") or {}).get("phase") not in {"Succeeded", "Failed"}
    ]


def available_in(pod: Object, min_ready_seconds: float) -> float | None:
    """Seconds until a pod counts as available: 0 when it does, None when it is not even ready."""
    ready = condition(pod, "Ready")
    if ready is None or ready["status"] != "True":
        return None
    if not min_ready_seconds:
        return 0.0
    since = datetime.strptime(ready["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return max(0.0, min_ready_seconds - (datetime.now(UTC) - since).total_seconds())


def pod_of(template: Object, namespace: str, owner: Object) -> Object:
    """A new pod of a template, to be named by the owner's name and a random end."""
    metadata = clone(template.get("metadata") or {})
    return {
        "metadata": {
            **{key: value for key, value in metadata.items() if key in {"labels", "annotations", "finalizers"}},
            "generateName": f"{owner['name']}-",
            "namespace": namespace,
            "ownerReferences": [owner],
        },
        "spec": clone(template["spec"]),
    }


def _expendable(pod: Object) -> tuple[bool, bool, str]:
    """Sorts what goes first: unplaced, then not ready, then the youngest (by ready time)."""
    ready = condition(pod, "Ready") or {}
    return bool(pod["spec"].get("nodeName")), holds(pod, "Ready"), str(ready.get("lastTransitionTime") or "")


class ReplicaSetController(Controller):
    """Keeps the number of pods of every ReplicaSet."""

    primary = REPLICA_SET

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """The pods it owns."""
        return {POD: owned_by(REPLICA_SET)}

    def reconcile(self, key: Key) -> float | None:
        """Create or delete the difference, then count."""
        try:
            replica_set = self.store.get(REPLICA_SET, *key)
        except NotFound:
            return None
        if terminating(replica_set):
            return None
        pods = active(owned(self.store, POD, replica_set))
        wanted = int(replica_set["spec"].get("replicas", 1))
        failure: ApiError | None = None
        if len(pods) < wanted:
            failure = self._create(replica_set, wanted - len(pods))
        elif len(pods) > wanted:
            # least wanted first; among the ready ones the youngest: a stable sort over the reversed list of times
            doomed = sorted(
                sorted(pods, key=lambda pod: _expendable(pod)[2], reverse=True), key=lambda pod: _expendable(pod)[:2]
            )
            for pod in doomed[: len(pods) - wanted]:
                self.store.delete(POD, namespace_of(pod), name_of(pod))
        again = self._count(replica_set, failure)
        if failure:
            raise failure
        return again

    def _create(self, replica_set: Object, count: int) -> ApiError | None:
        owner = owner_reference(REPLICA_SET, replica_set)
        for _ in range(count):
            try:
                self.store.create(POD, pod_of(replica_set["spec"]["template"], namespace_of(replica_set), owner))
            except ApiError as error:
                recorder = Recorder(self.store, "replicaset-controller")
                recorder.warning(replica_set, "FailedCreate", f"Error creating: {error.message}")
                return error
        return None

    def _count(self, replica_set: Object, failure: ApiError | None) -> float | None:
        pods = active(owned(self.store, POD, replica_set))
        delays = [available_in(pod, float(replica_set["spec"].get("minReadySeconds") or 0)) for pod in pods]
        status = replica_set.setdefault("status", {})
        status["replicas"] = len(pods)
        status["fullyLabeledReplicas"] = len(pods)
        status["readyReplicas"] = sum(delay is not None for delay in delays)
        status["availableReplicas"] = sum(delay == 0 for delay in delays)
        status["observedGeneration"] = replica_set["metadata"].get("generation", 1)
        if failure:
            set_condition(status, "ReplicaFailure", True, "FailedCreate", failure.message)
        else:
            status["conditions"] = [each for each in status.get("conditions") or [] if each["type"] != "ReplicaFailure"]
        self.store.update(REPLICA_SET, replica_set, subresource="status")
        coming = [delay for delay in delays if delay]
        return min(coming) + 0.05 if coming else None
