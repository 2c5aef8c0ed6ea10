"""Bring a lab up, take it down, look at it: what the command does from outside the supervisor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lab import leftovers
from lab.members import environment
from lab.process import started, stop, wait_until
from lab.state import (
    FAILED,
    READY,
    STOPPING,
    LabError,
    LabState,
    Plan,
    forget_last_run,
    log_file,
    plan_file,
    state_file,
    write_atomically,
)
from lab.topology import lab_directory

POLL_SECONDS: Final = 0.05
STOP_SECONDS: Final = 90.0
"""Longest a supervisor may take to end: several layers, each with its grace period."""
LOCK_SECONDS: Final = 120.0
FORK_SECONDS: Final = 30.0
"""For the supervisor's imports."""

Say = Callable[[str], None]
"""Takes one line of progress."""


def up(home: Path, plan: Plan, say: Say = lambda _: None) -> bool:
    """Have this plan's lab run; False when it did already. LabError says why it cannot."""
    with _only_one(home):
        state = LabState.read(home)
        if state is not None and state.alive and state.state != STOPPING:
            return _join(home, state, plan, say)
        if state is not None and state.alive and not wait_until(lambda: not state.alive, STOP_SECONDS):
            raise LabError(f"the last lab's supervisor, pid {state.pid}, does not end; kill it and try again")
        _clean(home, say)
        _start(home, plan, say)
        return True


def down(home: Path, say: Say = lambda _: None) -> bool:
    """Have nothing of this lab run; False when nothing did. LabError names what would not end."""
    state = LabState.read(home)
    running = state is not None and state.alive
    if state is not None and running:
        say(f"stopping {len(state.members)} processes")
        stop(state.pid, state.started, STOP_SECONDS)
    swept = _clean(home, say)
    return running or swept.processes > 0


def _clean(home: Path, say: Say) -> leftovers.Swept:
    """End and remove whatever an earlier run left."""
    state = LabState.read(home)
    swept = leftovers.sweep(home, state.segments_before if state else None, grace_seconds=0.5)
    if swept.survivors:
        raise LabError(f"processes {swept.survivors} of an earlier lab do not end; kill them and try again")
    if swept.processes or swept.segments:
        say(f"ended {swept.processes} processes and removed {len(swept.segments)} segments of an earlier lab")
    forget_last_run(home)
    state_file(home).unlink(missing_ok=True)
    return swept


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """One `up` at a time; the kernel lets go of the lock when its holder dies."""
    lab_directory(home).mkdir(parents=True, exist_ok=True)
    with (lab_directory(home) / "up.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"another `tandem lab up` has been at work in {home} for {LOCK_SECONDS:g} s; end it first"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield


def _join(home: Path, state: LabState, plan: Plan, say: Say) -> bool:
    if state.plan.to_json() != plan.to_json():
        raise LabError(
            f"a lab with other settings runs in {home} (supervisor {state.pid}); take it down first: tandem lab down"
        )
    if state.state != READY:
        say(f"the supervisor {state.pid} is starting the lab already")
        _wait(home, state.pid, plan, say)
    broken = (LabState.read(home) or state).troubles
    if broken:
        raise LabError("\n".join(broken))
    return False


def _start(home: Path, plan: Plan, say: Say) -> None:
    write_atomically(plan_file(home), json.dumps(plan.to_json(), indent=1))
    log_file(home, "supervisor").parent.mkdir(parents=True, exist_ok=True)
    try:
        with log_file(home, "supervisor").open("wb") as output:
            # The process started here forks the supervisor, prints its pid and ends: the supervisor is nobody's child.
            begun = subprocess.run(
                [sys.executable, "-P", "-m", "lab.supervisor", "--home", str(home)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment(home) | {"TMPDIR": str(lab_directory(home))},
                cwd=lab_directory(home),
                start_new_session=True,
                timeout=FORK_SECONDS,
                check=False,
            )
        if begun.returncode != 0:
            raise LabError(f"the lab did not start: {_last_words(home)}")
        _wait(home, int(begun.stdout), plan, say)
    except LabError:
        leftovers.sweep(home, None, grace_seconds=0.5)  # usually nothing: the supervisor ends what it started
        raise
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        say("interrupted; taking down what was started")
        down(home, say)
        raise


def _wait(home: Path, pid: int, plan: Plan, say: Say) -> None:
    """Until the lab is ready; LabError when it cannot be, and then nothing of it runs."""
    told: set[str] = set()

    def over() -> bool:
        state = LabState.read(home)
        if state is None or state.pid != pid:
            return started(pid) is None
        for name, member in state.members.items():
            if member.state == READY and name not in told:
                told.add(name)
                say(f"{name} is ready")
        return state.state in (READY, FAILED) or started(pid) is None

    finished = wait_until(over, plan.deadline_seconds * len(plan.members) + STOP_SECONDS)
    state = LabState.read(home)
    if finished and state is not None and state.pid == pid and state.state == READY and state.alive:
        return
    if finished:
        wait_until(lambda: started(pid) is None, 5.0)
    else:
        stop(pid, started(pid) or 0.0, STOP_SECONDS)
    why = state.error if state is not None and state.pid == pid and state.error else _last_words(home)
    raise LabError(f"the lab did not start: {why}")


def _last_words(home: Path) -> str:
    try:
        lines = log_file(home, "supervisor").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return "its supervisor ended early" + (":\n" + "\n".join(lines[-12:]) if lines else "; start it again")
