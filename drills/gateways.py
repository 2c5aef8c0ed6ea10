"""What a site's gateways say of their traffic: their own counters, read through the site's Kubernetes API.

Errors: SilentGatewaysError
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubernetes.client.exceptions import ApiException

from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, COMPONENT, NOT_FOUND, cluster, gateway_way, ready
from drills.drill import DrillError
from stacks.contract import Deployment, ServingOutputs

METRICS_PATH: Final = "metrics"
WINDOW_SECONDS: Final = 2.0
AGAIN: Final = 2
"""So often a ready gateway that does not answer is asked again."""
AGAIN_SECONDS: Final = 0.5
QUIET_SECONDS: Final = 2.0
"""No request for so long is none at all."""
FAILED: Final = "failed"
"""Requests answered with a 5xx."""
_FAMILIES: Final = {
    "tandem_requests_total": "requests",
    "tandem_shed_total": "shed",
    "tandem_request_duration_seconds_sum": "seconds",
    "tandem_request_duration_seconds_count": "answers",
    "tandem_connections": "connections",
}


class SilentGatewaysError(DrillError):
    """Gateways whose counters cannot be read: what they carry is not known."""


@dataclass(frozen=True)
class Reading:
    """Counters of a site's gateways at one moment, by pod."""

    at: float
    """Monotonic seconds."""
    pods: dict[str, dict[str, float]]
    silent: list[str] = field(default_factory=list)
    """Pods that no user is led to any more and that do not answer."""

    @property
    def connections(self) -> int:
        """Open connections that asked for a recommendation."""
        return int(sum(pod["connections"] for pod in self.pods.values()))


@dataclass(frozen=True)
class Flow:
    """What a site carried between two readings."""

    requests_per_second: float
    shed_per_second: float
    latency_seconds: float | None
    """Mean from a request's headers to its answer; None when there never was a request."""
    connections: int
    pods: int

    def document(self) -> dict[str, Any]:
        """For JSON output."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in vars(self).items()}


def read(deployment: Deployment, site: str) -> Reading:
    """Counters of every gateway that runs. Raises SilentGatewaysError when a ready one does not answer."""
    serving = deployment.serving[site]
    try:
        core = cluster(deployment, site).core
        found = core.list_namespaced_pod(
            serving.namespace,
            label_selector=f"{COMPONENT}={serving.gateway_deployment}",
            _request_timeout=API_TIMEOUT_SECONDS,
        )
    except API_ERRORS as error:
        raise SilentGatewaysError(f"pods of {site}: {_why(error)}") from error
    except DrillError as error:
        raise SilentGatewaysError(f"pods of {error}") from error
    pods: dict[str, dict[str, float]] = {}
    silent = []
    for pod in found.items:
        if pod.status.phase != "Running" or not any(each.state.running for each in pod.status.container_statuses or ()):
            continue
        try:
            answered = _counted(core, pod, serving)
        except API_ERRORS as error:
            raise SilentGatewaysError(f"gateway {pod.metadata.name} of {site}: {_why(error)}") from error
        if answered is None:
            silent.append(pod.metadata.name)
        else:
            pods[pod.metadata.name] = answered
    return Reading(time.monotonic(), pods, silent)


def _counted(core: Any, pod: Any, serving: ServingOutputs) -> dict[str, float] | None:
    """Counters of one gateway; None of a silent one no user is led to. Raises what the API raises.

    A pod that is going may be listed as ready for a moment after it has gone: one that is silent is looked at again.
    """
    name, namespace = pod.metadata.name, serving.namespace
    way = gateway_way(serving, name, pod.spec.containers[0].ports[0].container_port)
    for last in (*(False,) * AGAIN, True):
        try:
            answer = core.connect_get_namespaced_pod_proxy_with_path(
                way, namespace, METRICS_PATH, _request_timeout=API_TIMEOUT_SECONDS, _preload_content=False
            )
            return counters(answer.data.decode())
        except API_ERRORS:
            try:
                pod = core.read_namespaced_pod(name, namespace, _request_timeout=API_TIMEOUT_SECONDS)
            except ApiException as error:
                if error.status == NOT_FOUND:
                    return None
                raise
            if pod.metadata.deletion_timestamp is not None or not ready(pod):
                return None
            if last:
                raise
        time.sleep(AGAIN_SECONDS)
    return None


def counters(exposition: str) -> dict[str, float]:
    """The counters out of Prometheus' text format, summed over labels; 0 for one that is not there yet."""
    found = dict.fromkeys((*_FAMILIES.values(), FAILED), 0.0)
    for line in exposition.splitlines():
        family = line.partition("{")[0].partition(" ")[0]
        if family in _FAMILIES:
            value = float(line.rpartition(" ")[2])
            found[_FAMILIES[family]] += value
            if family == "tandem_requests_total" and 'code="5' in line:
                found[FAILED] += value
    return found


