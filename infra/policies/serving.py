"""Rules of the pods that answer, one resource at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from infra import termination
from infra.policies.declared import UNKNOWN, Declared
from infra.policies.inputs import at, many, number
from infra.policies.pods import (
    DAEMON_SET,
    SERVERS,
    WORKLOADS,
    called,
    containers,
    every_container,
    is_triton,
    option,
    options,
    pod,
    serves_model,
    template,
    variable,
    words,
)
from infra.policies.rule import Finding, resource_rule, unsure, wrong

PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
SERVER_READY: Final = "/v2/health/ready"
MARGIN_SECONDS: Final = 1
"""Between the end of a server and the kubelet's kill."""
TRITON_EXIT_SECONDS: Final = 30
"""Triton's own default of --exit-timeout-secs."""
_IMAGE: Final = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@resource_rule(
    "probes-present",
    "Every container that answers has a startup, a readiness and a liveness probe.",
    *SERVERS,
)
def probes_present(workload: Declared) -> Iterator[Finding]:
    """Startup keeps liveness from killing a slow start, readiness keeps traffic away, liveness restarts what hangs."""
    for container in containers(workload):
        missing = [probe for probe in PROBES if not at(container, probe)]
        if missing:
            yield wrong(
                workload,
                f"{called(container)} has no {', '.join(missing)}; a container that answers has all three: add them",
            )


@resource_rule(
    "probe-asks-the-model",
    f"No probe asks {SERVER_READY}: one bad version beside a good one turns it red while the good one still answers.",
    *WORKLOADS,
)
def probe_asks_the_model(workload: Declared) -> Iterator[Finding]:
    """Measured: docs/architecture.md; a bad upload would empty a Service that answers correctly."""
    for container in containers(workload):
        for probe in PROBES:
            path = at(container, probe, "httpGet", "path")
            command = " ".join(str(word) for word in many(at(container, probe, "exec", "command")))
            if SERVER_READY in str(path or command):
                yield wrong(
                    workload,
                    f"{probe} of {called(container)} asks {SERVER_READY}; it goes red with any version that does not"
                    " load: ask /v2/models/<name>/ready",
                )


@resource_rule(
    "grace-adds-up",
    f"A pod's grace period covers the pause before SIGTERM, its server's own exit and {MARGIN_SECONDS} s.",
    *SERVERS,
)
def grace_adds_up(workload: Declared) -> Iterator[Finding]:
    """Without the pause a request is sent to a pod that is gone; without the rest one in flight is cut."""
    grace = at(pod(workload), "terminationGracePeriodSeconds")
    if grace == UNKNOWN:
        yield unsure(workload, "terminationGracePeriodSeconds")
        return
    seconds = number(grace) if grace is not None else 30.0
    for container in containers(workload):
        pause = _pause(at(container, "lifecycle", "preStop"))
        if pause == UNKNOWN:
            yield unsure(workload, "the preStop hook")
            continue
        if pause is None and not at(container, "ports"):
            continue
        if pause is None:
            yield wrong(
                workload,
                f"{called(container)} has no preStop pause; proxies hear late that a pod leaves, and what they still"
                " send is lost: sleep some seconds in lifecycle.preStop",
            )
            continue
        needed = pause + _exit_seconds(container) + MARGIN_SECONDS
        if seconds is None or needed > seconds:
            yield wrong(
                workload,
                f"terminationGracePeriodSeconds is {grace or 30} and {called(container)} needs {needed:g}: {pause:g}"
                f" before SIGTERM, {_exit_seconds(container):g} to exit and {MARGIN_SECONDS} to spare; what is cut is a"
                " user's request: raise it, or lower the others",
            )


def _pause(hook: Any) -> Any:
    """Seconds a preStop hook sleeps; None where there is none or where it does something else."""
    if hook == UNKNOWN or hook is None:
        return hook
    slept = number(at(hook, "sleep", "seconds"))
    if slept is not None:
        return slept
    found = re.search(r"\bsleep\s+(\d+(?:\.\d+)?)", " ".join(str(w) for w in many(at(hook, "exec", "command"))))
    return float(found.group(1)) if found else None


def _exit_seconds(container: Any) -> float:
    """How long the server lets requests in flight end and its process takes after that; 0 for one of no deadline."""
    if is_triton(container):
        given = number(option(container, "exit-timeout-secs"))
        return (TRITON_EXIT_SECONDS if given is None else given) + termination.TRITON_REST_SECONDS
    if serves_model(container):
        drain = number(variable(container, "DRAIN_SECONDS"))
        request = number(variable(container, "REQUEST_TIMEOUT_SECONDS")) or 0
        late = 0 if drain is None else drain - termination.GATEWAY_DRAIN_SECONDS
        return termination.gateway_exit_seconds(request) + late + termination.GATEWAY_REST_SECONDS
    return number(option(container, "timeout-graceful-shutdown")) or 0


@resource_rule(
    "images-by-digest",
    "Every image is named by its digest, without a tag: a tag can be moved to other bytes.",
    *WORKLOADS,
)
def images_by_digest(workload: Declared) -> Iterator[Finding]:
    """repository@sha256:<64 hex digits>."""
    for container in every_container(workload):
        image = at(container, "image")
        if image == UNKNOWN:
            yield unsure(workload, f"the image of {called(container)}")
        elif not _by_digest(str(image)):
            yield wrong(
                workload,
                f"image of {called(container)} is {image}; two pods of one tag may run different bytes: write"
                " repository@sha256:<64 hex digits>",
            )


