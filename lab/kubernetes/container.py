"""One container of a pod through its whole life: configured, started, restarted, stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from lab.kubernetes import images
from lab.kubernetes.api.objects import name_of, namespace_of, timestamp, uid_of
from lab.kubernetes.back_off import BackOff
from lab.kubernetes.environment import ConfigError
from lab.kubernetes.run import Exit, Run, StartError, log_tail
from lab.kubernetes.scope import PodScope, Prepared, prepare
from lab.kubernetes.supervision import START_ERROR, Supervision
from lab.kubernetes.volumes import VolumeError

CONFIG_RETRY_SECONDS: Final = 2.0
AFTER_HOOK_SECONDS: Final = 2.0
"""What a container has left for its exit when its preStop hook used up the grace period."""

LOST: Final = 255
"""Exit code of a run whose end nobody saw, as containerd tells it after a reboot."""

Role = Literal["init", "sidecar", "main"]


class Container:
    """One container; `status()` is its entry in the pod's status.

    With `before`, the same container before its machine booted, it counts on from there.
    """

    def __init__(self, spec: Mapping[str, Any], role: Role, scope: PodScope, before: Container | None = None) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.role = role
        self.restarts = 0
        self.finished: Exit | None = None
        self.first_started = asyncio.Event()
        self.state: dict[str, Any] = {
            "waiting": {"reason": "PodInitializing" if role != "init" else "ContainerCreating"}
        }
        self.last_state: dict[str, Any] = {}
        self._scope = scope
        self._image_id = ""
        self._run: Run | None = None
        self._supervision: Supervision | None = None
        self._ending: asyncio.Task[None] | None = None
        self._life: asyncio.Task[int] | None = None
        self._stopping = False
        self._done = False
        if before and before.finished:
            self._count_on(before, before.finished)

    @property
    def ready(self) -> bool:
        """Whether it runs and its readiness probe says yes."""
        return self._supervision is not None and self._supervision.ready

    @property
    def started(self) -> bool:
        """Whether it runs and its startup probe has said yes."""
        return self._supervision is not None and self._supervision.started

    @property
    def begun(self) -> bool:
        """Whether its life has started."""
        return self._life is not None

    @property
    def over(self) -> bool:
        """Whether its life has ended: nothing of it will run again."""
        return self._life is not None and self._life.done()

    @property
    def initialized(self) -> bool:
        """Whether, as an init container, it lets the next one start."""
        if self.role == "sidecar":
            return self.first_started.is_set()
        return self.finished is not None and self.finished.code == 0

    def _count_on(self, before: Container, finished: Exit) -> None:
        if self.role == "main" and finished.code == 0 and self._scope.restart_policy == "OnFailure":
            self._done, self.finished, self.state = True, finished, before.state
            self.restarts, self.last_state, self._image_id = before.restarts, before.last_state, before._image_id
        else:
            self.restarts = before.restarts + 1
            self.last_state = before.state if "terminated" in before.state else before.last_state

    def status(self) -> dict[str, Any]:
        """The containerStatuses entry."""
        return {
            "name": self.name,
            "image": self.spec.get("image", ""),
            "imageID": self._image_id,
            "containerID": self._id() if self._image_id else "",
            "ready": self.ready if self.role != "init" else self.initialized,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    def trouble(self) -> str | None:
        """What keeps this container from working, with pod, container and cause; None when nothing does."""
        waiting = self.state.get("waiting") or {}
        ended = self.state.get("terminated") or self.last_state.get("terminated") or {}
        failed = ended.get("exitCode", 0) != 0 and not self.ready
        parts = [f"{waiting['reason']}: {waiting['message']}"] if waiting.get("message") else []
        if failed:
            cause = f"last exit code {ended['exitCode']} ({ended['reason']}): {ended.get('message', '')}"
            parts.append(cause.rstrip(": "))
        return f"container {self.name} of pod {self._scope.title}: {'; '.join(parts)}" if parts else None

    def begin(self) -> asyncio.Task[int]:
        """Start its life; the task ends with the exit code of the run that was its last."""
        self._life = asyncio.create_task(self._live(), name=f"container {self.name}")
        return self._life

    def kill(self) -> None:
        """End it at once; what has no power stays as it is."""
        if self._scope.dark:
            return
        self._stopping = True
        if self._run and not self._run.ended:
            self._run.kill()
        elif self._life:
            self._life.cancel()

    def freeze(self) -> list[asyncio.Task[Any]]:
        """Its machine has lost power: what runs stands still, what was being done is dropped; the tasks of that."""
        if self._run:
            self._run.freeze()
        dropped: list[asyncio.Task[Any]] = [task for task in (self._life, self._ending) if task]
        for task in dropped:
            task.cancel()
        return [*dropped, self._supervision.drop()] if self._supervision else dropped

    def lose(self) -> bool:
        """Its machine has booted: what ran is over, nobody saw how; whether there was anything."""
        if self._run is None or "running" not in self.state:
            return False
        self._ended(Exit(LOST, 0, self._run.started, datetime.now(UTC)), "Unknown", "")
        return True

    async def stop(self, grace_seconds: float, *, hooks: bool = True) -> None:
        """preStop, SIGTERM, grace period, SIGKILL; returns when nothing of it runs. Asked again, it cuts the grace."""
        already, self._stopping = self._stopping, True
        if not already and self._run and not self._run.ended:
            if self._ending:
                await self._run.stop(grace_seconds)
            else:
                await self._end_run(self._run, grace_seconds, hooks=hooks)
        elif self._run and not self._run.ended:
            asyncio.get_running_loop().call_later(max(grace_seconds, 0.0), self.kill)
        elif not already and self._life:
            self._life.cancel()
        if self._life:
            await asyncio.wait([self._life])

    async def _live(self) -> int:
        if self._done:
            return 0
        back_off = BackOff(self._scope.back_off_seconds)
        while True:
            prepared = await self._configured()
            ended = await self._one_run(prepared)
            if self._stopping or not self._runs_again(ended):
                return ended.code
            delay = back_off.after(ended.seconds)
            if delay:
                pod = self._scope.pod
                self.last_state = self.state
                self._wait_for(
                    "CrashLoopBackOff",
                    f"back-off {delay:g}s restarting failed container={self.name}"
                    f" pod={name_of(pod)}_{namespace_of(pod)}",
                )
                self._scope.recorder.warning(pod, "BackOff", f"Back-off restarting failed container {self.name}")
                await asyncio.sleep(delay)
            self.restarts += 1

    def _runs_again(self, ended: Exit) -> bool:
        if self.role == "sidecar":
            return True
        policy = self._scope.restart_policy
        if policy == "Always" and self.role == "main":
            return True
        return policy != "Never" and ended.code != 0

    async def _configured(self) -> Prepared:
        """Everything resolved; waits with the reason in the status as long as something is missing."""
        pulls = BackOff(self._scope.back_off_seconds)
        pulls.after(0)  # a pull that failed is never tried again at once
        where = f"container {self.name} of pod {self._scope.title}"
        while True:
            try:
                image = images.pull(str(self.spec.get("image") or ""))
                prepared = prepare(self.spec, self._scope, image)
            except images.PullError as error:
                message = f'{where}: failed to pull image "{self.spec.get("image")}": {error}'
                self._wait_for("ErrImagePull", message)
                self._scope.recorder.warning(self._scope.pod, "Failed", message)
                await asyncio.sleep(0)  # ErrImagePull is seen once, as the attempt itself, before the back-off
                self._wait_for("ImagePullBackOff", f'Back-off pulling image "{self.spec.get("image")}": {message}')
                await asyncio.sleep(pulls.after(0))
            except (ConfigError, VolumeError, ValueError) as error:
                self._wait_for("CreateContainerConfigError", f"{where}: {error}")
                self._scope.recorder.warning(self._scope.pod, "Failed", f"Error: {error}")
                await asyncio.sleep(CONFIG_RETRY_SECONDS)
            else:
                self._image_id = image.reference
                return prepared

    async def _one_run(self, prepared: Prepared) -> Exit:
        pod = self._scope.pod
        log = self._scope.log(self.name, self.restarts)
        log.parent.mkdir(parents=True, exist_ok=True)
        if "terminated" in self.state:
            self.last_state = self.state
        try:
            if prepared.trouble:
                raise StartError(prepared.trouble)
            self._run = run = Run.start(
                prepared.argv,
                prepared.environment,
                prepared.directory,
                log,
                pod_uid=uid_of(pod),
                run_id=f"{uid_of(pod)}.{self.name}.{self.restarts}",
            )
        except StartError as error:
            return self._ended(Exit.failed_start(START_ERROR), "StartError", f"failed to start container: {error}")
        self.state = {"running": {"startedAt": timestamp(run.started)}}
        self._supervision = supervision = Supervision(
            *(self.spec, self._scope, prepared, run),
            changed=self._changed,
            end=lambda grace_seconds: self._end_later(run, grace_seconds),
        )
        self._scope.recorder.normal(pod, "Started", f"Started container {self.name}")
        self._changed()
        ended = await run.wait()
        await supervision.close()
        if self._ending:
            await self._ending
            self._ending = None
        reason = "Completed" if ended.code == 0 else "Error"
        return self._ended(ended, reason, "" if ended.code == 0 else log_tail(log))

    def _ended(self, ended: Exit, reason: str, message: str) -> Exit:
        self._supervision = None
        self.finished = ended
        self.state = {
            "terminated": {
                "exitCode": ended.code,
                "reason": reason,
                "startedAt": timestamp(ended.started),
                "finishedAt": timestamp(ended.finished),
                "containerID": self._id(),
                **({"signal": ended.signal} if ended.signal else {}),
                **({"message": message} if message else {}),
            }
        }
        self._scope.changed()
        return ended

    def _id(self) -> str:
        return f"lab://{uid_of(self._scope.pod)}/{self.name}/{self.restarts}"

    def _changed(self) -> None:
        if self.started:
            self.first_started.set()
        self._scope.changed()

    def _wait_for(self, reason: str, message: str) -> None:
        self.state = {"waiting": {"reason": reason, "message": message}}
        self._scope.changed()

    def _end_later(self, run: Run, grace_seconds: float) -> None:
        """End the run from a task of its own: the probe that asks for it is among what ends with the run."""
        if not self._stopping and self._ending is None:
            self._ending = asyncio.create_task(self._end_run(run, grace_seconds), name=f"end {self.name}")

    async def _end_run(self, run: Run, grace_seconds: float, *, hooks: bool = True) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        if self._supervision:
            self._supervision.stop_judging()
            if hooks and grace_seconds > 0 and await self._supervision.pre_stop(grace_seconds):
                deadline = max(deadline, loop.time() + AFTER_HOOK_SECONDS)
        if not run.ended:
            await run.stop(deadline - loop.time())
