"""Starts a lab's processes, watches them, and leaves nothing behind: one single-threaded process of its own session."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final

import psutil

from lab import leftovers
from lab.members import Member, environment
from lab.process import become_subreaper, parent_bound, started
from lab.state import (
    ENDED,
    FAILED,
    READY,
    STARTING,
    STOPPING,
    LabError,
    LabState,
    Plan,
    Running,
    forget_last_run,
    log_file,
    plan_file,
    state_file,
)
from lab.topology import home_directory, lab_directory

ORPHAN_SECONDS: Final = 10.0
"""Descendants whose parent died are ended once seen in two looks this far apart."""

log = logging.getLogger("supervisor")


class Supervisor:
    """Runs one plan from start to end."""

    def __init__(self, home: Path, plan: Plan) -> None:
        self._home = home
        self._members = {member.name: member for member in plan.members}
        me = os.getpid()
        self._state = LabState(pid=me, started=started(me) or 0.0, plan=plan)
        self._state.members = {member.name: Running(member.module) for member in plan.members}
        self._outputs: dict[str, IO[bytes]] = {}
        self._lines: dict[str, bytes] = {}
        self._deadlines: dict[str, float] = {}
        self._selector = selectors.DefaultSelector()
        self._asked_to_stop = False
        self._suspected: set[int] = set()
        self._next_look = 0.0

    def run(self) -> int:
        """Exit status: 0 when it was asked to stop, 1 when the lab could not be started."""
        become_subreaper()
        self._listen_to_signals()
        status = 0
        try:
            self._prepare()
            while not self._asked_to_stop:
                self._start_what_can()
                self._pump(self._patience())
                self._check_progress()
        except LabError as error:
            log.error("%s", error)  # noqa: TRY400  # the message says all
            self._state.error = str(error)
            status = 1
        finally:
            self._end(failed=status != 0)
        return status

    def _listen_to_signals(self) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._selector.register(reading, selectors.EVENT_READ, None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, _: object) -> None:
        if not self._asked_to_stop:
            log.info("asked to stop by %s", signal.Signals(number).name)
        self._asked_to_stop = True

    def _prepare(self) -> None:
        self._state.segments_before = sorted(leftovers.segments())
        held = [leftovers.taken(listener) for member in self._members.values() for listener in member.listens]
        if any(held):
            raise LabError("\n".join(filter(None, held)))
        for name, member in self._members.items():
            unknown = sorted(set(member.needs) - set(self._members))
            if unknown:
                raise LabError(f"{name} needs {', '.join(unknown)}, which the table does not have; add it there")
        forget_last_run(self._home)
        (lab_directory(self._home) / "tmp").mkdir(parents=True, exist_ok=True)
        self._state.write(self._home)

    def _start_what_can(self) -> None:
        known = self._state.members
        for name, member in self._members.items():
            if known[name].pid == 0 and all(known[need].state == READY for need in member.needs):
                self._start(member)
                self._state.write(self._home)

    def _start(self, member: Member) -> None:
        command = [sys.executable, "-P", "-m", member.module, "--home", str(self._home), *member.arguments]
        log_file(self._home, member.name).write_bytes(b"")
        with log_file(self._home, member.name).open("ab") as errors:  # appends, as what it says on stdout is appended
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(self._home),
                cwd=lab_directory(self._home),
                preexec_fn=parent_bound(),  # this process has one thread, so forking it is safe
            )
        # Reaped by _reap, which also takes in adopted orphans; Popen must not wait for it as well.
        process.returncode = 0
        output = process.stdout
        if output is None:
            raise LabError(f"{member.name}: no pipe from {command}; report this")
        self._outputs[member.name], self._lines[member.name] = output, b""
        self._selector.register(output, selectors.EVENT_READ, member.name)
        running = self._state.members[member.name]
        running.pid, running.started, running.state = process.pid, started(process.pid) or time.time(), STARTING
        self._deadlines[member.name] = time.monotonic() + self._state.plan.deadline_seconds
        log.info("%s starts as pid %d", member.name, process.pid)

    def _patience(self) -> float:
        """How long nothing has to be done unless something happens."""
        now = time.monotonic()
        return max(0.0, min([now + ORPHAN_SECONDS, *self._deadlines.values()]) - now)

    def _pump(self, seconds: float) -> None:
        """Wait for something to happen, and take it in."""
        for key, _ in self._selector.select(seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    os.read(key.fd, 4096)
            else:
                self._take_output(key.data, key.fd)
        self._reap()
        self._look_for_orphans()

    def _take_output(self, name: str, descriptor: int) -> None:
        data = os.read(descriptor, 65536)
        if not data:
            self._selector.unregister(descriptor)
            self._outputs.pop(name).close()
            return
        with log_file(self._home, name).open("ab") as copy:
            copy.write(data)
        *lines, self._lines[name] = (self._lines[name] + data).split(b"\n")
        self._lines[name] = self._lines[name][-4096:]
        running = self._state.members[name]
        if running.state == STARTING and any(line.strip() == b"ready" for line in lines):
            running.state = READY
            self._deadlines.pop(name)
            log.info("%s is ready", name)
            self._state.write(self._home)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name, running in self._state.members.items():
                if running.pid == pid and running.state != ENDED:
                    running.state, running.exit_status = ENDED, os.waitstatus_to_exitcode(status)
                    self._deadlines.pop(name, None)
                    log.log(
                        logging.INFO if self._asked_to_stop or self._state.error else logging.ERROR,
                        "%s (pid %d) ended with status %d",
                        name,
                        pid,
                        running.exit_status,
                    )
                    self._state.write(self._home)

    def _look_for_orphans(self) -> None:
        """End what a dead member left: nothing but members belongs directly below the supervisor."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + ORPHAN_SECONDS
        members = {running.pid for running in self._state.members.values()}
        orphans = {child.pid for child in psutil.Process().children()} - members
        for pid in orphans & self._suspected:
            log.warning("pid %d outlived the process that started it; ending it", pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._suspected = orphans

    def _check_progress(self) -> None:
        if self._state.state != STARTING or self._asked_to_stop:
            return
        for name, running in self._state.members.items():
            if running.state == ENDED:
                raise LabError(
                    f"{name} ended with status {running.exit_status} before the lab was ready:\n{self._tail(name)}"
                )
            if time.monotonic() > self._deadlines.get(name, float("inf")):
                raise LabError(
                    f"{name} was not ready after {self._state.plan.deadline_seconds:g} s;"
                    f" see `tandem lab logs {name}`:\n{self._tail(name)}"
                )
        if all(running.state == READY for running in self._state.members.values()):
            self._state.state = READY
            self._state.write(self._home)
            log.info("the lab is ready")

    def _tail(self, name: str) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(log_file(self._home, name).read_text(errors="replace").splitlines()[-12:])
        return ""

    def _end(self, *, failed: bool) -> None:
        """Stop all, those first that others do not need; then look whether anything is left."""
        self._state.state = STOPPING
        with contextlib.suppress(OSError):
            self._state.write(self._home)
        for layer in reversed(self._layers()):
            self._stop_layer(layer)
        swept = leftovers.sweep(self._home, self._state.segments_before, but=[os.getpid()], grace_seconds=0.5)
        self._reap()
        log.info(
            "%d left over, %d segments removed, survivors: %s", swept.processes, len(swept.segments), swept.survivors
        )
        forget_last_run(self._home)
        if failed:
            self._state.state = FAILED
            self._state.segments_before = None  # swept; what is new from now on is not this lab's
            self._state.write(self._home)
        else:
            state_file(self._home).unlink(missing_ok=True)

    def _layers(self) -> list[list[str]]:
        """Members in the order they may start, those side by side that may."""
        layers: list[list[str]] = []
        left = dict(self._members)
        while left:
            layer = [name for name, member in left.items() if not set(member.needs) & set(left)] or list(left)
            layers.append(layer)
            for name in layer:
                del left[name]
        return layers

    def _stop_layer(self, names: list[str]) -> None:
        def living() -> list[Running]:
            return [self._state.members[name] for name in names if self._state.members[name].state in (STARTING, READY)]

        for number, seconds in ((signal.SIGTERM, self._state.plan.grace_seconds), (signal.SIGKILL, 5.0)):
            for running in living():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, number)
            deadline = time.monotonic() + seconds
            while living() and time.monotonic() < deadline:
                self._pump(0.1)


def _detach() -> None:
    """Go on in a child that belongs to no one; the process that was started prints the child's pid and ends."""
    child = os.fork()
    if child:
        os.write(sys.stdout.fileno(), str(child).encode())
        os._exit(0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())


def main() -> int:
    """Run the plan that lies in the lab's directory."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--home", required=True)
    home = home_directory(parser.parse_args().home)
    plan = Plan.from_json(json.loads(plan_file(home).read_text()))
    _detach()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    return Supervisor(home, plan).run()


if __name__ == "__main__":
    sys.exit(main())
