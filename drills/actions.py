"""Actions: what a drill breaks on purpose, and how each is put back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills.access import API_TIMEOUT_SECONDS, apps_api
from drills.drill import Action, DrillError
from stacks.contract import Deployment


@dataclass(frozen=True)
class ScaleToZero:
    """All serving pods of one site are gone; the declarations stay."""

    deployment: Deployment
    site: str

    @property
    def name(self) -> str:
        return f"scale the serving pods of {self.site} to zero"

    @property
    def targets(self) -> tuple[str, str]:
        """Gateways first: the users' way in goes before what stands behind it."""
        serving = self.deployment.serving[self.site]
        return serving.gateway_deployment, serving.triton_deployment

    async def prepare(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._replicas)

    async def apply(self) -> None:
        await asyncio.to_thread(self._scale, dict.fromkeys(self.targets, 0))

    async def undo(self, prior: dict[str, Any]) -> None:
        """Raises DrillError unless the scales read back as they were."""
        wanted = {name: int(prior[name]) for name in reversed(self.targets)}
        await asyncio.to_thread(self._scale, wanted)
        if (found := await asyncio.to_thread(self._replicas)) != wanted:
            raise DrillError(f"{self.site}: scaled back to {wanted}, but read {found}: somebody else changes them too")

    def _replicas(self) -> dict[str, int]:
        api, namespace = self._api()
        try:
            return {
                name: api.read_namespaced_deployment_scale(
                    name, namespace, _request_timeout=API_TIMEOUT_SECONDS
                ).spec.replicas
                for name in self.targets
            }
        except (ApiException, HTTPError) as error:
            raise DrillError(f"{self.site}: cannot read the scale of its deployments: {error}") from error

    def _scale(self, replicas: dict[str, int]) -> None:
        api, namespace = self._api()
        for name, count in replicas.items():
            try:
                api.patch_namespaced_deployment_scale(
                    name, namespace, {"spec": {"replicas": count}}, _request_timeout=API_TIMEOUT_SECONDS
                )
            except (ApiException, HTTPError) as error:
                raise DrillError(f"{self.site}: cannot scale {namespace}/{name} to {count}: {error}") from error

    def _api(self) -> tuple[Any, str]:
        return apps_api(self.deployment, self.site), self.deployment.serving[self.site].namespace


ACTIONS: Final[dict[str, Callable[[Deployment, str], Action]]] = {"scale-to-zero": ScaleToZero}
"""By the name a journal keeps, so that another process can undo what a killed drill did."""
