"""The undo that stands in the site: a Job which puts everything back when nobody renews its lease any more.

The Job reads a ConfigMap: what to undo, how long a lease lasts, and a counter the drill's host raises. It compares
nothing but its own clock with itself, so clocks that differ between host and site do no harm.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills.access import API_TIMEOUT_SECONDS, Cluster, cluster
from drills.drill import Action, DrillError, NotRun, Prior, completed
from drills.lease_job import DRILL_LABEL, job, labels
from stacks.contract import Deployment

DOCUMENT: Final = "undo.json"
RENEWED: Final = "renewed"
STATE: Final = "state"
RELEASED: Final = "released"
STAND_SECONDS: Final = 60.0
RELEASE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.3
RENEWALS_PER_LEASE: Final = 5
NOT_FOUND: Final = 404
HOPELESS: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
"""What a pod may wait for that no wait brings."""
UNSCHEDULABLE: Final = "Unschedulable"
UNSCHEDULABLE_SECONDS: Final = 10.0
"""A scheduler that has just lost or got a node changes its mind within this."""


class State:
    """What the Job says of itself."""

    WAITING: Final = "waiting"
    STANDING: Final = "standing"
    UNDONE: Final = "undone"
    """The lease ran out, and everything was put back."""
    CLEAN: Final = "clean"
    """Released, and nothing was left changed."""
    FAILED: Final = "failed"

    ENDED: Final = (UNDONE, CLEAN, FAILED)
    NOTHING_LEFT: Final = (UNDONE, CLEAN)


@dataclass(frozen=True)
class Undo:
    """One action with its prior state."""

    action: Action
    prior: Prior

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {"kind": self.action.kind, "arguments": self.action.arguments, "prior": self.prior}


@dataclass
class Lease:
    """One site's undo of one drill."""

    deployment: Deployment
    site: str
    drill_id: str
    seconds: float
    """Without a renewal for so long, the Job puts everything back."""
    image: str = ""
    avoid_nodes: Sequence[str] = ()
    told: Callable[[str], None] = lambda _: None
    _count: int = 0
    _renewed: float = field(default_factory=time.monotonic)
    _over: bool = False
    """The Job stopped waiting, or may have: no renewal brings it back."""

    @property
    def name(self) -> str:
        """Name of the Job and of its ConfigMap."""
        return f"drill-{self.drill_id}"

    @property
    def _cluster(self) -> Cluster:
        return cluster(self.deployment, self.site)

    @property
    def _namespace(self) -> str:
        return self.deployment.serving[self.site].namespace

    @property
    def lost(self) -> bool:
        """Whether the Job must have undone everything by now; it stays so."""
        self._over = self._over or time.monotonic() - self._renewed > self.seconds
        return self._over

    async def stand(self, undos: Sequence[Undo]) -> None:
        """Put the Job up and see it running. Raises NotRun when it does not come up; nothing is left then."""
        document = {"seconds": self.seconds, "undo": [undo.document() for undo in undos]}
        try:
            await self._ask(self._cluster.core.create_namespaced_config_map, self._namespace, self._map(document))
            await self._ask(self._cluster.batch.create_namespaced_job, self._namespace, self._job())
            await self._stands_up()
            self._renewed = time.monotonic()
            await self.renew()
        except DrillError as error:
            await self.remove()
            raise NotRun(f"the undo does not stand in {self.site}: {error}; nothing was touched") from error
        except BaseException:
            await completed(asyncio.ensure_future(self.remove()))
            raise

    async def _stands_up(self) -> None:
        """Wait until the Job says so and runs. Raises DrillError: out of time, or nothing to wait for."""
        began, unschedulable = time.monotonic(), None
        while await self._state() != State.STANDING or not await self._running():
            now, (reason, detail) = time.monotonic(), await self._waiting()
            unschedulable = None if reason != UNSCHEDULABLE else unschedulable or now
            if reason in HOPELESS or (unschedulable and now - unschedulable >= UNSCHEDULABLE_SECONDS):
                raise DrillError(f"{detail} ({reason})")
            if now - began >= STAND_SECONDS:
                raise DrillError(f"after {STAND_SECONDS:.0f} s {detail} {reason}".rstrip())
            await asyncio.sleep(LOOK_SECONDS)

    async def keep(self) -> None:
        """Renew until cancelled; a renewal that fails is told and tried again."""
        while not self.lost:
            await asyncio.sleep(self.seconds / RENEWALS_PER_LEASE)
            try:
                await self.renew()
            except DrillError as error:
                self.told(f"lease in {self.site} not renewed: {error}")

    async def renew(self) -> None:
        """Keep the Job waiting for another term. Raises DrillError when it waits no more."""
        sent = time.monotonic()
        self._count += 1
        state = ((await self._patch({RENEWED: str(self._count)})).data or {}).get(STATE)
        if state != State.STANDING or self.lost:
            self._over = True
            raise DrillError(f"too late: the undo there is {state or 'silent'}")
        self._renewed = sent

    async def release(self) -> str:
        """Tell the Job that all was put back; the state it ends in after its own look, with what it logged told.

        It is taken away only when it found that nothing is left: otherwise it stays and goes on trying.
        """
        await self._tell_released()
        state = await self.ended(RELEASE_SECONDS)
        for line in (await self.log()).splitlines():
            self.told(f"undo in {self.site}: {line}")
        if state in State.NOTHING_LEFT:
            await self.remove()
        else:
            self.told(f"{self.name} stays in {self.site} and goes on undoing: it is {state or 'silent'}")
        return state

    async def _tell_released(self) -> None:
        end = time.monotonic() + RELEASE_SECONDS
        while True:
            try:
                await self._patch({RELEASED: "true"})
            except DrillError as error:
                if _absent(error) or time.monotonic() >= end:
                    raise
                await asyncio.sleep(LOOK_SECONDS)
            else:
                return

    async def log(self) -> str:
        """What the Job has said."""
        listing = self._cluster.core.list_namespaced_pod
        try:
            pods = await self._ask(listing, self._namespace, label_selector=f"{DRILL_LABEL}={self.drill_id}")
            logs = [
                str(await self._ask(self._cluster.core.read_namespaced_pod_log, pod.metadata.name, self._namespace))
                for pod in pods.items
            ]
        except DrillError as error:
            return f"no log: {error}"
        return "\n".join(logs)

    async def remove(self) -> None:
        """Take Job and ConfigMap away; harmless when they are not there."""
        deletes = (self._cluster.batch.delete_namespaced_job, self._cluster.core.delete_namespaced_config_map)
        for delete in deletes:
            try:
                await self._ask(delete, self.name, self._namespace, propagation_policy="Background")
            except DrillError as error:
                if not _absent(error):
                    self.told(f"{self.site}: {self.name} is left behind: {error}")

    async def ended(self, deadline_seconds: float) -> str:
        """The state it has ended in; the last one seen when it does not end in time. Raises DrillError: none seen.

        A Job that never stood has nothing to undo, because nothing is touched before it does: `waiting` is returned
        at once.
        """
        end, state, silence = time.monotonic() + deadline_seconds, None, None
        while True:
            try:
                state = await self._state()
            except DrillError as error:
                if _absent(error):
                    raise
                silence = error
            if state in {*State.ENDED, State.WAITING} or time.monotonic() >= end:
                break
            await asyncio.sleep(LOOK_SECONDS)
        if state is None and silence is not None:
            raise silence
        return state or ""

    async def document(self) -> dict[str, Any]:
        """What it has to undo: `seconds` and `undo`, as `stand` wrote it."""
        read = self._cluster.core.read_namespaced_config_map
        found = await self._ask(read, self.name, self._namespace)
        document: dict[str, Any] = json.loads(found.data[DOCUMENT])
        return document

    async def _state(self) -> str:
        read = self._cluster.core.read_namespaced_config_map
        found = await self._ask(read, self.name, self._namespace)
        return str((found.data or {}).get(STATE, ""))

    async def _running(self) -> bool:
        job = await self._ask(self._cluster.batch.read_namespaced_job, self.name, self._namespace)
        return bool(job.status and job.status.active)

    async def _waiting(self) -> tuple[str, str]:
        """The reason why the Job's pod does not run, in Kubernetes' word where it has one, and the detail."""
        listing = self._cluster.core.list_namespaced_pod
        pods = await self._ask(listing, self._namespace, label_selector=f"{DRILL_LABEL}={self.drill_id}")
        for pod in pods.items:
            name = pod.metadata.name
            for status in pod.status.container_statuses or ():
                waiting = status.state.waiting if status.state else None
                if waiting is not None:
                    return str(waiting.reason), f"pod {name} waits: {waiting.message or 'no message'}"
            for condition in pod.status.conditions or ():
                if condition.status == "False" and condition.message:
                    return str(condition.reason or ""), f"pod {name} is {pod.status.phase}: {condition.message}"
            return "", f"pod {name} is {pod.status.phase}"
        return "", "its Job has made no pod"

    async def _patch(self, data: dict[str, str]) -> Any:
        patch = self._cluster.core.patch_namespaced_config_map
        return await self._ask(patch, self.name, self._namespace, {"data": data})

    async def _ask(self, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """The API's answer. What was sent is waited for even when cancelled: nothing is created after its removal."""
        asked = asyncio.to_thread(call, *arguments, **options, _request_timeout=API_TIMEOUT_SECONDS)
        try:
            return await completed(asyncio.ensure_future(asked))
        except (ApiException, HTTPError, OSError) as error:
            raise DrillError(f"{self.site}: {type(error).__name__}: {error}"[:400]) from error

    def _map(self, document: dict[str, Any]) -> dict[str, Any]:
        return {
            "metadata": {"name": self.name, "labels": labels(self.drill_id)},
            "data": {DOCUMENT: json.dumps(document), RENEWED: "0", STATE: State.WAITING},
        }

    def _job(self) -> dict[str, Any]:
        return job(self.deployment, self.site, self.drill_id, self.name, self.image, self.avoid_nodes)


def _absent(error: DrillError) -> bool:
    cause = error.__cause__
    return isinstance(cause, ApiException) and cause.status == NOT_FOUND


async def left_behind(deployment: Deployment, site: str) -> list[Lease]:
    """Leases in a site that no drill has taken away, its host being dead."""
    api = cluster(deployment, site)
    namespace = deployment.serving[site].namespace
    try:
        found = await asyncio.to_thread(
            api.core.list_namespaced_config_map,
            namespace,
            label_selector=DRILL_LABEL,
            _request_timeout=API_TIMEOUT_SECONDS,
        )
    except (ApiException, HTTPError, OSError) as error:
        raise NotRun(f"{site}: cannot look for leases that were left behind: {error}") from error
    try:
        return [
            Lease(
                deployment,
                site,
                str(each.metadata.labels[DRILL_LABEL]),
                float(json.loads(each.data[DOCUMENT])["seconds"]),
            )
            for each in found.items
        ]
    except (TypeError, KeyError, ValueError) as error:
        names = ", ".join(each.metadata.name for each in found.items)
        raise NotRun(f"{site}: a ConfigMap of {names} is no lease ({error!r}); look at it and delete it") from error
