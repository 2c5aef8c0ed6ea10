"""Hooks and probes of one run of a container: whether it has started, is ready, has to be ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lab.kubernetes import images, probes
from lab.kubernetes.api.objects import uid_of
from lab.kubernetes.run import Run, StartError
from lab.kubernetes.scope import PodScope, Prepared

log = logging.getLogger(__name__)

START_ERROR: Final = 128
"""Exit code of a command that could not be started."""


class Supervision:
    """Asks one run how it is, as long as it lasts.

    `changed()` is called when the answer is another one, `end(grace_seconds)` when the run has to go.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        scope: PodScope,
        prepared: Prepared,
        run: Run,
        *,
        changed: Callable[[], None],
        end: Callable[[float], None],
    ) -> None:
        self.started = "startupProbe" not in spec
        self.ready = self.started and "readinessProbe" not in spec
        self._spec = spec
        self._scope = scope
        self._prepared = prepared
        self._run = run
        self._changed = changed
        self._end = end
        self._target = probes.Target(spec, scope.placement.pod_ip, self.execute, scope.session)
        self._judging = True
        self._task = asyncio.create_task(self._supervise(), name=f"probes of {spec['name']}")

    def stop_judging(self) -> None:
        """The run is being ended: until it has, only its readiness is asked."""
        self._judging = False

    def drop(self) -> asyncio.Task[None]:
        """Ask no more; the task that is done when nothing is being asked."""
        self._task.cancel()
        return self._task

    async def close(self) -> None:
        """Ask no more."""
        self.drop()
        await asyncio.wait([self._task])
        if not self._task.cancelled() and (error := self._task.exception()):
            log.error("probes of container %s, pod %s", self._spec["name"], self._scope.title, exc_info=error)

    async def pre_stop(self, seconds: float) -> bool:
        """Run the preStop hook, at most as long as the run lasts; False when there is none."""
        hook = (self._spec.get("lifecycle") or {}).get("preStop")
        if not hook:
            return False
        ending = asyncio.ensure_future(self._run.wait())
        asking = asyncio.ensure_future(self._hook(hook, seconds))
        try:
            await asyncio.wait({ending, asking}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done() and (failure := asking.result()):
                self._scope.recorder.warning(self._scope.pod, "FailedPreStopHook", f"PreStopHook failed: {failure}")
        finally:
            for task in (ending, asking):
                task.cancel()
            await asyncio.wait({ending, asking})
        return True

    async def execute(self, argv: Sequence[str], seconds: float) -> tuple[int, str]:
        """Run a command beside the container's process, in its environment: exit code and output; TimeoutError."""
        prepared, output = self._prepared, os.memfd_create("exec-output")
        try:
            words = [prepared.mounts.translate(word) for word in argv]
            command = prepared.image.command(self._scope.image_home, words, ())
            uid = uid_of(self._scope.pod)
            run = Run.start(command.argv, prepared.environment, prepared.directory, output, pod_uid=uid, run_id="")
            try:
                async with asyncio.timeout(seconds):
                    ended = await run.wait()
            finally:
                if not run.ended and not self._scope.dark:
                    run.kill()
                    with contextlib.suppress(asyncio.CancelledError):
                        await run.wait()
            return ended.code, os.pread(output, probes.EXEC_OUTPUT_BYTES, 0).decode(errors="replace")
        except (images.CommandError, StartError) as error:
            return START_ERROR, str(error)
        finally:
            os.close(output)

    async def _supervise(self) -> None:
        post_start = (self._spec.get("lifecycle") or {}).get("postStart")
        if post_start and (failure := await self._hook(post_start, self._scope.grace_seconds)):
            self._scope.recorder.warning(self._scope.pod, "FailedPostStartHook", f"PostStartHook failed: {failure}")
            self._end(self._scope.grace_seconds)
            return
        if startup := self._spec.get("startupProbe"):
            if not await self._keeps_up(startup, "startup", until_good=True):
                return
            self.started = True
            self.ready = "readinessProbe" not in self._spec
            self._changed()
        async with asyncio.TaskGroup() as group:
            if readiness := self._spec.get("readinessProbe"):
                group.create_task(self._follow_readiness(readiness))
            if liveness := self._spec.get("livenessProbe"):
                group.create_task(self._keeps_up(liveness, "liveness", until_good=False))

    async def _keeps_up(self, probe: Mapping[str, Any], which: str, *, until_good: bool) -> bool:
        """Ask until the run has to be ended, then False; with `until_good` until the first yes, then True."""
        pace, failures = probes.Pace.of(probe), 0
        async for reason in probes.answers(probe, self._target):
            if not self._judging:
                break
            if reason is None:
                failures = 0
                if until_good:
                    return True
            else:
                failures += 1
                self._unhealthy(which, reason)
                if failures >= pace.failure_threshold:
                    self._give_up(probe, which, reason)
                    break
        return False

    async def _follow_readiness(self, probe: Mapping[str, Any]) -> None:
        pace, streak, last = probes.Pace.of(probe), 0, False
        async for reason in probes.answers(probe, self._target):
            good = reason is None
            streak, last = (streak + 1, good) if good == last else (1, good)
            if reason is not None:
                self._unhealthy("readiness", reason)
            if good != self.ready and streak >= (pace.success_threshold if good else pace.failure_threshold):
                self.ready = good
                self._changed()

    def _unhealthy(self, which: str, reason: str) -> None:
        message = f"{which.capitalize()} probe failed: container {self._spec['name']}: {reason}"
        self._scope.recorder.warning(self._scope.pod, "Unhealthy", message)

    def _give_up(self, probe: Mapping[str, Any], which: str, reason: str) -> None:
        text = f"Container {self._spec['name']} failed {which} probe, will be restarted: {reason}"
        self._scope.recorder.normal(self._scope.pod, "Killing", text)
        self._end(float(probe.get("terminationGracePeriodSeconds", self._scope.grace_seconds)))

    async def _hook(self, hook: Mapping[str, Any], seconds: float) -> str | None:
        """None when the hook did what it should within `seconds`, otherwise why not."""
        try:
            async with asyncio.timeout(seconds):
                if pause := hook.get("sleep"):
                    await asyncio.sleep(float(pause.get("seconds", 0)))
                    return None
                if spec := hook.get("httpGet"):
                    return await probes.http_get(spec, self._target, seconds)
                if spec := hook.get("exec"):
                    code, output = await self.execute(spec.get("command") or [], seconds)
                    return None if code == 0 else f"command exited with {code}: {output.strip()}"
        except TimeoutError:
            return f"not done within the grace period of {seconds:g} s"
        except LookupError as error:
            return str(error.args[0])
        return "the hook has none of exec, httpGet, sleep; give it one"