def flow(before: Reading, after: Reading) -> Flow:
    """What was carried between two readings; a gateway that began anew counts from zero."""
    seconds = max(after.at - before.at, 1e-9)
    grown = {name: sum(_grown(before, after, name)) for name in _FAMILIES.values()}
    ever = {name: sum(pod[name] for pod in after.pods.values()) for name in ("seconds", "answers")}
    latency = next((each["seconds"] / each["answers"] for each in (grown, ever) if each["answers"] > 0), None)
    return Flow(grown["requests"] / seconds, grown["shed"] / seconds, latency, after.connections, len(after.pods))


def _grown(before: Reading, after: Reading, name: str) -> list[float]:
    earlier: Mapping[str, Mapping[str, float]] = before.pods
    steps = []
    for pod, counted in after.pods.items():
        start = earlier.get(pod, {}).get(name, 0.0)
        steps.append(counted[name] - (start if counted["requests"] >= earlier.get(pod, {}).get("requests", 0.0) else 0))
    return steps


async def measure(deployment: Deployment, site: str, seconds: float = WINDOW_SECONDS) -> Flow:
    """What a site carries now. Raises SilentGatewaysError."""
    before = await asyncio.to_thread(read, deployment, site)
    await asyncio.sleep(seconds)
    return flow(before, await asyncio.to_thread(read, deployment, site))


class Traffic:
    """What is left of a site's users."""

    def __init__(self, deployment: Deployment, site: str) -> None:
        self._deployment = deployment
        self._site = site
        self._before: Reading | None = None
        self._trouble = "not read yet"
        self.last_request = 0.0
        """When the last request was seen to have come, on the monotonic clock."""
        self.closed = 0.0
        """When there was no connection for the first time since there was one."""

    async def look(self) -> bool:
        """Read once; whether that was possible."""
        try:
            seen = await asyncio.to_thread(read, self._deployment, self._site)
        except SilentGatewaysError as error:
            self._trouble = str(error)
            self._before = None
            return False
        self._trouble = ""
        if self._before is None or flow(self._before, seen).requests_per_second > 0:
            self.last_request = seen.at
        if seen.connections:
            self.closed = 0.0
        elif not self.closed:
            self.closed = seen.at
        self._before = seen
        return True

    @property
    def empty(self) -> bool:
        """Whether no connection is open and nobody has asked for a while."""
        if self._before is None or not self.closed:
            return False
        return self._before.at - self.last_request >= QUIET_SECONDS

    def __str__(self) -> str:
        if self._before is None:
            return f"its gateways cannot be asked ({self._trouble})"
        since = self._before.at - self.last_request
        return f"{self._before.connections} connections, last request {since:.1f} s ago"


def _why(error: Exception) -> str:
    """An API's refusal or silence in one line."""
    return f"{error.status} {error.reason}" if isinstance(error, ApiException) else f"{type(error).__name__}"
