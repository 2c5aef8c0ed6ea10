"""When an object has become what its manifest says, by kind, and how long to wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from lab.providers.errors import ProviderError
from lab.providers.kubernetes.api import Api, RefusedError, Resource, UnreachableError
from lab.providers.kubernetes.diagnosis import explain_pods, fatal_reasons, is_ready, label_selector, pods_of, warnings
from lab.providers.package import Limits

DEADLINE_SECONDS: Final = 120.0
"""In the lab; a resource's customTimeouts or pulumi.com/timeoutSeconds take precedence."""
FATAL_SECONDS: Final = 15.0
"""A state that waiting does not mend is given up after this long."""
POLL_SECONDS: Final = 0.3
PODS_SECONDS: Final = 2.0
"""How often the pods are looked at while their workload is waited for."""
SKIP: Final = "pulumi.com/skipAwait"
TIMEOUT: Final = "pulumi.com/timeoutSeconds"

Status = Mapping[str, Any]
WORKLOADS: Final = frozenset({"DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"})


class NotReadyError(ProviderError):
    """The object exists and did not become ready; `live` is how it was last seen."""

    def __init__(self, reasons: list[str], live: dict[str, Any]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons
        self.live = live


def deadline_seconds(obj: Mapping[str, Any], limits: Limits) -> float:
    """How long to wait for an object."""
    annotation = (obj["metadata"].get("annotations") or {}).get(TIMEOUT)
    if limits.timeout_seconds > 0:
        return limits.timeout_seconds
    try:
        return float(annotation) if annotation is not None else DEADLINE_SECONDS
    except ValueError:
        raise ProviderError(f"annotation {TIMEOUT} is {annotation!r}; it has to be a number of seconds") from None


def wait_until_ready(api: Api, resource: Resource, live: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The object once it is ready; NotReadyError names it and the cause."""
    waiting = PENDING.get((group_of(resource.api_version), resource.kind))
    if waiting is None or (live["metadata"].get("annotations") or {}).get(SKIP) == "true":
        return live
    seconds = deadline_seconds(live, limits)
    name, namespace = live["metadata"]["name"], live["metadata"].get("namespace")
    title = f"{resource.kind} {namespace}/{name}" if namespace else f"{resource.kind} {name}"
    started, hopeless_since = time.monotonic(), None
    pending, hopeless, look_at_pods = "", False, started
    while True:
        try:
            found = api.get(resource, namespace, name)
            if found is None:
                raise NotReadyError([f"{title}: it was removed by somebody else while it came up"], live)
            live = found
            pending = waiting(api, live)
            if pending and time.monotonic() >= look_at_pods:
                hopeless, look_at_pods = _hopeless(api, live), time.monotonic() + PODS_SECONDS
        except UnreachableError as error:
            pending, hopeless = str(error), False
        if not pending:
            return live
        now = time.monotonic()
        hopeless_since = (hopeless_since or now) if hopeless else None
        if hopeless_since is not None and now - hopeless_since >= FATAL_SECONDS:
            raise NotReadyError([_report(api, title, live, pending, f"given up after {now - started:.0f} s")], live)
        if now - started >= seconds:
            raise NotReadyError([_report(api, title, live, pending, f"not ready after {seconds:.0f} s")], live)
        if not limits.wanted():
            raise NotReadyError([f"{title}: the wait was cancelled; {pending}"], live)
        time.sleep(POLL_SECONDS)


def wait_until_gone(api: Api, resource: Resource, namespace: str | None, name: str, uid: str, limits: Limits) -> None:
    """Return once the object with this uid is gone; ProviderError names what holds it."""
    started = time.monotonic()
    seconds = limits.timeout_seconds or DEADLINE_SECONDS
    while True:
        live = api.get(resource, namespace, name)
        if live is None or (uid and live["metadata"].get("uid") != uid):
            return
        if time.monotonic() - started >= seconds or not limits.wanted():
            finalizers = live["metadata"].get("finalizers") or []
            held = f"finalizers {', '.join(finalizers)} hold it" if finalizers else "it is still shutting down"
            raise ProviderError(f"{resource.kind} {namespace or ''}/{name}: not gone after {seconds:.0f} s; {held}")
        time.sleep(POLL_SECONDS)


def group_of(api_version: str) -> str:
    """The API group; empty for the core group."""
    return api_version.partition("/")[0] if "/" in api_version else ""


def _report(api: Api, title: str, live: dict[str, Any], pending: str, verdict: str) -> str:
    try:
        pods = _pods(api, live)
        causes = explain_pods(api, live, pods) if pods is not None else [_event(event) for event in warnings(api, live)]
    except ProviderError as error:
        causes = [str(error)]
    return f"{title}: {verdict}: {pending}" + "".join(f"; {cause}" for cause in causes)


def _event(event: Mapping[str, Any]) -> str:
    return f"{event.get('reason')}: {event.get('message')}"


def _pods(api: Api, live: dict[str, Any]) -> list[dict[str, Any]] | None:
    kind = live["kind"]
    if kind == "Pod":
        return [live]
    if kind in WORKLOADS or kind == "Job":
        return pods_of(api, live)
    selector = (live.get("spec") or {}).get("selector") if kind == "Service" else None
    if not selector:
        return None
    return api.list("v1", "Pod", live["metadata"].get("namespace"), labels=label_selector({"matchLabels": selector}))


def _hopeless(api: Api, live: dict[str, Any]) -> bool:
    if live["kind"] not in WORKLOADS | {"Pod", "Job"}:
        return False
    conditions = (live.get("status") or {}).get("conditions") or []
    if any(item["type"] == "Progressing" and item["status"] == "False" for item in conditions):
        return True
    try:
        return bool(fatal_reasons(_pods(api, live) or []))
    except RefusedError:
        return False


def _observed(live: Mapping[str, Any]) -> str:
    seen = int((live.get("status") or {}).get("observedGeneration") or 0)
    wanted = int(live["metadata"].get("generation") or 0)
    return "" if seen >= wanted else "its controller has not taken it up yet"


def _deployment(_: Api, live: Mapping[str, Any]) -> str:
    status, spec = live.get("status") or {}, live.get("spec") or {}
    replicas = int(spec.get("replicas", 1))
    if spec.get("paused"):
        return ""
    late = _observed(live)
    if late:
        return late
    updated, total = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    available = int(status.get("availableReplicas") or 0)
    if updated < replicas:
        return f"{updated} of {replicas} replicas are updated"
    if total > updated:
        return f"{total - updated} old replicas are still there"
    return "" if available >= replicas else f"{available} of {replicas} replicas are available"


def _stateful_set(_: Api, live: Mapping[str, Any]) -> str:
    status, replicas = live.get("status") or {}, int((live.get("spec") or {}).get("replicas", 1))
    ready, updated = int(status.get("readyReplicas") or 0), int(status.get("updatedReplicas") or 0)
    settled = ready >= replicas and updated >= replicas
    return _observed(live) or ("" if settled else f"{ready} of {replicas} replicas are ready, {updated} updated")


def _replica_set(_: Api, live: Mapping[str, Any]) -> str:
    ready = int((live.get("status") or {}).get("readyReplicas") or 0)
    replicas = int(live["spec"].get("replicas", 1))
    return _observed(live) or ("" if ready >= replicas else f"{ready} of {replicas} replicas are ready")


def _daemon_set(_: Api, live: Mapping[str, Any]) -> str:
    status = live.get("status") or {}
    wanted = int(status.get("desiredNumberScheduled") or 0)
    updated, available = int(status.get("updatedNumberScheduled") or 0), int(status.get("numberAvailable") or 0)
    settled = updated >= wanted and available >= wanted
    return _observed(live) or ("" if settled else f"{available} of {wanted} nodes run it, {updated} the new version")


def _pod(_: Api, live: Mapping[str, Any]) -> str:
    phase = (live.get("status") or {}).get("phase")
    return "" if phase == "Succeeded" or is_ready(live) else f"it is {phase or 'Pending'}"


def _job(_: Api, live: Mapping[str, Any]) -> str:
    conditions = (live.get("status") or {}).get("conditions") or []
    held = {item["type"]: item for item in conditions if item["status"] == "True"}
    if "Failed" in held:
        failed = held["Failed"]
        name = f"{live['metadata'].get('namespace')}/{live['metadata']['name']}"
        raise NotReadyError([f"Job {name}: failed: {failed.get('reason')}: {failed.get('message')}"], dict(live))
    return "" if "Complete" in held or (live.get("spec") or {}).get("suspend") else "it has not completed"


def _namespace(_: Api, live: Mapping[str, Any]) -> str:
    phase = (live.get("status") or {}).get("phase", "Active")
    return "" if phase == "Active" else f"it is {phase}"


def _service(api: Api, live: Mapping[str, Any]) -> str:
    spec = live.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return ""
    if spec.get("selector") and not _has_endpoints(api, live):
        selector = label_selector({"matchLabels": spec["selector"]})
        return f"no ready pod matches its selector {selector} (annotate it with {SKIP}: 'true' not to wait for pods)"
    balancer = (live.get("status") or {}).get("loadBalancer") or {}
    if spec.get("type") == "LoadBalancer" and not balancer.get("ingress"):
        return "its load balancer has no address yet"
    return ""


def _has_endpoints(api: Api, service: Mapping[str, Any]) -> bool:
    meta = service["metadata"]
    labels = f"kubernetes.io/service-name={meta['name']}"
    slices = api.list("discovery.k8s.io/v1", "EndpointSlice", meta.get("namespace"), labels=labels)
    endpoints = [item for each in slices for item in each.get("endpoints") or []]
    return any((item.get("conditions") or {}).get("ready") is not False for item in endpoints)


PENDING: Final[Mapping[tuple[str, str], Callable[[Api, Mapping[str, Any]], str]]] = {
    ("", "Namespace"): _namespace,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("batch", "Job"): _job,
}
"""(group, kind) -> what is still missing, in words; empty when the object is ready. Other kinds are ready at once."""
