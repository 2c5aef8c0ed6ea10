"""What actions on a site's Kubernetes API share: their arguments as JSON, and errors in a drill's words."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Final, Self

from kubernetes.client.exceptions import ApiException

from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, NOT_FOUND, Cluster, answered, cluster
from drills.drill import DrillError
from stacks.contract import Deployment

THREADS: Final = ThreadPoolExecutor(8, thread_name_prefix="action")
"""Of their own: probes that wait for a dead site keep no undo waiting."""


@dataclass(frozen=True)
class OnCluster:
    """An action on objects of one namespace of a site."""

    cluster: Cluster = field(repr=False, compare=False)
    site: str
    namespace: str

    @property
    def arguments(self) -> dict[str, Any]:
        """See Action."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.compare}

    async def ask(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The API's answer; DrillError that says what could not be done.

        What was sent is waited for even when cancelled: no change lands after its own undo.
        """
        try:
            return await answered(partial(call, *arguments, **options, _request_timeout=API_TIMEOUT_SECONDS), THREADS)
        except API_ERRORS as error:
            raise DrillError(f"{self.site}: cannot {what} in {self.namespace}: {_short(error)}") from error

    async def find(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any | None:
        """The same; None for what does not exist."""
        try:
            return await self.ask(what, call, *arguments, **options)
        except DrillError as error:
            if status_of(error) == NOT_FOUND:
                return None
            raise


@dataclass(frozen=True)
class OnServing(OnCluster):
    """An action on the Deployments that serve users."""

    deployments: list[str]

    @classmethod
    def of(cls, deployment: Deployment, site: str) -> Self:
        """Gateways first: the users' way in goes before what stands behind it."""
        serving = deployment.serving[site]
        targets = [serving.gateway_deployment, serving.triton_deployment]
        return cls(cluster(deployment, site), site, serving.namespace, targets)


def status_of(error: DrillError) -> int | None:
    """The HTTP status an API refused with; None when it did not answer."""
    cause = error.__cause__
    return cause.status if isinstance(cause, ApiException) else None


def _short(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason} {str(error.body or '')[:300]}"
    return f"{type(error).__name__}: {error}"[:300]
