"""Deployments: one ReplicaSet per template, rolled from the old to the new within the declared limits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import DEPLOYMENT, POD, REPLICA_SET, Kind
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, terminating, timestamp
from lab.kubernetes.condition import condition, set_condition
from lab.kubernetes.controller import Controller, Key, owned, owned_by, owner_reference
from lab.kubernetes.recorder import Recorder
from lab.kubernetes.rollout import Count, Limits, recreate, rolling

HASH_LABEL: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
PROGRESS_DEADLINE_SECONDS: Final = 600


def template_hash(template: Object) -> str:
    """Ten letters that stand for a pod template."""
    content = json.dumps(template, sort_keys=True).encode()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in hashlib.sha256(content).digest()[:10])


def _without_hash(template: Object) -> Object:
    plain: Object = clone(template)
    (plain.get("metadata", {}).get("labels") or {}).pop(HASH_LABEL, None)
    return plain


def _revision(obj: Object) -> int:
    return int((obj["metadata"].get("annotations") or {}).get(REVISION, 0))


def _wanted(replica_set: Object) -> int:
    return int(replica_set["spec"].get("replicas", 1))


def _sum(replica_sets: Iterable[Object], field: str) -> int:
    return sum(int((each.get("status") or {}).get(field) or 0) for each in replica_sets)


class DeploymentController(Controller):
    """Rolls every Deployment to its template and keeps its status."""

    primary = DEPLOYMENT

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """The ReplicaSets it owns, and their pods: a Recreate rollout waits for the last old one."""
        return {REPLICA_SET: owned_by(DEPLOYMENT), POD: self._of_pod}

    def _of_pod(self, pod: Object) -> Iterable[Key]:
        for namespace, name in owned_by(REPLICA_SET)(pod):
            try:
                return owned_by(DEPLOYMENT)(self.store.get(REPLICA_SET, namespace, name))
            except NotFound:
                return []
        return []

    def reconcile(self, key: Key) -> float | None:
        """One step of the rollout, then the status."""
        try:
            deployment = self.store.get(DEPLOYMENT, *key)
        except NotFound:
            return None
        if terminating(deployment):
            return None
        all_sets = owned(self.store, REPLICA_SET, deployment)
        new, old = self._split(deployment, all_sets)
        spec = deployment["spec"]
        if spec.get("paused"):
            self._scale_paused(deployment, new, old)
        else:
            if new is None:
                new = self._create(deployment, old)
            self._adopt_revision(deployment, new, old)
            self._roll(deployment, new, old)
            self._clean_up(deployment, old)
        return self._status(deployment)

    def _split(self, deployment: Object, all_sets: list[Object]) -> tuple[Object | None, list[Object]]:
        template = _without_hash(deployment["spec"]["template"])
        matching = [each for each in all_sets if _without_hash(each["spec"]["template"]) == template]
        new = min(matching, key=lambda each: each["metadata"]["creationTimestamp"]) if matching else None
        old = [each for each in all_sets if each is not new]
        return new, sorted(old, key=lambda each: (_revision(each), name_of(each)))

    def _create(self, deployment: Object, old: list[Object]) -> Object:
        template = clone(deployment["spec"]["template"])
        label = template_hash(template)
        template.setdefault("metadata", {}).setdefault("labels", {})[HASH_LABEL] = label
        selector = clone(deployment["spec"]["selector"])
        selector.setdefault("matchLabels", {})[HASH_LABEL] = label
        # the size is given by the rollout's next step; a lone first ReplicaSet starts at its full size
        size = 0 if old else int(deployment["spec"].get("replicas", 1))
        replica_set = {
            "metadata": {
                "name": f"{name_of(deployment)}-{label}",
                "namespace": namespace_of(deployment),
                "labels": clone(template["metadata"]["labels"]),
                "annotations": {DESIRED: str(deployment["spec"].get("replicas", 1))},
                "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": deployment["spec"].get("minReadySeconds") or 0,
                "selector": selector,
                "template": template,
            },
        }
        created = self.store.create(REPLICA_SET, replica_set)
        if size:
            self._tell(deployment, f"Scaled up replica set {name_of(created)} from 0 to {size}")
        return created

    def _adopt_revision(self, deployment: Object, new: Object, old: list[Object]) -> None:
        """The newest template has the highest revision, also when it is an earlier one come back."""
        wanted = max((_revision(each) for each in old), default=0) + 1
        if _revision(new) < wanted:
            new["metadata"].setdefault("annotations", {})[REVISION] = str(wanted)
            new.update(self.store.update(REPLICA_SET, new))
        annotations = deployment["metadata"].setdefault("annotations", {})
        if annotations.get(REVISION) != str(_revision(new)):
            annotations[REVISION] = str(_revision(new))
            deployment.update(self.store.update(DEPLOYMENT, deployment))

    def _roll(self, deployment: Object, new: Object, old: list[Object]) -> None:
        limits = Limits.of(deployment["spec"])
        if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
            old_pods = sum(len(owned(self.store, POD, each)) for each in old)
            size, each_old = recreate(limits, old_pods)
            sizes = [each_old] * len(old)
        else:
            size, sizes = rolling(limits, self._counted(new), [self._counted(each) for each in old])
        for replica_set, wanted in ((new, size), *zip(old, sizes, strict=True)):
            self._scale(deployment, replica_set, wanted)

    def _counted(self, replica_set: Object) -> Count:
        available = int((replica_set.get("status") or {}).get("availableReplicas") or 0)
        return Count(_wanted(replica_set), available)

    def _scale_paused(self, deployment: Object, new: Object | None, old: list[Object]) -> None:
        """A paused Deployment rolls nothing, yet follows its replica count with the ReplicaSet that is in use."""
        living = [each for each in (*old, *([new] if new else [])) if _wanted(each)]
        if len(living) == 1:
            self._scale(deployment, living[0], int(deployment["spec"].get("replicas", 1)))

    def _scale(self, deployment: Object, replica_set: Object, wanted: int) -> None:
        before = _wanted(replica_set)
        if before == wanted:
            return
        replica_set["spec"]["replicas"] = wanted
        replica_set["metadata"].setdefault("annotations", {})[DESIRED] = str(deployment["spec"].get("replicas", 1))
        replica_set.update(self.store.update(REPLICA_SET, replica_set))
        way = "up" if wanted > before else "down"
        self._tell(deployment, f"Scaled {way} replica set {name_of(replica_set)} from {before} to {wanted}")

    def _tell(self, deployment: Object, message: str) -> None:
        Recorder(self.store, "deployment-controller").normal(deployment, "ScalingReplicaSet", message)

    def _clean_up(self, deployment: Object, old: list[Object]) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit")
        empty = [each for each in old if not _wanted(each) and not (each.get("status") or {}).get("replicas")]
        keep = 10 if limit is None else int(limit)
        for replica_set in empty[: max(0, len(empty) - keep)]:
            self.store.delete(REPLICA_SET, namespace_of(replica_set), name_of(replica_set))

    def _status(self, deployment: Object) -> float | None:
        all_sets = owned(self.store, REPLICA_SET, deployment)
        new, _ = self._split(deployment, all_sets)
        spec, replicas = deployment["spec"], int(deployment["spec"].get("replicas", 1))
        status = deployment.setdefault("status", {})
        before = {
            field: status.get(field) or 0
            for field in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        }
        now = {
            "replicas": _sum(all_sets, "replicas"),
            "updatedReplicas": _sum([new] if new else [], "replicas"),
            "readyReplicas": _sum(all_sets, "readyReplicas"),
            "availableReplicas": _sum(all_sets, "availableReplicas"),
        }
        status.update(now)
        status["unavailableReplicas"] = max(0, max(replicas, now["replicas"]) - now["availableReplicas"])
        changed = status.get("observedGeneration") != deployment["metadata"].get("generation", 1) or before != now
        status["observedGeneration"] = deployment["metadata"].get("generation", 1)
        enough = now["availableReplicas"] >= replicas - Limits.of(spec).unavailable
        set_condition(
            status,
            "Available",
            enough,
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {'has' if enough else 'does not have'} minimum availability.",
        )
        self._failure(status, all_sets)
        again = self._progress(deployment, new, changed)
        self.store.update(DEPLOYMENT, deployment, subresource="status")
        return again

    def _failure(self, status: Object, all_sets: list[Object]) -> None:
        failed = next((each for each in (condition(obj, "ReplicaFailure") for obj in all_sets) if each), None)
        if failed:
            set_condition(status, "ReplicaFailure", True, failed.get("reason", ""), failed.get("message", ""))
        else:
            status["conditions"] = [each for each in status["conditions"] if each["type"] != "ReplicaFailure"]

    def _progress(self, deployment: Object, new: Object | None, changed: bool) -> float | None:
        """The Progressing condition; returns when its deadline will have to be looked at."""
        spec, status = deployment["spec"], deployment["status"]
        replicas = int(spec.get("replicas", 1))
        name = name_of(new) if new else name_of(deployment)
        done = status["updatedReplicas"] == status["replicas"] == replicas <= status["availableReplicas"]
        if done:
            text = f'ReplicaSet "{name}" has successfully progressed.'
            self._set_progress(status, True, "NewReplicaSetAvailable", text, moved=changed)
            return None
        if spec.get("paused"):
            self._set_progress(status, True, "DeploymentPaused", "Deployment is paused", moved=False)
            return None
        before = condition(deployment, "Progressing")
        if before is None or changed or before.get("reason") == "NewReplicaSetAvailable":
            self._set_progress(status, True, "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.', moved=True)
        deadline = int(spec.get("progressDeadlineSeconds") or PROGRESS_DEADLINE_SECONDS)
        latest = condition(deployment, "Progressing") or {}
        since = datetime.strptime(latest["lastUpdateTime"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        left = deadline - (datetime.now(UTC) - since).total_seconds()
        if left > 0:
            return left + 0.5
        text = f'ReplicaSet "{name}" has timed out progressing.'
        self._set_progress(status, False, "ProgressDeadlineExceeded", text, moved=False)
        return None

    def _set_progress(self, status: Object, value: bool, reason: str, message: str, *, moved: bool) -> None:
        before = condition({"status": status}, "Progressing") or {}
        updated = before.get("lastUpdateTime")
        set_condition(status, "Progressing", value, reason, message)
        latest = condition({"status": status}, "Progressing") or {}
        latest["lastUpdateTime"] = timestamp() if moved or not updated else updated
