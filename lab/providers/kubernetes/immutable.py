"""Fields that cannot be changed in place, by kind: a change of one replaces the object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.providers.difference import falls_under

ALWAYS: Final = ("apiVersion", "kind", "metadata.name", "metadata.namespace")

_WORKLOAD: Final = ("spec.selector",)
BY_KIND: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("", "ConfigMap"): ("data", "binaryData", "immutable"),
    ("", "PersistentVolumeClaim"): (
        "spec.accessModes",
        "spec.selector",
        "spec.storageClassName",
        "spec.volumeMode",
        "spec.volumeName",
    ),
    ("", "Pod"): (
        "spec.containers.args",
        "spec.containers.command",
        "spec.containers.env",
        "spec.containers.livenessProbe",
        "spec.containers.name",
        "spec.containers.ports",
        "spec.containers.readinessProbe",
        "spec.containers.resources",
        "spec.containers.startupProbe",
        "spec.containers.volumeMounts",
        "spec.initContainers",
        "spec.nodeName",
        "spec.nodeSelector",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.volumes",
    ),
    ("", "Secret"): ("data", "stringData", "type", "immutable"),
    ("", "Service"): ("spec.clusterIP", "spec.type"),
    ("apps", "DaemonSet"): _WORKLOAD,
    ("apps", "Deployment"): _WORKLOAD,
    ("apps", "ReplicaSet"): _WORKLOAD,
    ("apps", "StatefulSet"): (*_WORKLOAD, "spec.serviceName", "spec.podManagementPolicy", "spec.volumeClaimTemplates"),
    ("batch", "Job"): ("spec.completionMode", "spec.completions", "spec.selector", "spec.template"),
    ("cluster.x-k8s.io", "MachineDeployment"): ("spec.clusterName", "spec.selector"),
    ("cluster.x-k8s.io", "MachineHealthCheck"): ("spec.clusterName",),
    ("elbv2.k8s.aws", "TargetGroupBinding"): ("spec.targetGroupARN", "spec.targetType", "spec.ipAddressType"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("roleRef",),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("roleRef",),
    ("scheduling.k8s.io", "PriorityClass"): ("value", "preemptionPolicy"),
}
"""(group, kind) -> paths; the provider replaces ConfigMaps and Secrets so that pods notice, as the real one does."""

_MUTABLE_BY_SETTING: Final = {"ConfigMap": "enableConfigMapMutable", "Secret": "enableSecretMutable"}


def replaced(api_version: str, kind: str, changed: Iterable[str], settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The changed paths that need a new object."""
    group = api_version.partition("/")[0] if "/" in api_version else ""
    rules = (*ALWAYS, *BY_KIND.get((group, kind), ()))
    setting = _MUTABLE_BY_SETTING.get(kind)
    if group == "" and setting and settings.get(setting) is True:
        rules = ALWAYS
    return tuple(path for path in changed if any(falls_under(path, rule) for rule in rules))
