"""No lab process outlives its parent, and none is mistaken for another one with the same pid."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import psutil

MARKER: Final = "TANDEM_LAB_HOME"
"""Environment variable every process of a lab carries, pods included; its value is the lab's absolute home."""

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_SAME_START_SECONDS: Final = 1.0
"""psutil derives start times from the boot time, which moves a little when the clock is set."""
_POLL_SECONDS: Final = 0.02

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {argument}): {os.strerror(error)}; the lab needs Linux 3.4 or newer")


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process with SIGKILL when its parent goes.

    Call it first thing in a child, or hand `parent_bound()` to `preexec_fn`. With `parent` the case is covered
    that the parent went before this call; without it, being adopted by pid 1 counts as that.
    The kernel watches the parent's *thread*: start such children from a thread that lives as long as they may.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    gone = os.getppid() == 1 if parent is None else os.getppid() != parent
    if gone:
        os.kill(os.getpid(), signal.SIGKILL)


def parent_bound() -> Callable[[], None]:
    """A `preexec_fn` for children that must die with the calling process, also if it goes during the fork."""
    parent = os.getpid()
    return lambda: die_with_parent(parent)


@functools.cache
def parent_binding_command() -> tuple[str, ...]:
    """What to put before a command so that it becomes that command, same pid, bound as by `die_with_parent`.

    For processes with threads, where running Python between fork and exec may meet a lock that nobody will let go of.
    Empty where util-linux's setpriv is not there, or is another one's. A parent that goes before setpriv has bound its
    process is not noticed.
    """
    found = shutil.which("setpriv", path=os.defpath)
    if found is None:
        return ()
    command = (found, "--pdeathsig", "KILL", "--")
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        tried = subprocess.run([*command, found, "--version"], capture_output=True, timeout=5, check=False)
        if tried.returncode == 0:
            return command
    return ()


def become_subreaper() -> None:
    """Adopt orphaned descendants instead of leaving them to init; the caller then has to reap them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def started(pid: int) -> float | None:
    """Start time of a process in seconds since the epoch; None when there is none or it is a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def alive(pid: int, started_at: float) -> bool:
    """Whether this very process runs: same pid, same start time, no zombie."""
    now = started(pid)
    return now is not None and abs(now - started_at) <= _SAME_START_SECONDS


def wait_until(gone: Callable[[], bool], seconds: float) -> bool:
    """Whether `gone` became true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not gone():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def stop(pid: int, started_at: float, grace_seconds: float) -> bool:
    """SIGTERM, then SIGKILL after the grace period; True when the process is gone, at once if it already was."""

    def gone() -> bool:
        return not alive(pid, started_at)

    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        if gone():
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_until(gone, seconds):
            return True
    return False


def of_lab(home: Path, *, but: Iterable[int] = ()) -> dict[int, float]:
    """Processes of the lab at `home`, as pid to start time: the marker in their environment, or a HOME inside the lab.

    The caller, what it descends from, and the pids of `but` are left out.
    """
    spared = {os.getpid(), *but}
    with contextlib.suppress(psutil.Error):
        spared |= {process.pid for process in psutil.Process().parents()}
    home = home.resolve()
    found: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        if any(_names(variable, home) for variable in variables):
            start = started(int(entry.name))
            if start is not None:
                found[int(entry.name)] = start
    return found


def _names(variable: bytes, home: Path) -> bool:
    """Whether an environment entry, whatever its spelling of the path, makes its process one of the lab at `home`."""
    name, _, value = os.fsdecode(variable).partition("=")
    if name == MARKER:
        return Path(value).resolve() == home
    if name == "HOME" and "/lab/" in value:
        return (home / "lab") in Path(value).resolve().parents
    return False


def stop_all(processes: dict[int, float], grace_seconds: float) -> dict[int, float]:
    """SIGTERM to all at once, SIGKILL to what is left after the grace period; returns what survived even that."""
    for number, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        remaining = {pid: start for pid, start in processes.items() if alive(pid, start)}
        for pid in remaining:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if wait_until(lambda: not any(alive(pid, start) for pid, start in processes.items()), seconds):
            return {}
    return {pid: start for pid, start in processes.items() if alive(pid, start)}
