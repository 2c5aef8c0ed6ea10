"""Two ways to a program's process: a new interpreter, or a copy of this one that finds the SDKs imported."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Final, Protocol

import lab
from lab.engine.project import Project
from lab.process import die_with_parent

LOOPBACK: Final = {"no_grpc_proxy": "127.0.0.1"}
"""A program's channel to the engine is loopback, whatever proxy is set for the rest."""


class Process(Protocol):
    """A child of this process."""

    def kill(self) -> None:
        """End it, if it has not ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal; subprocess.TimeoutExpired when it goes on."""


def spawned(project: Project, jobs: int, results: int, output: int) -> Process:
    """A new interpreter that reads `jobs`, answers on `results`, and says everything else on `output`."""
    source = str(Path(lab.__file__).parents[1])
    path = dict.fromkeys(filter(None, [str(project.root), source, os.environ.get("PYTHONPATH", "")]))
    return subprocess.Popen(
        # -P: a program's folder may hold modules that would hide the standard library's (platform.py).
        [sys.executable, "-P", "-m", "lab.engine.program", str(os.getpid()), str(jobs), str(results)],
        cwd=project.main,
        env={**os.environ, **LOOPBACK, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=[jobs, results],
    )


def forked(project: Project, jobs: int, results: int, output: int) -> Process:
    """The same as a copy of this process; a new one where this process has threads, as a copy would lack them."""
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        return spawned(project, jobs, results, output)
    from lab.engine import program

    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid != 0:
        return Forked(pid)
    try:
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
            os.dup2(source, target)
        _close_all_but(0, 1, 2, jobs, results)
        os.environ.update(LOOPBACK)
        os.chdir(project.main)
        program.serve(jobs, results)
    # Whatever it is, it must not get to what comes after the fork in the engine.
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


class Forked:
    """A forked child, by its pid."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._code: int | None = None

    def kill(self) -> None:
        """See Process."""
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """See Process."""
        if self._code is None:
            ended = os.pidfd_open(self._pid)
            try:
                if not select.select([ended], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("a program's process", timeout or 0.0)
            finally:
                os.close(ended)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        return self._code


def _close_all_but(*kept: int) -> None:
    """The engine's lock and pipes are not the program's."""
    edges = sorted(kept)
    for low, high in zip(edges, [*edges[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)
