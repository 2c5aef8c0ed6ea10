"""The Job of a lease as Kubernetes is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from drills.access import COMPONENT
from stacks.contract import Deployment

DRILL_LABEL: Final = "tandem.io/drill"
HARDENED: Final = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def labels(drill_id: str) -> dict[str, str]:
    """Of everything that stands in a site for a drill."""
    return {COMPONENT: "drill", "app.kubernetes.io/part-of": "tandem", DRILL_LABEL: drill_id}


def job(
    deployment: Deployment, site: str, drill_id: str, name: str, image: str, avoid_nodes: Sequence[str]
) -> dict[str, Any]:
    """A Job that runs `drills.undo` for the lease of that name, on none of these nodes; `image` empty: the site's."""
    platform = deployment.platform[site]
    variables = [
        {"name": "LEASE", "value": name},
        {"name": "NAMESPACE", "value": deployment.serving[site].namespace},
        # Without credentials: of use only where the API asks for none.
        {"name": "KUBECONFIG_JSON", "value": deployment.pool[site].kubeconfig},
        *_key(deployment.serving[site].lease_secret_name),
    ]
    pod: dict[str, Any] = {
        "serviceAccountName": platform.lease_account,
        "restartPolicy": "OnFailure",
        "priorityClassName": platform.priority_class,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [{"key": platform.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [
            {
                "name": "undo",
                "image": image or platform.lease_image,
                "command": ["python", "-m", "drills.undo"],
                "env": variables,
                "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"memory": "256Mi"}},
                "securityContext": HARDENED,
            }
        ],
    }
    if avoid_nodes:
        # By the node's name, which no label has to repeat; Kubernetes takes one name in each of these.
        elsewhere = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in sorted(avoid_nodes)]
        terms = {"nodeSelectorTerms": [{"matchFields": elsewhere}]}
        pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    return {
        "metadata": {"name": name, "labels": labels(drill_id)},
        "spec": {
            "backoffLimit": 20,
            "ttlSecondsAfterFinished": 3600,
            "template": {"metadata": {"labels": labels(drill_id)}, "spec": pod},
        },
    }


def why_waiting(pods: Sequence[Any]) -> tuple[str, str]:
    """The reason why a Job's pod does not run, in Kubernetes' word where it has one, and the detail."""
    for pod in pods:
        name = pod.metadata.name
        for status in pod.status.container_statuses or ():
            waiting = status.state.waiting if status.state else None
            if waiting is not None:
                return str(waiting.reason), f"pod {name} waits: {waiting.message or 'no message'}"
        for condition in pod.status.conditions or ():
            if condition.status == "False" and condition.message:
                return str(condition.reason or ""), f"pod {name} is {pod.status.phase}: {condition.message}"
        return "", f"pod {name} is {pod.status.phase}"
    return "", "its Job has made no pod"


def _key(secret: str) -> list[dict[str, Any]]:
    """The key the site's store knows the undo by; without a Secret the pod has an identity of its own."""
    if not secret:
        return []
    keys = (("AWS_ACCESS_KEY_ID", "access_key"), ("AWS_SECRET_ACCESS_KEY", "secret_key"))
    return [{"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for name, key in keys]
