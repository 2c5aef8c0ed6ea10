"""Probes of a site's pods, through its Kubernetes API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError

from drills.access import API_TIMEOUT_SECONDS, cluster, gateway_way
from drills.drill import Observation
from stacks.contract import Deployment

LIVE_PATH = "livez"
SERVER_ERROR = 500


@dataclass(frozen=True)
class PodsReady:
    """As many Triton and gateway pods are ready at a site as its stack declares."""

    deployment: Deployment
    site: str
    all_of_them: bool = True
    """With false: fewer are ready than declared."""

    @property
    def name(self) -> str:
        return f"{'declared' if self.all_of_them else 'fewer than the declared'} pods of {self.site} ready"

    async def ask(self) -> Observation:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Observation:
        serving = self.deployment.serving[self.site]
        declared = {
            serving.triton_deployment: serving.triton_replicas,
            serving.gateway_deployment: serving.gateway_replicas,
        }
        api = cluster(self.deployment, self.site).apps
        ready: dict[str, int] = {}
        try:
            for name in declared:
                found = api.read_namespaced_deployment(name, serving.namespace, _request_timeout=API_TIMEOUT_SECONDS)
                ready[name] = (found.status.ready_replicas if found.status else None) or 0
        except (ApiException, HTTPError, OSError) as error:
            return Observation(self.name, held=False, detail=f"{type(error).__name__}: {error}"[:300])
        detail = ", ".join(f"{name} {ready[name]} of {declared[name]}" for name in declared)
        fewer = any(ready[name] < declared[name] for name in declared)
        return Observation(self.name, held=ready == declared if self.all_of_them else fewer, detail=detail)


@dataclass(frozen=True)
class PodSilent:
    """A gateway pod that is there gives no answer to the site's own control plane.

    Only the API's word that the pod could not be reached proves it: an API that refuses or cannot be asked does not.
    """

    deployment: Deployment
    site: str
    pod: str
    port: int

    @property
    def name(self) -> str:
        return f"pod {self.pod} of {self.site} is silent"

    async def ask(self) -> Observation:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Observation:
        core = cluster(self.deployment, self.site).core
        serving = self.deployment.serving[self.site]
        namespace, way = serving.namespace, gateway_way(serving, self.pod, self.port)
        try:
            core.read_namespaced_pod(self.pod, namespace, _request_timeout=API_TIMEOUT_SECONDS)
        except (ApiException, HTTPError, OSError) as error:
            return Observation(self.name, held=False, detail=f"the API does not tell of it: {_said(error)}")
        try:
            core.connect_get_namespaced_pod_proxy_with_path(
                way, namespace, LIVE_PATH, _request_timeout=API_TIMEOUT_SECONDS
            )
        except ApiException as error:
            return Observation(self.name, held=error.status >= SERVER_ERROR, detail=_said(error))
        except HTTPError as error:
            cause = error.reason if isinstance(error, MaxRetryError) else error
            return Observation(self.name, held=isinstance(cause, ReadTimeoutError), detail=_said(error))
        except OSError as error:
            return Observation(self.name, held=False, detail=_said(error))
        return Observation(self.name, held=False, detail="answers")


def _said(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}"
    return f"{type(error).__name__}: {error}"[:200]
