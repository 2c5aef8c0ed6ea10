"""The undo that stands in the site: a Job which puts everything back when nobody renews its lease any more.

The Job reads a ConfigMap: what to undo, how long a lease lasts, and a counter the drill's host raises. It compares
nothing but its own clock with itself, so clocks that differ between host and site do no harm.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from kubernetes.client.exceptions import ApiException

from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, NOT_FOUND, Cluster, answered, cluster
from drills.drill import Action, DrillError, NotRun, Prior, completed
from drills.lease_job import DRILL_LABEL, job, labels, why_waiting
from stacks.contract import Deployment

DOCUMENT: Final = "undo.json"
RENEWED: Final = "renewed"
STATE: Final = "state"
WHY: Final = "why"
"""Beside the state, where it has failed."""
RELEASED: Final = "released"
STAND_SECONDS: Final = 60.0
RELEASE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.3
RENEWALS_PER_LEASE: Final = 5
HOPELESS: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError")
"""What a pod may wait for that no wait brings."""
UNSCHEDULABLE: Final = "Unschedulable"
UNSCHEDULABLE_SECONDS: Final = 10.0
"""A scheduler that has just lost or got a node changes its mind within this."""


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def awake_or_not() -> float:
    """Seconds that also pass while the machine sleeps: a laptop that wakes must not believe in its old lease."""
    return time.clock_gettime(_CLOCK)


class State:
    """What the Job says of itself."""

    WAITING: Final = "waiting"
    STANDING: Final = "standing"
    UNDOING: Final = "undoing"
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
    _renewed: float = field(default_factory=awake_or_not)
    _over: bool = False
    """The Job stopped waiting, or may have: no renewal brings it back."""
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="lease"), repr=False, compare=False
    )
    """Of its own: no probe that waits for a dead site keeps a renewal waiting."""

    @property
    def name(self) -> str:
        """Name of the Job and of its ConfigMap."""
        return f"drill-{self.drill_id}"

    @property
    def _namespace(self) -> str:
        return self.deployment.serving[self.site].namespace

    @property
    def lost(self) -> bool:
        """Whether the Job must have undone everything by now; it stays so."""
        self._over = self._over or self.left_seconds < 0
        return self._over

    @property
    def left_seconds(self) -> float:
        """Until the Job may begin to undo."""
        return self.seconds - (awake_or_not() - self._renewed)

    async def stand(self, undos: Sequence[Undo]) -> None:
        """Put the Job up and see it running. Raises NotRun when it does not come up; nothing is left then."""
        document = {"seconds": self.seconds, "undo": [undo.document() for undo in undos]}
        try:
            await self._ask(lambda api: api.core.create_namespaced_config_map, self._namespace, self._map(document))
            await self._ask(lambda api: api.batch.create_namespaced_job, self._namespace, self._job())
            await self._stands_up()
            self._renewed = awake_or_not()
            await self.renew()
        except DrillError as error:
            await self.remove()
            raise NotRun(f"the undo does not stand in {self.site}: {error}; nothing was touched") from error
        except BaseException:
            await completed(asyncio.ensure_future(self.remove()))
            raise

    async def _stands_up(self) -> None:
        """Wait until the Job says so and runs. Raises DrillError: it cannot undo, is out of time, or never comes."""
        began, unschedulable = time.monotonic(), None
        while (state := (said := await self._said()).get(STATE)) != State.STANDING or not await self._running():
            if state in State.ENDED:
                raise DrillError(f"{state}: {said.get(WHY) or 'without a reason'}")
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
        sent = awake_or_not()
        self._count += 1
        state = ((await self._patch({RENEWED: str(self._count)})).data or {}).get(STATE)
        if state != State.STANDING or self.lost:
            self._over = True
            raise DrillError(f"too late: the undo there is {state or 'silent'}")
        self._renewed = max(self._renewed, sent)

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
        try:
            logs = [
                str(await self._ask(lambda api: api.core.read_namespaced_pod_log, pod.metadata.name, self._namespace))
                for pod in await self._pods()
            ]
        except DrillError as error:
            return f"no log: {error}"
        return "\n".join(logs)

    async def remove(self) -> None:
        """Take Job and ConfigMap away; harmless when they are not there."""
        deletes: tuple[Callable[[Cluster], Any], ...] = (
            lambda api: api.batch.delete_namespaced_job,
            lambda api: api.core.delete_namespaced_config_map,
        )
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
        document: dict[str, Any] = json.loads((await self._said())[DOCUMENT])
        return document

    async def _state(self) -> str:
        return (await self._said()).get(STATE, "")

    async def _said(self) -> dict[str, str]:
        found = await self._ask(lambda api: api.core.read_namespaced_config_map, self.name, self._namespace)
        return dict(found.data or {})

    async def _running(self) -> bool:
        job = await self._ask(lambda api: api.batch.read_namespaced_job, self.name, self._namespace)
        return bool(job.status and job.status.active)

    async def _waiting(self) -> tuple[str, str]:
        return why_waiting(await self._pods())

    async def _pods(self) -> Sequence[Any]:
        label = f"{DRILL_LABEL}={self.drill_id}"
        found = await self._ask(lambda api: api.core.list_namespaced_pod, self._namespace, label_selector=label)
        pods: Sequence[Any] = found.items
        return pods

    async def _patch(self, data: dict[str, str]) -> Any:
        patch = {"data": data}
        return await self._ask(lambda api: api.core.patch_namespaced_config_map, self.name, self._namespace, patch)

    async def _ask(self, call: Callable[[Cluster], Any], *arguments: Any, **options: Any) -> Any:
        """The API's answer. What was sent is waited for even when cancelled: nothing is created after its removal."""

        def ask() -> Any:
            made = call(cluster(self.deployment, self.site))
            return made(*arguments, **options, _request_timeout=API_TIMEOUT_SECONDS)

        try:
            return await answered(ask, self._threads)
        except API_ERRORS as error:
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
