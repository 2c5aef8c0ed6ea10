"""Defaults a real API server fills in, as far as clients and controllers rely on them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

from lab.kubernetes.api import kinds
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, uid_of

Fields = dict[str, Any]

_JOB_LABELS: Final = (
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "controller-uid",
    "job-name",
)
_SIZE_ANNOTATION: Final = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size"


def fill(kind: Kind, obj: Object) -> None:
    """Fill in the defaults of one object, in place."""
    if kind.key in _FILL:
        _FILL[kind.key](obj)


def _set(target: Fields, **values: Any) -> None:
    for name, value in values.items():
        target.setdefault(name, value)


def _probe(probe: Fields) -> None:
    _set(probe, periodSeconds=10, timeoutSeconds=1, successThreshold=1, failureThreshold=3)
    if "httpGet" in probe:
        _set(probe["httpGet"], path="/", scheme="HTTP")
    if "grpc" in probe:
        _set(probe["grpc"], service="")


def _container(container: Fields) -> None:
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    always = "@" not in image and tag in ("", "latest")
    _set(container, imagePullPolicy="Always" if always else "IfNotPresent")
    _set(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File", resources={})
    for port in container.get("ports", ()):
        _set(port, protocol="TCP")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        if name in container:
            _probe(container[name])
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict) and "httpGet" in hook:
            _set(hook["httpGet"], path="/", scheme="HTTP")
    for variable in container.get("env", ()):
        field = (variable.get("valueFrom") or {}).get("fieldRef")
        if field is not None:
            _set(field, apiVersion="v1")
    resources = container["resources"]
    for name, amount in resources.get("limits", {}).items():
        resources.setdefault("requests", {}).setdefault(name, amount)


def _volume(volume: Fields) -> None:
    if not any(name != "name" for name in volume):
        volume["emptyDir"] = {}
    for name in ("configMap", "secret", "projected", "downwardAPI"):
        if name in volume:
            _set(volume[name], defaultMode=0o644)


def pod_spec(spec: Fields) -> None:
    """Defaults of a pod's spec, alone or in a template."""
    _set(spec, restartPolicy="Always", terminationGracePeriodSeconds=30, dnsPolicy="ClusterFirst")
    _set(spec, schedulerName="default-scheduler", securityContext={})
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        _container(container)
    for volume in spec.get("volumes", ()):
        _volume(volume)
    if "serviceAccountName" in spec:
        _set(spec, serviceAccount=spec["serviceAccountName"])


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    pod_spec(spec)
    _set(
        spec,
        enableServiceLinks=True,
        serviceAccountName="default",
        serviceAccount="default",
        preemptionPolicy="PreemptLowerPriority",
    )
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        tolerated = any(
            entry.get("key") in (None, "", key) and entry.get("effect") in (None, "", "NoExecute")
            for entry in tolerations
        )
        if not tolerated:
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})


def _template(obj: Object) -> None:
    template = (obj.get("spec") or {}).get("template")
    if template is not None:
        template.setdefault("metadata", {})
        pod_spec(template.setdefault("spec", {}))


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _rolling(spec.setdefault("strategy", {}), maxUnavailable="25%", maxSurge="25%")
    _template(obj)


def _rolling(strategy: Fields, **bounds: Any) -> None:
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(strategy.setdefault("rollingUpdate", {}), **bounds)


def _replica_set(obj: Object) -> None:
    _set(obj.setdefault("spec", {}), replicas=1)
    _template(obj)


def _daemon_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, revisionHistoryLimit=10)
    _rolling(spec.setdefault("updateStrategy", {}), maxUnavailable=1, maxSurge=0)
    _template(obj)


