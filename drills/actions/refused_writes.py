"""The AWS API refuses every write, as it did for hours in past events."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import httpx

from drills.access import API_TIMEOUT_SECONDS, Cluster, cluster
from drills.drill import DrillError, NotRun, Prior
from signals.store import is_loopback
from stacks.contract import Deployment

SWITCH_PATH: Final = "/tandem/refuse-writes"
LIMIT_SECONDS: Final = 900


@dataclass(frozen=True)
class RefuseWrites:
    """Only where the API is a rehearsal's own: nobody can break AWS's."""

    kind: ClassVar[str] = "refuse-writes"

    cluster: Cluster = field(repr=False, compare=False)
    site: str
    api: str

    @classmethod
    def of(cls, deployment: Deployment, site: str) -> Self:
        """Raises NotRun for an API that is AWS's own."""
        api = deployment.traffic.dns_api
        if not is_loopback(api):
            raise NotRun(
                f"the DNS service's API is {api or 'AWS itself'}, and nobody but AWS can make that refuse writes;"
                " rehearse with --env lab, and give the people on call a role without write rights in a real exercise"
            )
        return cls(cluster(deployment, site), site, api)

    @property
    def name(self) -> str:
        return f"make the AWS API {self.api} refuse writes"

    @property
    def arguments(self) -> dict[str, Any]:
        return {"site": self.site, "api": self.api}

    async def prepare(self) -> Prior:
        if left := await self.residue({}):
            raise DrillError(f"{left[0]}: somebody else's doing; wait, or DELETE {self.api}{SWITCH_PATH}")
        return {}

    async def apply(self) -> None:
        await self._ask("PUT", {"seconds": LIMIT_SECONDS})

    async def undo(self, prior: Prior) -> None:
        await self._ask("DELETE")

    async def residue(self, prior: Prior) -> list[str]:
        seconds = (await self._ask("GET")).get("seconds")
        return [f"the AWS API refuses writes for {seconds:.0f} s more"] if seconds else []

    async def _ask(self, method: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=API_TIMEOUT_SECONDS) as http:
                answer = await http.request(method, f"{self.api}{SWITCH_PATH}", json=body)
                answer.raise_for_status()
                content: dict[str, Any] = answer.json()
        except (TimeoutError, httpx.HTTPError, ValueError) as error:
            raise DrillError(f"{method} {self.api}{SWITCH_PATH}: {type(error).__name__} {error}") from error
        return content
