"""One provider instance's way to its AWS API: clients at the endpoints it names, region, account, default tags."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lab.providers.aws.schema import provider_properties, suggestion
from lab.providers.errors import ConfigurationError, Failure, ProviderError
from lab.providers.loopback import require_loopback
from lab.topology import Topology

MARKER_TAG: Final = "tandem.io/lab-resource"
"""Tag that says which declared resource a cloud object belongs to; how an interrupted Create is found again."""
LAB_ACCOUNT: Final = "123456789012"

_SERVICES: Final = {"elbv2": ("elbv2", "elb", "elasticloadbalancingv2")}
"""boto3's name of a service -> the names the provider's `endpoints` knows it by."""
_CONFIG: Final = Config(
    connect_timeout=3,
    read_timeout=30,
    retries={"max_attempts": 2, "mode": "standard"},
    proxies={},
    s3={"addressing_style": "path"},
    max_pool_connections=32,
)
_clients: Final[dict[tuple[str, ...], Any]] = {}
"""Clients of the whole process, by all that tells them apart; they are safe to share between threads."""
_connecting: Final = threading.Lock()


class Cloud:
    """Raises ConfigurationError for settings the lab refuses."""

    def __init__(self, settings: Mapping[str, Any], topology: Topology) -> None:
        failures = check_settings(settings)
        if failures:
            raise ConfigurationError("; ".join(failure.reason for failure in failures))
        self.topology = topology
        self.region: str = settings["region"]
        self.default_tags: dict[str, str] = dict((settings.get("defaultTags") or {}).get("tags") or {})
        self._endpoints = _endpoints(settings)
        self._key = (settings.get("accessKey") or "lab", settings.get("secretKey") or "lab")
        self._account = ""

    def client(self, service: str) -> Any:
        """The service's client; ProviderError when the provider names no endpoint for it."""
        names = _SERVICES.get(service, (service,))
        endpoint = next((self._endpoints[name] for name in names if name in self._endpoints), None)
        if endpoint is None:
            raise ProviderError(
                f"the aws provider names no endpoint for {service}; the lab never calls AWS itself:"
                f" add {names[0]!r} to the provider's endpoints"
            )
        return _connected(service, self.region, endpoint, *self._key)

    @property
    def account(self) -> str:
        """The account's number; without an endpoint for sts, the one every lab account has."""
        if not self._account:
            asked = "sts" in self._endpoints
            self._account = str(self.client("sts").get_caller_identity()["Account"]) if asked else LAB_ACCOUNT
        return self._account

    def arn(self, service: str, resource: str, *, regional: bool = True, owned: bool = True) -> str:
        """An ARN of this account and region."""
        return f"arn:aws:{service}:{self.region if regional else ''}:{self.account if owned else ''}:{resource}"

    def all_tags(self, tags: Mapping[str, Any] | None) -> dict[str, Any]:
        """A resource's tags with the provider's default tags under them."""
        return {**self.default_tags, **(tags or {})}


def _connected(service: str, region: str, endpoint: str, access_key: str, secret_key: str) -> Any:
    """The client that is there already, or a new one: each costs megabytes and lasts as long as the process."""
    key = (service, region, endpoint, access_key, secret_key)
    with _connecting:
        if key not in _clients:
            session = boto3.Session(aws_access_key_id=access_key, aws_secret_access_key=secret_key, region_name=region)
            connect: Any = session.client  # the stubs know literal service names only
            _clients[key] = connect(service, endpoint_url=endpoint, config=_CONFIG)
        return _clients[key]


def check_settings(settings: Mapping[str, Any]) -> list[Failure]:
    """The rules provider settings break."""
    failures = [
        Failure(name, f"{name} is no setting of the aws provider; {suggestion(name, provider_properties())}")
        for name in sorted(set(settings) - set(provider_properties()))
    ]
    if not settings.get("region"):
        failures.append(Failure("region", "region is missing; the aws provider needs one: set it on the provider"))
    if settings.get("assumeRoles"):
        reason = "assumeRoles names a role; the lab has one account and nobody takes on another's: leave it out for lab"
        failures.append(Failure("assumeRoles", reason))
    for service, url in _endpoints(settings).items():
        if isinstance(url, str):  # otherwise not known yet
            try:
                require_loopback(url, f"the aws provider's endpoint for {service}")
            except ConfigurationError as error:
                failures.append(Failure("endpoints", str(error)))
    return failures


def _endpoints(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    given = settings.get("endpoints")
    for entry in given if isinstance(given, list) else []:
        if isinstance(entry, dict):
            found.update({service: url for service, url in entry.items() if url})
    return found


def explain(error: Exception) -> str:
    """What the AWS API answered, in one line."""
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        return f"{error.operation_name}: {details.get('Code', '?')}: {details.get('Message', '')}"
    if isinstance(error, BotoCoreError) and "connect" in type(error).__name__.lower():
        return f"{error}; the AWS API of the lab does not answer: is the lab up?"
    return str(error)


def code_of(error: ClientError) -> str:
    """The API's error code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def to_tag_list(tags: Mapping[str, Any]) -> list[dict[str, str]]:
    """Tags as most AWS APIs take them."""
    return [{"Key": key, "Value": str(value)} for key, value in sorted(tags.items())]


def from_tag_list(tags: list[dict[str, str]] | None) -> dict[str, str]:
    """Tags as a map."""
    return {tag["Key"]: tag["Value"] for tag in tags or []}
