"""The program's process as the engine sees it: fed with runs, watched, and ended with the engine."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, Self

import lab
from lab.engine.deployment import Deployment
from lab.engine.errors import ProgramError
from lab.engine.project import Project, Settings

IDLE_SECONDS: Final = 60.0
"""A program that computes this long without asking the engine anything is taken for hung."""
LIMIT_SECONDS: Final = 1800.0
"""Longest one run of a program may take, provider calls included."""
_FAILED_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1


class Child:
    """A program's process. Use as a context manager; leaving it ends the process."""

    def __init__(self, project: Project, say: Callable[[str], None], *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._project = project
        self._idle_seconds = idle_seconds
        reading, writing = os.pipe()
        source = str(Path(lab.__file__).parents[1])
        path = os.pathsep.join(
            dict.fromkeys(filter(None, [str(project.root), source, os.environ.get("PYTHONPATH", "")]))
        )
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            # The program's channel to the engine is loopback, whatever proxy is set for the rest.
            "no_grpc_proxy": "127.0.0.1",
        }
        self._process = subprocess.Popen(
            # -P: a program's folder may hold modules that would hide the standard library's (platform.py).
            [sys.executable, "-P", "-m", "lab.engine.program", str(os.getpid()), str(writing)],
            cwd=project.main,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            text=True,
        )
        os.close(writing)
        self._results = os.fdopen(reading, "rb", buffering=0)
        self._log = threading.Thread(target=_forward, args=(self._process.stdout, say), daemon=True)
        self._log.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.join(2.0)
        for stream in (self._process.stdin, self._process.stdout, self._results):
            if stream is not None:
                stream.close()

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
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe above
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
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


def _forward(stream: IO[str] | None, say: Callable[[str], None]) -> None:
    for line in stream or ():
        say(line.rstrip("\n"))
