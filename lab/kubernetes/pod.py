"""One pod of this machine: volumes, init containers in order, containers, status, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lab.kubernetes.api.errors import ApiError
from lab.kubernetes.api.kinds import POD
from lab.kubernetes.api.objects import Object, name_of, namespace_of, timestamp, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import set_condition
from lab.kubernetes.container import Container, Role
from lab.kubernetes.reboot import forget
from lab.kubernetes.run import POD_UID, gone, kill_marked
from lab.kubernetes.scope import PodScope
from lab.kubernetes.volumes import VolumeError, VolumeMaker, shared_memory_of

log = logging.getLogger(__name__)

MOUNT_RETRY_SECONDS: Final = 2.0
IDENTITY: Final = "pod.json"
"""File in a pod's folder that tells a later kubelet whose folder it was."""


class PodWorker:
    """Runs one pod; the store's pod status follows what really runs.

    With `before`, the same pod before its machine booted, it starts anew and counts on.
    """

    def __init__(
        self,
        pod: Object,
        store: Store,
        scope_of: Callable[[Callable[[], None]], PodScope],
        claims: Path,
        other_pods: Callable[[], Sequence[str]],
        before: PodWorker | None = None,
    ) -> None:
        self.pod = pod
        self.uid = uid_of(pod)
        self._store = store
        self._claims = claims
        self._other_pods = other_pods
        self._scope = scope_of(self._publish)
        self._started_at: str = before._started_at if before else timestamp()
        spec, known = pod["spec"], {each.name: each for each in before.containers} if before else {}

        def made(each: dict[str, Any], role: Role) -> Container:
            return Container(each, role, self._scope, known.get(each["name"]))

        self._inits = [made(each, _init_role(each)) for each in spec.get("initContainers") or []]
        self._mains = [made(each, "main") for each in spec["containers"]]
        self._initialized = False
        self._failed_init: Container | None = None
        self._mount_trouble = ""
        self._over = False
        self._life: asyncio.Task[None] | None = None
        self._termination: asyncio.Task[None] | None = None
        self._dropped: list[asyncio.Task[Any]] = []

    @property
    def ip(self) -> str:
        """The pod's address."""
        return self._scope.placement.pod_ip

    @property
    def dark(self) -> bool:
        """Whether its machine has no power."""
        return self._scope.dark

    @property
    def containers(self) -> list[Container]:
        """Init containers first."""
        return [*self._inits, *self._mains]

    def begin(self) -> None:
        """Start the pod."""
        self._scope.temporary.mkdir(parents=True, exist_ok=True)
        identity = {"name": name_of(self.pod), "namespace": namespace_of(self.pod), "uid": self.uid}
        (self._scope.folder / IDENTITY).write_text(json.dumps(identity))
        self._publish()
        self._life = asyncio.create_task(self._live(), name=f"pod {name_of(self.pod)}")

    def update(self, pod: Object) -> None:
        """Take in labels and conditions that others changed."""
        self.pod = self._scope.pod = pod
        if pod["spec"].get("readinessGates"):
            self._publish()

    def terminate(self, grace_seconds: float, *, hooks: bool = True) -> asyncio.Task[None]:
        """Begin the pod's end, or shorten one that has begun; the task is done when nothing of it is left."""
        if self._termination is None:
            ending = self._end(grace_seconds, hooks=hooks)
            self._termination = asyncio.create_task(ending, name=f"end of pod {name_of(self.pod)}")
        else:
            asyncio.get_running_loop().call_later(max(grace_seconds, 0.0), self._kill)
        return self._termination

    def freeze(self) -> None:
        """Its machine has lost power: all of it stands still, and nothing more is done for it or told of it."""
        self._scope.dark = True
        self._dropped = [task for task in (self._life, self._termination) if task]
        for task in self._dropped:
            task.cancel()
        for container in self.containers:
            self._dropped += container.freeze()
        self._termination = None

    async def dropped(self) -> None:
        """Done when nothing acts for it any more."""
        if self._dropped:
            await asyncio.wait(self._dropped)

    def wake(self) -> None:
        """Its machine has power again, and its processes are gone; what has not ended goes on only as another worker.

        A pod that is never restarted and had something running has failed by that.
        """
        lost = [container for container in self.containers if container.lose() and container.role != "sidecar"]
        forget(self.pod, self._volumes, self._other_pods())
        self._scope.dark = False
        if self._scope.restart_policy == "Never" and (lost or any(container.finished for container in self._mains)):
            self._failed_init = next((each for each in lost if each.role == "init"), None)
            self._publish()

    def log_file(self, container: str, previous: bool) -> Path | None:
        """The log of a container's current or previous run; None when the pod has no such container or run."""
        for each in self.containers:
            restart = each.restarts - (1 if previous else 0)
            if each.name == container and restart >= 0:
                return self._scope.log(container, restart)
        return None

    def _kill(self) -> None:
        for container in self.containers:
            container.kill()

    async def _live(self) -> None:
        try:
            await self._mount()
            for container in self._inits:
                life = container.begin()
                if container.role == "sidecar":
                    await container.first_started.wait()
                    continue
                await asyncio.wait(
                    [life]
                )  # not awaited itself: cancelling this pod's life must not cancel the container's
                if life.result() != 0:
                    await self._stop_sidecars(self._scope.grace_seconds)
                    self._failed_init = container
                    self._publish()
                    return
            self._initialized = True
            lives = [container.begin() for container in self._mains]
            await asyncio.wait(lives)
            for life in lives:
                life.result()
            await self._stop_sidecars(self._scope.grace_seconds)
            self._publish()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # what a pod of the lab cannot do must be found at that pod
            log.exception("pod %s/%s", namespace_of(self.pod), name_of(self.pod))
            self._mount_trouble = f"the lab's kubelet failed: {error!r}"
            self._scope.recorder.warning(self.pod, "FailedSync", self._mount_trouble)
            self._publish()

    async def _mount(self) -> None:
        scope = self._scope
        maker = VolumeMaker(self.pod, self._volumes, self._claims, scope.placement, scope.sources)
        while True:
            try:
                scope.volumes = maker.make()
            except (VolumeError, OSError) as error:
                self._mount_trouble = str(error)
                scope.recorder.warning(self.pod, "FailedMount", str(error))
                self._publish()
                await asyncio.sleep(MOUNT_RETRY_SECONDS)
            else:
                self._mount_trouble = ""
                return

    @property
    def _volumes(self) -> Path:
        return self._scope.folder / "volumes"

    async def _stop_sidecars(self, grace_seconds: float, *, hooks: bool = True) -> None:
        sidecars = [container for container in self._inits if container.role == "sidecar"]
        await asyncio.gather(*(container.stop(grace_seconds, hooks=hooks) for container in sidecars))

    async def _end(self, grace_seconds: float, *, hooks: bool) -> None:
        if self._life and not any(container.begun for container in self._mains):
            self._life.cancel()  # no further init container starts
        deadline = asyncio.get_running_loop().time() + grace_seconds
        others = [container for container in self.containers if container.role != "sidecar"]
        await asyncio.gather(*(container.stop(grace_seconds, hooks=hooks) for container in others))
        remaining = max(0.0, deadline - asyncio.get_running_loop().time())
        await self._stop_sidecars(remaining, hooks=hooks)
        if self._life:
            self._life.cancel()
            await asyncio.wait([self._life])
        self._over = True
        self._publish()
        left = kill_marked(POD_UID, self.uid)
        if not await gone(left):
            log.error("processes %s of pod %s survived SIGKILL", left, name_of(self.pod))
        for segment in shared_memory_of(name_of(self.pod), self._other_pods()):
            with contextlib.suppress(OSError):
                segment.unlink()
        await asyncio.to_thread(shutil.rmtree, self._scope.folder, ignore_errors=True)

    def _phase(self) -> str:
        mains = self._mains
        if self._failed_init:
            return "Failed"
        if all(container.over for container in mains):
            good = all(container.finished and container.finished.code == 0 for container in mains)
            return "Succeeded" if good else "Failed"
        begun = any("running" in c.state or c.finished for c in mains)
        return "Running" if begun else "Pending"

    def _publish(self) -> None:
        """Write the status; the pod may be gone, then there is nothing to tell."""
        if self.dark:
            return
        try:
            pod = self._store.get(POD, namespace_of(self.pod), name_of(self.pod))
            if uid_of(pod) == self.uid:
                pod["status"] = self._status(pod.get("status") or {})
                self._store.update(POD, pod, subresource="status")
        except ApiError as error:
            log.debug("status of pod %s not written: %s", name_of(self.pod), error)

    def _status(self, before: dict[str, Any]) -> dict[str, Any]:
        phase = self._phase()
        status = {
            **before,
            "phase": phase,
            "startTime": self._started_at,
            "hostIP": self._scope.placement.host_ip,
            "hostIPs": [{"ip": self._scope.placement.host_ip}],
            "podIP": self.ip,
            "podIPs": [{"ip": self.ip}],
            "initContainerStatuses": [container.status() for container in self._inits],
            "containerStatuses": [container.status() for container in self._mains],
        }
        troubles = [self._mount_trouble, *(container.trouble() for container in self.containers)]
        message = "; ".join(trouble for trouble in troubles if trouble)
        if message:
            status["message"] = message
        else:
            status.pop("message", None)
        unready = [container.name for container in self._mains if not container.ready]
        pending = [container.name for container in self._inits if not container.initialized]
        succeeded = phase == "Succeeded"
        set_condition(status, "PodReadyToStartContainers", self._scope.volumes is not None and not self._mount_trouble)
        set_condition(
            status,
            "Initialized",
            self._initialized,
            "" if self._initialized else "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(pending)}]" if pending else "",
        )
        reason = "PodCompleted" if succeeded else "ContainersNotReady"
        text = f"containers with unready status: [{' '.join(unready)}]"
        why = f"{text}: {message}" if message else text
        ready = not unready and not self._over
        set_condition(status, "ContainersReady", ready, "" if ready else reason, "" if ready else why)
        gates = [gate["conditionType"] for gate in self.pod["spec"].get("readinessGates") or []]
        met = {condition["type"] for condition in status.get("conditions") or [] if condition["status"] == "True"}
        closed = [gate for gate in gates if gate not in met]
        if ready and closed:
            set_condition(
                status, "Ready", False, "ReadinessGatesNotReady", f"readiness gates not met: {', '.join(closed)}"
            )
        else:
            set_condition(status, "Ready", ready, "" if ready else reason, "" if ready else why)
        return status


def _init_role(spec: dict[str, Any]) -> Role:
    return "sidecar" if spec.get("restartPolicy") == "Always" else "init"
