"""What a drill reaches the deployment with: each site's Kubernetes API, its edge, and the DNS service's API."""

from __future__ import annotations

import json
import threading
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from kubernetes import client, config

from stacks.contract import Deployment, SiteEndpoint, TrafficOutputs

API_TIMEOUT_SECONDS = 5.0


def apps_api(deployment: Deployment, site: str) -> client.AppsV1Api:
    """The `apps/v1` API of a site's cluster, through the kubeconfig its pool stack exports."""
    kubeconfig = json.loads(deployment.pool[site].kubeconfig)
    return client.AppsV1Api(config.new_client_from_config_dict(kubeconfig))  # type: ignore[no-untyped-call]  # their stubs


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


def is_loopback(url: str) -> bool:
    """Whether a URL can only mean this machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")
