"""What a drill reaches the deployment with: each site's Kubernetes API, its edge, and the DNS service's API."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from drills.drill import DrillError, completed
from signals.store import is_loopback
from stacks.contract import Deployment, ServingOutputs, SiteEndpoint, TrafficOutputs

API_TIMEOUT_SECONDS = 5.0
CALL_SECONDS: Final = 2 * API_TIMEOUT_SECONDS
"""One call to an API with everything around it: the credentials asked for, and the answer."""
API_ERRORS: Final = (ApiException, HTTPError, OSError, ConfigException)
"""What a call to a Kubernetes API raises."""
NOT_FOUND: Final = 404
COMPONENT: Final = "app.kubernetes.io/name"
"""Label that says which part of the service an object is."""
SERVICE_HOST: Final = "KUBERNETES_SERVICE_HOST"
SERVICE_PORT: Final = "KUBERNETES_SERVICE_PORT"
ACCOUNT_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class Cluster:
    """One site's Kubernetes API. Its parts are untyped: their stubs call every field of every object optional."""

    def __init__(self, api: client.ApiClient) -> None:
        self.api = api

    @classmethod
    def of(cls, kubeconfig: str) -> Self:
        """From outside, with a kubeconfig in JSON."""
        settings = _settings()
        config.load_kube_config_from_dict(json.loads(kubeconfig), client_configuration=settings)  # type: ignore[no-untyped-call]  # their stubs
        _prompt(settings)
        return cls(client.ApiClient(settings))

    @classmethod
    def inside(cls, kubeconfig: str) -> Self:
        """From a pod: as its service account, or with no credential where the API asks for none.

        The site's own address of the API is used either way: the one outside may lie beyond a cut.
        """
        if not ACCOUNT_TOKEN.exists():
            content = json.loads(kubeconfig)
            where = content["clusters"][0]["cluster"]
            scheme = urlsplit(where["server"]).scheme
            where["server"] = f"{scheme}://{os.environ[SERVICE_HOST]}:{os.environ[SERVICE_PORT]}"
            return cls.of(json.dumps(content))
        settings = _settings()
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]  # their stubs
        _prompt(settings)
        return cls(client.ApiClient(settings))

    @cached_property
    def apps(self) -> Any:
        """The `apps/v1` API."""
        return client.AppsV1Api(self.api)

    @cached_property
    def core(self) -> Any:
        """The core API."""
        return client.CoreV1Api(self.api)

    @cached_property
    def batch(self) -> Any:
        """The `batch/v1` API."""
        return client.BatchV1Api(self.api)

    @cached_property
    def networking(self) -> Any:
        """The `networking.k8s.io/v1` API."""
        return client.NetworkingV1Api(self.api)

    @cached_property
    def authorization(self) -> Any:
        """The `authorization.k8s.io/v1` API."""
        return client.AuthorizationV1Api(self.api)

    @cached_property
    def custom(self) -> Any:
        """Custom resources."""
        return client.CustomObjectsApi(self.api)


def _settings() -> client.Configuration:
    """Without retries: a deadline is what it says, and who asks knows best whether to ask again."""
    settings = client.Configuration()
    settings.retries = False
    return settings


def _prompt(settings: client.Configuration) -> None:
    """Credentials that come late are not used: nobody waits any more for the answer to what they would sign."""
    hook: Any = settings.refresh_api_key_hook
    if hook is None:
        return

    def refresh(given: client.Configuration) -> None:
        began = time.monotonic()
        hook(given)
        given.refresh_api_key_hook = refresh  # type: ignore[assignment]  # theirs has put itself in its place
        if time.monotonic() - began > API_TIMEOUT_SECONDS:
            raise ConfigException(f"the kubeconfig's credentials took more than {API_TIMEOUT_SECONDS:g} s")

    settings.refresh_api_key_hook = refresh  # type: ignore[assignment]  # their stubs: None for ever


def cluster(deployment: Deployment, site: str) -> Cluster:
    """A site's cluster, through the kubeconfig its pool stack exports. Raises DrillError: not usable, or too late."""
    began = time.monotonic()
    try:
        with _making_clients:
            made = _cluster(deployment.pool[site].kubeconfig)
    except ConfigException as error:
        raise DrillError(
            f"{site}: its kubeconfig cannot be used: {error}; bring the site up again: tandem up"
        ) from error
    if time.monotonic() - began > API_TIMEOUT_SECONDS:
        raise DrillError(
            f"{site}: the credentials of its kubeconfig took over {API_TIMEOUT_SECONDS:g} s; run its plugin by hand"
        )
    return made


async def answered(call: Callable[[], Any], threads: Executor, seconds: float = CALL_SECONDS) -> Any:
    """The answer of a call that blocks, waited for to its end or its deadline even when cancelled.

    Raises TimeoutError. A thread whose credentials' plugin hangs lingers then, also beyond the end of the program;
    what it gets too late is not sent.
    """

    async def within() -> Any:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(threads, call)

    return await completed(asyncio.ensure_future(within()))


@cache
def _cluster(kubeconfig: str) -> Cluster:
    return Cluster.of(kubeconfig)


def route53(traffic: TrafficOutputs) -> Any:
    """A Route 53 client; credentials come from the usual environment, and none are asked for on loopback."""
    with _making_clients:
        return _route53(traffic.dns_api)


_making_clients = threading.Lock()
"""Clients may be shared between threads, making one may not."""


@cache
def _route53(endpoint: str) -> Any:
    timeouts = Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2})
    if not endpoint:
        return boto3.client("route53", config=timeouts)
    nobody = "none" if is_loopback(endpoint) else None
    return boto3.client(
        "route53",
        endpoint_url=endpoint,
        region_name="us-east-1",
        config=timeouts,
        aws_access_key_id=nobody,
        aws_secret_access_key=nobody,
    )


def site_url(traffic: TrafficOutputs, endpoint: SiteEndpoint, path: str) -> str:
    """URL that reaches one site whatever DNS says."""
    return f"{traffic.scheme}://{endpoint.address}:{endpoint.port}{path}"


def as_client(traffic: TrafficOutputs, endpoint: SiteEndpoint) -> dict[str, Any]:
    """What makes a request to a site's address look like one of a client that asked for the service by name."""
    default = {"http": 80, "https": 443}[traffic.scheme]
    host = traffic.service_name if endpoint.port == default else f"{traffic.service_name}:{endpoint.port}"
    return {"headers": {"Host": host}, "extensions": {"sni_hostname": traffic.service_name}}


def gateway_way(serving: ServingOutputs, pod: str, port: int) -> str:
    """How a gateway is named to the pod proxy of its site's API, in the protocol it speaks.

    An API server speaks plain http unless it is told otherwise, and looks at no pod's certificate
    (https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/#manually-constructing-apiserver-proxy-urls).
    """
    return f"{'https:' if serving.gateway_scheme == 'https' else ''}{pod}:{port}"


def ready(pod: Any) -> bool:
    """Whether a pod's own condition says that it may be asked."""
    return any(each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ())