def _job_spec(spec: Fields) -> None:
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    _set(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    pod_spec(template.setdefault("spec", {}))


def _job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _job_spec(spec)
    if not spec.get("manualSelector") and "selector" not in spec and obj["metadata"].get("uid"):
        values = (uid_of(obj), name_of(obj), uid_of(obj), name_of(obj))
        labels = spec["template"]["metadata"].setdefault("labels", {})
        for label, value in zip(_JOB_LABELS, values, strict=True):
            labels.setdefault(label, value)
        spec["selector"] = {"matchLabels": {_JOB_LABELS[0]: uid_of(obj)}}
    obj["metadata"].setdefault("labels", {}).update(
        {key: value for key, value in (spec["template"]["metadata"].get("labels") or {}).items() if key in _JOB_LABELS}
    )


def _cron_job(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    job = spec.get("jobTemplate")
    if job is not None and "spec" in job:
        _job_spec(job["spec"])


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _set(spec, type="ClusterIP", sessionAffinity="None", internalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] != "ExternalName":
        _set(spec, ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    for port in spec.get("ports", ()):
        _set(port, protocol="TCP")
        if "port" in port:
            _set(port, targetPort=port["port"])


def _namespace(obj: Object) -> None:
    _set(obj.setdefault("spec", {}), finalizers=["kubernetes"])
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = name_of(obj)


def _secret(obj: Object) -> None:
    _set(obj, type="Opaque")
    plain = obj.pop("stringData", None) or {}
    if plain:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}


def _claim(obj: Object) -> None:
    _set(obj.setdefault("spec", {}), volumeMode="Filesystem")


def _endpoint_slice(obj: Object) -> None:
    obj.setdefault("endpoints", [])
    for port in obj.get("ports") or ():
        _set(port, protocol="TCP", name="")


def _endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            _set(port, protocol="TCP")


def _priority_class(obj: Object) -> None:
    _set(obj, value=0, preemptionPolicy="PreemptLowerPriority")


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    _set(spec, policyTypes=["Ingress", *(["Egress"] if "egress" in spec else [])])
    for rule in (*(spec.get("ingress") or ()), *(spec.get("egress") or ())):
        for port in rule.get("ports") or ():
            _set(port, protocol="TCP")


def _autoscaler(obj: Object) -> None:
    _set(obj.setdefault("spec", {}), minReplicas=1)


def _machines(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    smallest = str((obj["metadata"].get("annotations") or {}).get(_SIZE_ANNOTATION, "1"))
    _set(spec, replicas=int(smallest) if smallest.isdigit() else 1)


def _chaos(obj: Object) -> None:
    spec = obj.get("spec")
    for selecting in (spec, spec.get("target") if isinstance(spec, dict) else None):
        if isinstance(selecting, dict) and isinstance(selecting.get("selector"), dict):
            _set(selecting["selector"], namespaces=[namespace_of(obj)])


def _network_chaos(obj: Object) -> None:
    if isinstance(obj.get("spec"), dict):
        _set(obj["spec"], direction="to")
    _chaos(obj)


_FILL: Final[dict[str, Callable[[Object], None]]] = {
    kinds.POD.key: _pod,
    kinds.DEPLOYMENT.key: _deployment,
    kinds.REPLICA_SET.key: _replica_set,
    kinds.DAEMON_SET.key: _daemon_set,
    kinds.JOB.key: _job,
    kinds.CRON_JOB.key: _cron_job,
    kinds.SERVICE.key: _service,
    kinds.NAMESPACE.key: _namespace,
    kinds.SECRET.key: _secret,
    kinds.PERSISTENT_VOLUME_CLAIM.key: _claim,
    kinds.ENDPOINT_SLICE.key: _endpoint_slice,
    kinds.ENDPOINTS.key: _endpoints,
    kinds.PRIORITY_CLASS.key: _priority_class,
    kinds.NETWORK_POLICY.key: _network_policy,
    kinds.HORIZONTAL_POD_AUTOSCALER.key: _autoscaler,
    kinds.MACHINE_DEPLOYMENT.key: _machines,
    kinds.MACHINE_SET.key: _machines,
    kinds.NETWORK_CHAOS.key: _network_chaos,
    kinds.HTTP_CHAOS.key: _chaos,
}
