"""The program's process as the engine sees it: fed with runs, watched, and ended with the engine."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Final, Self

from lab.engine.deployment import Deployment
from lab.engine.errors import ProgramError
from lab.engine.launch import forked, spawned
from lab.engine.project import Project, Settings

IDLE_SECONDS: Final = 60.0
"""A program that computes this long without asking the engine anything is taken for hung."""
LIMIT_SECONDS: Final = 1800.0
"""Longest one run of a program may take, provider calls included."""
_FAILED_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


class Child:
    """A program's process. Use as a context manager; leaving it ends the process."""

    def __init__(
        self,
        project: Project,
        say: Callable[[str], None],
        *,
        idle_seconds: float = IDLE_SECONDS,
        fork: bool = False,
    ) -> None:
        """Start it: as a copy of this process, which then must have one thread only, or as a new one."""
        self._project = project
        self._idle_seconds = idle_seconds
        ours: list[int] = []
        theirs: list[int] = []
        for far, near in (os.pipe(), os.pipe()[::-1], os.pipe()[::-1]):
            theirs.append(far)
            ours.append(near)
        self._process = (forked if fork else spawned)(project, *theirs)
        for end in theirs:
            os.close(end)
        self._jobs = os.fdopen(ours[0], "w", encoding="utf-8")
        self._results = os.fdopen(ours[1], "rb", buffering=0)
        self._output = os.fdopen(ours[2], encoding="utf-8", errors="replace")
        self._log = threading.Thread(target=_forward, args=(self._output, say), daemon=True)
        self._log.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.join(2.0)
        with suppress(BrokenPipeError):
            self._jobs.close()
        self._results.close()
        self._output.close()

    def run(self, deployment: Deployment, settings: Settings, address: str) -> None:
        """Run the program once against the monitor at `address`; raises the deployment's failure or ProgramError."""
        job = {
            "address": address,
            "project": deployment.project,
            "stack": deployment.stack,
            "root": str(self._project.root),
            "main": str(self._project.main),
            "dry_run": deployment.dry_run,
            "config": settings.values,
            "secret_keys": sorted(settings.secret_keys),
        }
        deployment.last_activity = time.monotonic()
        try:
            self._jobs.write(json.dumps(job) + "\n")
            self._jobs.flush()
        except BrokenPipeError as error:
            raise ProgramError(
                f"the program's process ended before it ran; its output says why ({self._exit()})"
            ) from error
        result = self._wait(deployment)
        if deployment.failure is not None:
            raise deployment.failure
        if result is None:
            raise ProgramError(f"the program's process {self._exit()} before the program ended; its output says why")
        if not result["ok"]:
            raise ProgramError("the program failed; its message is above")

    def _exit(self) -> str:
        try:
            code = self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            return "closed its result"
        return f"was killed by signal {-code}" if code < 0 else f"exited with {code}"

    def _wait(self, deployment: Deployment) -> dict[str, Any] | None:
        """The program's result; None when its process ended without one, or after the deployment has failed."""
        began = time.monotonic()
        failed_at = None
        with selectors.DefaultSelector() as selector:
            selector.register(self._results, selectors.EVENT_READ)
            while True:
                if selector.select(_POLL_SECONDS):
                    line = self._results.readline()
                    return dict(json.loads(line)) if line else None
                now = time.monotonic()
                busy = deployment.in_flight > 0
                if deployment.failure is not None:
                    failed_at = failed_at or now
                    # Steps in flight end and are recorded; the program is not waited for.
                    if not busy and now - failed_at > _FAILED_SECONDS:
                        return None
                elif not busy and now - deployment.last_activity > self._idle_seconds:
                    raise ProgramError(
                        f"the program asked nothing for {self._idle_seconds:.0f} s and was ended; a program only"
                        " declares: find the wait or loop in it"
                    )
                elif now - began > LIMIT_SECONDS:
                    raise ProgramError(
                        f"the program ran for {LIMIT_SECONDS:.0f} s and was ended; find the provider call that does"
                        " not return in the lines above"
                    )


def _forward(stream: IO[str], say: Callable[[str], None]) -> None:
    for line in stream:
        say(line.rstrip("\n"))
