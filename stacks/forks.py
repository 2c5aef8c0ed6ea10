"""Engines of the lab as copies of one process that has imported what they need: `lab.engine.host` has the other end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_MESSAGE_BYTES: Final = 1 << 16
_END_SECONDS: Final = 5.0
_SAID_BYTES: Final = 1 << 15
"""As much as a pipe takes in any case."""


class Fork:
    """One engine's process, as `Processes` runs it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        ours, self.output = os.pipe()
        self.stdout = os.fdopen(ours, encoding="utf-8", errors="replace")
        ours, self.errors = os.pipe()
        self.stderr = os.fdopen(ours, encoding="utf-8", errors="replace")
        self._arguments = list(arguments)
        self._lock = threading.Lock()
        self._pidfd: int | None = None
        self._signals: list[int] = []
        self._code: int | None = None
        self._ended = threading.Event()

    def began(self, pidfd: int) -> None:
        """It runs; what it was sent meanwhile reaches it."""
        with self._lock:
            self._pidfd = pidfd
            for number in self._signals:
                signal.pidfd_send_signal(pidfd, number)
            os.close(self.output)
            os.close(self.errors)

    def ended(self, code: int, said: str = "") -> None:
        """It has ended so, or never began for the reason that was said."""
        with self._lock:
            self._code = code
            if self._pidfd is not None:
                os.close(self._pidfd)
                self._pidfd = None
            else:
                os.write(self.errors, said.encode()[-_SAID_BYTES:])
                os.close(self.output)
                os.close(self.errors)
        self._ended.set()

    def send_signal(self, number: int) -> None:
        """To the process, or kept until there is one; nothing when it has ended."""
        with self._lock:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                self._signals.append(number)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The same, waited for; subprocess.TimeoutExpired when that takes longer than `timeout` seconds."""
        if not self._ended.wait(timeout) or self._code is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout or 0.0)
        return self._code


class Forks:
    """Starts engines; their host lives as long as this does, or until `close`. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._host: _Host | None = None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Fork:
        """An engine with these arguments."""
        with self._lock:
            if self._host is None or self._host.gone:
                self._host = _Host(self._root, environment)
                weakref.finalize(self, self._host.close)
            return self._host.fork(arguments, environment, folder)

    def close(self) -> None:
        """End the host, and with it every engine that runs; the next start brings a new one."""
        with self._lock:
            if self._host is not None:
                self._host.close()
                self._host = None


class _Host:
    """The host's process, and the thread that started it and hears from it."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.gone = False
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._asked: deque[Fork] = deque()
        self._running: dict[int, Fork] = {}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._thread = threading.Thread(target=self._follow, args=(root, theirs), daemon=True)
        self._thread.start()

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Fork:
        """Ask for an engine."""
        differs: dict[str, str | None] = dict(set(environment.items()) - set(self._environment.items()))
        differs.update(dict.fromkeys(set(self._environment) - set(environment)))
        job = {"arguments": list(arguments), "environment": differs, "folder": str(folder)}
        fork = Fork(arguments)
        with self._lock:
            self._asked.append(fork)
            try:
                socket.send_fds(self._control, [json.dumps(job).encode()], [fork.output, fork.errors])
            except OSError as error:
                self._asked.pop()
                fork.ended(1, f"the engines' host is gone: {error}")
        return fork

    def close(self) -> None:
        """End the host, and with it what it started."""
        try:
            self._control.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is gone already
        self._thread.join(_END_SECONDS)

    def _follow(self, root: Path, theirs: socket.socket) -> None:
        """In a thread of its own, as the host ends with the thread that started it."""
        with theirs:
            host = subprocess.Popen(
                [sys.executable, "-P", "-m", "lab.engine.host", str(os.getpid()), str(theirs.fileno()), str(root)],
                cwd=root, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE, text=True, errors="replace", pass_fds=[theirs.fileno()],
                start_new_session=True,
            )  # fmt: skip
        while self._heard():
            pass
        try:
            said = host.communicate(timeout=_END_SECONDS)[1]
        except subprocess.TimeoutExpired:
            host.kill()
            said = host.communicate()[1]
        with self._lock:
            self.gone = True
            self._control.close()
            for fork in (*self._asked, *self._running.values()):
                fork.ended(-signal.SIGKILL, f"the engines' host ended with {host.returncode}: {said}")

    def _heard(self) -> bool:
        """Take one message of the host; False when there will be none."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, _MESSAGE_BYTES, 1)
        except OSError:
            return False
        if not message:
            return False
        told: dict[str, int] = json.loads(message)
        with self._lock:
            if "started" in told:
                fork = self._running[told["started"]] = self._asked.popleft()
                fork.began(descriptors[0])
            else:
                self._running.pop(told["ended"]).ended(told["code"])
        return True
