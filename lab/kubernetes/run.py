"""One run of a container: a process group of its own that leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from lab.process import parent_binding_command, parent_bound

POD_UID: Final = "TANDEM_POD_UID"
"""Environment variable that every process of a pod carries."""
RUN_ID: Final = "TANDEM_CONTAINER_RUN"
"""Environment variable that tells the runs of a pod's containers apart."""

TAIL_BYTES: Final = 2048
TAIL_LINES: Final = 80
"""What Kubernetes keeps of a log as termination message (FallbackToLogsOnError)."""

_REAP_SECONDS: Final = 5.0

_OWNED: Final[set[int]] = set()
"""Processes a `Run` will take the exit status of."""


class StartError(Exception):
    """The container's process could not be started."""


@dataclass(frozen=True)
class Exit:
    """How a run ended."""

    code: int
    """128 + n after signal n, as Kubernetes reports it."""
    signal: int
    started: datetime
    finished: datetime

    @classmethod
    def failed_start(cls, code: int) -> Exit:
        """Of a process that never was."""
        now = datetime.now(UTC)
        return cls(code, 0, now, now)

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return (self.finished - self.started).total_seconds()


class Run:
    """A started process; `wait()` is done once it and everything it started are gone."""

    def __init__(self, process: subprocess.Popen[bytes], run_id: str, pod_uid: str) -> None:
        self._process = process
        self._run_id = run_id
        self._pod_uid = pod_uid
        self._started = datetime.now(UTC)
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        _OWNED.add(process.pid)
        self._descriptor = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._descriptor, self._ended)

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        log: Path | int,
        *,
        pod_uid: str,
        run_id: str,
    ) -> Run:
        """Start in a session of its own, output to `log`; StartError naming the program and the reason.

        Without a `run_id` nothing is looked for outside the process group: for short commands run beside a container.
        """
        marked = {**environment, POD_UID: pod_uid, RUN_ID: run_id}
        with contextlib.ExitStack() as stack:
            output = log if isinstance(log, int) else stack.enter_context(log.open("ab", buffering=0))
            binding = parent_binding_command()
            try:
                if binding:  # which would tell it in the container's log only
                    _check_program(argv[0])
                # the child dies with the thread that starts it: the loop's own, which lives as long as the kubelet
                process = subprocess.Popen(
                    [*binding, *argv],
                    env=marked,
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=None if binding else parent_bound(),
                )
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                raise StartError(f'exec: "{argv[0]}" in {directory}: {error}') from error
        return cls(process, run_id, pod_uid)

    @property
    def pid(self) -> int:
        """The process the container is."""
        return self._process.pid

    @property
    def started(self) -> datetime:
        """When it was started."""
        return self._started

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self._exit.done()

    async def wait(self) -> Exit:
        """How it ended; may be awaited by several at once."""
        return await asyncio.shield(self._exit)

    def terminate(self) -> None:
        """SIGTERM to the container's first process, as a container runtime does."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the whole group, and to what has left it."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._sweep()

    def freeze(self) -> None:
        """SIGSTOP to the whole group."""
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGSTOP)

    async def stop(self, grace_seconds: float) -> Exit:
        """SIGTERM, then SIGKILL when the grace period is over."""
        self.terminate()
        try:
            return await asyncio.wait_for(self.wait(), max(grace_seconds, 0.0))
        except TimeoutError:
            self.kill()
            return await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if not self.ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _sweep(self) -> None:
        if self._run_id:
            kill_marked(RUN_ID, self._run_id)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        # a container ends with its first process; the rest goes before that one is reaped, while its pid is taken
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status = self._process.wait()
        _OWNED.discard(self.pid)
        self._sweep()
        number = -status if status < 0 else 0
        if not self._exit.done():
            self._exit.set_result(Exit(128 + number if number else status, number, self._started, datetime.now(UTC)))


def _check_program(path: str) -> None:
    """OSError, as executing it would raise, for what is no program."""
    if not Path(path).exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if Path(path).is_dir() or not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def marked_processes(name: str, value: str | None = None) -> list[int]:
    """Processes that carry the variable in their environment, with this value where one is given."""
    if value is None:
        return _carriers(lambda variable: variable.startswith(f"{name}=".encode()))
    return _carriers(f"{name}={value}".encode().__eq__)


def _carriers(wanted: Callable[[bytes], bool]) -> list[int]:
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # gone meanwhile, or another user's
            continue
        if any(wanted(variable) for variable in variables):
            found.append(int(entry.name))
    return found


def kill_marked(name: str, value: str | None = None) -> list[int]:
    """SIGKILL to every process that carries the variable; the pids it went to.

    The youngest go first: the kernel wakes a stopped process when its group loses the parent that could continue it.
    """
    pids = sorted(marked_processes(name, value), reverse=True)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return pids


def freeze_marked(name: str, values: Iterable[str]) -> list[int]:
    """SIGSTOP to every process that carries the variable with one of the values; the pids it went to.

    They are looked for until none is new: what one of them was just starting is found by the next look.
    """
    wanted = {f"{name}={value}".encode() for value in values}
    frozen: set[int] = set()
    while wanted and (new := set(_carriers(wanted.__contains__)) - frozen):
        for pid in new:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGSTOP)
        frozen |= new
    return sorted(frozen)


async def gone(pids: Sequence[int], seconds: float = _REAP_SECONDS) -> bool:
    """Whether these processes have ended within `seconds`; a zombie counts as ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while any(_lives(pid) for pid in pids):
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def reap_adopted() -> bool:
    """Take the exit status of ended children that no `Run` stands for; False when one of a `Run` is in the way.

    For a process that adopts orphans (`become_subreaper`), on SIGCHLD; after False, again a moment later.
    """
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return True
        if ended is None:
            return True
        if ended.si_pid in _OWNED:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(ended.si_pid, os.WNOHANG)


def log_tail(log: Path, lines: int = TAIL_LINES, limit_bytes: int = TAIL_BYTES) -> str:
    """The last lines of a log, bounded in size."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - limit_bytes))
            text = file.read(limit_bytes).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
