"""Why pods do not come up: one sentence per pod that names pod, container and cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from lab.providers.errors import ProviderError
from lab.providers.kubernetes.api import Api

PODS_NAMED: Final = 3
LOG_LINES: Final = 6
LONGEST_LOG: Final = 600
RESTARTS_TOO_MANY: Final = 3
FATAL: Final = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Waiting reasons that do not go away by waiting."""


def label_selector(selector: Mapping[str, Any]) -> str:
    """A label selector object in query form."""
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for rule in selector.get("matchExpressions") or []:
        key, values = rule["key"], ",".join(rule.get("values") or [])
        forms = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        parts.append(forms[rule["operator"]])
    return ",".join(parts)


def pods_of(api: Api, workload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pods of a workload's newest template that are not on their way out."""
    namespace = workload["metadata"].get("namespace")
    selector = label_selector((workload.get("spec") or {}).get("selector") or {})
    if not selector:
        return []
    pods = api.list("v1", "Pod", namespace, labels=selector)
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    if workload["kind"] != "Deployment":
        return alive
    sets = [each for each in api.list("apps/v1", "ReplicaSet", namespace, labels=selector) if _owned(each, workload)]
    if not sets:
        return alive
    newest = max(sets, key=_revision)
    return [pod for pod in alive if _owned(pod, newest)]


def fatal_reasons(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    """What will not go away by waiting; empty while there is hope."""
    return [reason for pod in pods for reason in _fatal(pod)]


def explain_pods(api: Api, workload: Mapping[str, Any], pods: list[dict[str, Any]]) -> list[str]:
    """The causes, most telling first; events of the workload when it has no pods at all."""
    causes = [cause for pod in pods for cause in _explain_pod(api, pod)][:PODS_NAMED]
    if not causes:
        causes = list(_conditions(workload)) + [_event_text(event) for event in warnings(api, workload)[:PODS_NAMED]]
    return causes


def warnings(api: Api, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Warning events about one object, newest first."""
    meta = about["metadata"]
    try:
        events = api.list("v1", "Event", meta.get("namespace"), fields=f"involvedObject.name={meta['name']}")
    except ProviderError:
        return []
    kind = about.get("kind") or "Pod"
    found = [
        event for event in events if event.get("type") == "Warning" and event["involvedObject"].get("kind") == kind
    ]
    return sorted(
        found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), reverse=True
    )


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's Ready condition holds."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _fatal(pod: Mapping[str, Any]) -> Iterator[str]:
    for status, initial in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        restarts = int(status.get("restartCount") or 0)
        crashing = waiting.get("reason") == "CrashLoopBackOff" and restarts >= RESTARTS_TOO_MANY
        done = ((status.get("state") or {}).get("terminated") or {}).get("exitCode") == 0
        if waiting.get("reason") in FATAL or crashing or (initial and restarts >= RESTARTS_TOO_MANY and not done):
            yield f"{pod['metadata']['name']}/{status['name']}: {waiting.get('reason') or 'restarting'}"
    if (pod.get("status") or {}).get("phase") == "Failed":
        yield f"{pod['metadata']['name']}: Failed"


def _statuses(pod: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    status = pod.get("status") or {}
    for item in status.get("initContainerStatuses") or []:
        yield item, True
    for item in status.get("containerStatuses") or []:
        yield item, False


def _explain_pod(api: Api, pod: Mapping[str, Any]) -> Iterator[str]:
    if is_ready(pod) or (pod.get("status") or {}).get("phase") == "Succeeded":
        return
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"pod {name} is not scheduled: {condition.get('message') or condition.get('reason')}"
            return
    blocked = False
    for container, initial in _statuses(pod):
        cause = _explain_container(api, pod, container, initial=initial)
        if cause and not blocked:
            yield f"pod {name}: {cause}"
            blocked = initial
    if not list(_statuses(pod)):
        reason = status.get("message") or status.get("reason") or "no container has been started"
        yield f"pod {name} is {status.get('phase', 'Pending')}: {reason}"


def _explain_container(api: Api, pod: Mapping[str, Any], status: Mapping[str, Any], *, initial: bool) -> str:
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    what = f"{'init container' if initial else 'container'} {status['name']}"
    if ended:
        if ended.get("exitCode") == 0 and initial:
            return ""
        return f"{what} ended: {_ending(api, pod, status, ended, previous=False)}"
    if waiting.get("reason") == "PodInitializing":
        return ""
    if waiting:
        reason = f"{what} is waiting: {waiting.get('reason', 'unknown')}"
        if waiting.get("message"):
            reason += f": {waiting['message']}"
        return f"{reason}; it last ended: {_ending(api, pod, status, last, previous=True)}" if last else reason
    if "running" in state and not status.get("ready") and not initial:
        return f"{what} is not ready: {_probe_cause(api, pod, status['name'])}" + (
            f"; it last ended: {_ending(api, pod, status, last, previous=True)}" if last else ""
        )
    return f"{what} has not finished" if "running" in state and initial else ""


def _ending(
    api: Api, pod: Mapping[str, Any], status: Mapping[str, Any], ended: Mapping[str, Any], *, previous: bool
) -> str:
    text = f"exit code {ended.get('exitCode')} ({ended.get('reason') or 'Error'})"
    said = str(ended.get("message") or "").strip()
    if not said:
        meta = pod["metadata"]
        said = api.log(meta["namespace"], meta["name"], status["name"], previous=previous, lines=LOG_LINES)
    return f"{text}: {said[-LONGEST_LOG:]}" if said else text


def _probe_cause(api: Api, pod: Mapping[str, Any], container: str) -> str:
    """The newest failed probe of a container, with the probe as the manifest writes it."""
    spec: Mapping[str, Any] = next((item for item in pod["spec"]["containers"] if item["name"] == container), {})
    for event in warnings(api, {**pod, "kind": "Pod"}):
        message = str(event.get("message") or "")
        if event.get("reason") == "Unhealthy" and _is_about(event, message, container, pod):
            kind = message.partition(" ")[0].lower()
            probe = spec.get(f"{kind}Probe")
            return f"{kind} probe {_probe(probe)}: {message}" if probe else message
    probes = [
        f"{kind} probe {_probe(spec[f'{kind}Probe'])}" for kind in ("startup", "readiness") if f"{kind}Probe" in spec
    ]
    return f"{' and '.join(probes)} has not succeeded yet" if probes else "it has no readiness probe and is not ready"


def _is_about(event: Mapping[str, Any], message: str, container: str, pod: Mapping[str, Any]) -> bool:
    field = str((event.get("involvedObject") or {}).get("fieldPath") or "")
    return len(pod["spec"]["containers"]) == 1 or f"{{{container}}}" in field or f"container {container}" in message


def _probe(probe: Mapping[str, Any]) -> str:
    http = probe.get("httpGet")
    if http:
        return f"GET {http.get('path', '/')} on port {http.get('port')}"
    if probe.get("tcpSocket"):
        return f"TCP on port {probe['tcpSocket'].get('port')}"
    if probe.get("grpc"):
        return f"gRPC on port {probe['grpc'].get('port')}"
    return f"exec {' '.join((probe.get('exec') or {}).get('command') or [])}"


def _conditions(workload: Mapping[str, Any]) -> Iterator[str]:
    for condition in (workload.get("status") or {}).get("conditions") or []:
        failed = condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        stalled = condition["type"] == "Progressing" and condition["status"] == "False"
        if failed or stalled:
            yield f"{condition.get('reason')}: {condition.get('message')}"


def _event_text(event: Mapping[str, Any]) -> str:
    return f"{event.get('reason')}: {event.get('message')}"


def _owned(obj: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    uid = owner["metadata"].get("uid")
    return any(reference.get("uid") == uid for reference in obj["metadata"].get("ownerReferences") or [])


def _revision(replica_set: Mapping[str, Any]) -> tuple[int, str]:
    annotations = replica_set["metadata"].get("annotations") or {}
    revision = int(annotations.get("deployment.kubernetes.io/revision") or 0)
    return revision, str(replica_set["metadata"].get("creationTimestamp") or "")
