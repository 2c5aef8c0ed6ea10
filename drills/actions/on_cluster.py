"""What actions on a site's Kubernetes API share: their arguments as JSON, and errors in a drill's words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills.access import API_TIMEOUT_SECONDS, Cluster
from drills.drill import DrillError, completed

NOT_FOUND = 404
CONFLICT = 409


@dataclass(frozen=True)
class OnCluster:
    """An action on objects of one namespace of a site."""

    cluster: Cluster = field(repr=False, compare=False)
    site: str
    namespace: str

    @property
    def arguments(self) -> dict[str, Any]:
        """See Action."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "cluster"}

    async def ask(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The API's answer; DrillError that says what could not be done.

        What was sent is waited for even when cancelled: no change lands after its own undo.
        """
        asked = asyncio.to_thread(call, *arguments, **options, _request_timeout=API_TIMEOUT_SECONDS)
        try:
            return await completed(asyncio.ensure_future(asked))
        except (ApiException, HTTPError, OSError) as error:
            raise DrillError(f"{self.site}: cannot {what} in {self.namespace}: {_short(error)}") from error

    async def find(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any | None:
        """The same; None for what does not exist."""
        try:
            return await self.ask(what, call, *arguments, **options)
        except DrillError as error:
            cause = error.__cause__
            if isinstance(cause, ApiException) and cause.status == NOT_FOUND:
                return None
            raise


def _short(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason} {str(error.body or '')[:300]}"
    return f"{type(error).__name__}: {error}"[:300]