def _by_digest(image: str) -> bool:
    return bool(_IMAGE.fullmatch(image)) and ":" not in image.partition("@")[0].rpartition("/")[2]


@resource_rule(
    "pod-hardened",
    "Every pod runs as nobody in particular: not root, no capability, no way to gain one, a read-only root, seccomp, no"
    " part of its host; what a node itself needs (a DaemonSet) may be root and may mount its host's folders.",
    *WORKLOADS,
)
def pod_hardened(workload: Declared) -> Iterator[Finding]:
    """What the `restricted` pod security standard asks, and a read-only root."""
    spec = pod(workload)
    if spec == UNKNOWN:
        yield unsure(workload, "its pods")
        return
    for broken in _pod_faults(spec, node=workload.type == DAEMON_SET):
        yield wrong(workload, f"{broken}; a pod gains nothing and changes nothing but its volumes: see infra/pod.py")
    for container in every_container(workload):
        for broken in _container_faults(spec, container, node=workload.type == DAEMON_SET):
            yield wrong(
                workload,
                f"{called(container)} has {broken}; a container gains nothing and changes nothing but its volumes: set"
                " the securityContext of infra.pod.hardened",
            )


def _pod_faults(spec: Any, *, node: bool) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if at(spec, key) is True:
            yield f"{key} is true"
    if node:
        return
    for volume in many(at(spec, "volumes")):
        if at(volume, "hostPath") is not None:
            yield f"volume {at(volume, 'name')} is a folder of the host"


def _container_faults(spec: Any, container: Any, *, node: bool) -> Iterator[str]:
    own, shared = at(container, "securityContext"), at(spec, "securityContext")

    def effective(*keys: str) -> Any:
        value = at(own, *keys)
        return at(shared, *keys) if value is None else value

    capabilities = at(own, "capabilities")
    if at(own, "privileged") is True:
        yield "privileged true"
    if at(own, "allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation not false"
    if at(own, "readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem not true"
    if "ALL" not in many(at(capabilities, "drop")) or set(many(at(capabilities, "add"))) - {"NET_BIND_SERVICE"}:
        yield f"capabilities {capabilities} instead of drop ALL"
    if node:
        return
    if effective("runAsNonRoot") is not True or effective("runAsUser") == 0:
        yield "runAsNonRoot not true"
    if effective("seccompProfile", "type") not in ("RuntimeDefault", "Localhost"):
        yield f"seccompProfile {effective('seccompProfile', 'type')}"


@resource_rule(
    "resources-declared",
    "Every container requests CPU and memory and has a memory limit; a node can be filled, and not overfilled.",
    *WORKLOADS,
)
def resources_declared(workload: Declared) -> Iterator[Finding]:
    """No CPU limit is asked for: it adds latency and protects nobody."""
    for container in every_container(workload):
        resources = at(container, "resources")
        asked = {
            "requests.cpu": at(resources, "requests", "cpu"),
            "requests.memory": at(resources, "requests", "memory"),
            "limits.memory": at(resources, "limits", "memory"),
        }
        missing = [key for key, value in asked.items() if value is None]
        if missing:
            yield wrong(
                workload,
                f"{called(container)} has no {', '.join(missing)}; the scheduler fills nodes by them, and without a"
                " limit one pod takes its neighbours' memory: set them",
            )
        elif UNKNOWN in asked.values():
            yield unsure(workload, f"the resources of {called(container)}")


@resource_rule(
    "models-verified",
    "A pod that serves a model opens only versions that an init container fetched and verified by digest.",
    *WORKLOADS,
)
def models_verified(workload: Declared) -> Iterator[Finding]:
    """serving.fetch with a --digest for each version, before anything serves."""
    if not any(serves_model(container) for container in containers(workload)):
        return
    fetchers = [one for one in containers(workload, init=True) if "serving.fetch" in words(one)]
    digests = [digest for one in fetchers for digest in options(one, "digest")]
    if UNKNOWN in digests or (not digests and any(UNKNOWN in words(one) for one in fetchers)):
        yield unsure(workload, "a digest it fetches")
        return
    if not digests or not all(_DIGEST.fullmatch(digest) for digest in digests):
        yield wrong(
            workload,
            f"its init containers fetch {digests or 'nothing'}; a server opens only bytes of a declared digest: add an"
            " init container of infra.pod.fetch with sha256:... digests",
        )
    served = at(template(workload), "metadata", "annotations", "tandem.io/model-digest")
    if served is not None and digests and served not in digests:
        yield wrong(
            workload,
            f"tandem.io/model-digest is {served} and its init container fetches {digests}; what the pod says is what it"
            " serves: give both the same digest",
        )


@resource_rule(
    "model-control-closed",
    "Triton opens what lies there when it starts and nothing later: --model-control-mode=none.",
    *WORKLOADS,
)
def model_control_closed(workload: Declared) -> Iterator[Finding]:
    """With another mode whoever reaches its port loads and unloads models."""
    for container in containers(workload):
        mode = option(container, "model-control-mode")
        if is_triton(container) and mode != "none":
            yield wrong(
                workload,
                f"--model-control-mode of {called(container)} is {mode or 'not given'}; models change by rollouts only:"
                " pass --model-control-mode=none",
            )


RULES: Final = (
    probes_present,
    probe_asks_the_model,
    grace_adds_up,
    images_by_digest,
    pod_hardened,
    resources_declared,
    models_verified,
    model_control_closed,
)
