"""The engines' processes: followed line by line, bounded in time, ended in order."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

_SETTLE_SECONDS: Final = 30.0
"""How long an interrupted engine may take to record what it finished."""
_ERROR_LINES: Final = 200


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    code: int
    output: str
    errors: str


class Process(Protocol):
    """What of subprocess.Popen is used here."""

    @property
    def stdout(self) -> IO[str] | None:
        """What it prints."""

    @property
    def stderr(self) -> IO[str] | None:
        """What it says."""

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """The same, waited for."""

    def send_signal(self, number: int, /) -> None:
        """To it, while it runs."""

    def kill(self) -> None:
        """End it."""


Start = Callable[[Sequence[str], Mapping[str, str], Path], Process]
"""Of a command, an environment and a folder."""


def started(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Process:
    """A process with a session of its own: a Ctrl-C at the terminal reaches it once, through `Processes.interrupt`."""
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip


class Processes:
    """The running ones. Safe to use from several threads."""

    def __init__(self, start: Start = started) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._running: set[Process] = set()
        self._interrupted = False

    def run(
        self,
        command: Sequence[str],
        environment: dict[str, str],
        folder: Path,
        seconds: float,
        line: Callable[[str], None] | None = None,
    ) -> Done:
        """Run to the end; `line` gets each line of output, otherwise the output is collected."""
        process = self._start(command, environment, folder)
        with self._lock:
            self._running.add(process)
            if self._interrupted:
                process.send_signal(signal.SIGINT)
        errors: deque[str] = deque(maxlen=_ERROR_LINES)
        reader = threading.Thread(target=_collect, args=(process.stderr, errors.append), daemon=True)
        reader.start()
        limit = threading.Timer(seconds, process.kill)
        limit.daemon = True
        limit.start()
        output: list[str] = []
        try:
            _collect(process.stdout, line or output.append)
            code = process.wait()
        finally:
            limit.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
            reader.join(2.0)
            with self._lock:
                self._running.discard(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        if code == -signal.SIGKILL and limit.finished.is_set() and not self._interrupted:
            errors.append(f"it was ended after {seconds:.0f} s, or killed from outside")
        return Done(code, "\n".join(output), "\n".join(errors))

    def interrupt(self) -> None:
        """Ask all of them to stop, once; kill what has not stopped in half a minute."""
        with self._lock:
            self._interrupted = True
            running = list(self._running)
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(_SETTLE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _collect(stream: IO[str] | None, take: Callable[[str], object]) -> None:
    for text in stream or ():
        take(text.rstrip("\n"))
