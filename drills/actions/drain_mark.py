"""Users are led away from a site by a drain mark in one store, as `tandem site drain` does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final, Self

from drills.access import Cluster, answered, cluster
from drills.actions.on_cluster import THREADS
from drills.drill import DrillError, Prior
from signals import SignalError
from signals.marks import Mark
from signals.store import SignalStore
from stacks.contract import Deployment, drain_key

WHO: Final = "drill"
STORE_SECONDS: Final = 30.0
"""For one call with the store's own tries and time-outs."""


@dataclass(frozen=True)
class MarkDrained:
    """Puts the mark of one site into the store of one site."""

    kind: ClassVar[str] = "mark-drained"

    cluster: Cluster = field(repr=False, compare=False)
    site: str
    """Whose store, and where the undo stands: its key opens that store."""
    drained: str
    bucket: str
    endpoint: str
    region: str
    shadow: bool = False
    profile: str = field(default="", repr=False, compare=False)
    """Of the drill's host, for this store. Where the undo stands there is none: its pod has a key or an identity."""

    @classmethod
    def of(cls, deployment: Deployment, drained: str, *, shadow: bool = False) -> list[Self]:
        """One for each store the mark is put into, the site's own last: DNS leaves before connections are closed."""
        stores = [*deployment.traffic.sites[drained].drain_stores]
        if drained not in stores and not shadow:
            stores.append(drained)
        made = []
        for store in stores:
            outputs = deployment.storage[store]
            where = (outputs.signal_bucket, outputs.endpoint, outputs.region)
            made.append(cls(cluster(deployment, store), store, drained, *where, shadow).at_host(deployment))
        return made

    def at_host(self, deployment: Deployment) -> Self:
        """The same action for a drill's host, which opens the store as its outputs say."""
        return replace(self, profile=deployment.storage[self.site].credentials_profile)

    @property
    def name(self) -> str:
        which = "the shadow of " if self.shadow else ""
        return f"mark {which}{self.drained} as drained in the store of {self.site}"

    @property
    def arguments(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "drained": self.drained,
            "bucket": self.bucket,
            "endpoint": self.endpoint,
            "region": self.region,
            "shadow": self.shadow,
        }

    async def prepare(self) -> Prior:
        if await self._mark() is not None:
            raise DrillError(
                f"{self.drained} is drained already; restore it first: tandem site restore {self.drained} --env ENV"
            )
        return {}

    async def apply(self) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        body = Mark(self.drained, WHO, moment, "drill", self.shadow).body()
        await self._ask(lambda store: store.put(self._key, body, content_type="text/plain", new=True))

    async def undo(self, prior: Prior) -> None:
        if await self._ours():
            await self._ask(lambda store: store.delete(self._key))

    async def residue(self, prior: Prior) -> list[str]:
        return [f"drain mark of {self.drained} in the store of {self.site}"] if await self._ours() else []

    async def try_undo(self, name: str) -> None:
        """See drills.rights: a mark's neighbour nobody looks at."""
        # Beside the marks, where whoever may take one back may write too. No site's name has a dot.
        key = f"{drain_key(name)}.tried"
        await self._ask(
            lambda store: store.put(key, b"whether a mark could be taken away\n", content_type="text/plain")
        )
        await self._ask(lambda store: store.delete(key))

    @property
    def _key(self) -> str:
        return drain_key(self.drained, shadow=self.shadow)

    async def _mark(self) -> bytes | None:
        found = await self._ask(lambda store: store.get(self._key))
        return None if found is None else found.body

    async def _ours(self) -> bool:
        """Whether a drill's mark is there; one a person has put over it meanwhile is theirs."""
        body = await self._mark()
        mark = None if body is None else Mark.parse(self.drained, body, shadow=self.shadow)
        return mark is not None and mark.who == WHO

    async def _ask(self, call: Callable[[SignalStore], Any]) -> Any:
        """The store's answer; what was sent is waited for even when cancelled."""
        where = {"bucket": self.bucket, "endpoint": self.endpoint, "region": self.region, "profile": self.profile}
        store = SignalStore(site=self.site, **where)
        try:
            return await answered(partial(call, store), THREADS, STORE_SECONDS)
        except SignalError as error:
            raise DrillError(str(error)) from error
        except TimeoutError as error:
            raise DrillError(f"the store of {self.site} has not answered within {STORE_SECONDS:g} s") from error
