"""What a lab that died left behind: processes, shared memory, taken addresses."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from lab.members import Listener
from lab.process import MARKER, of_lab, stop_all

SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # the kernel's own place for it
LOOKS: Final = 5
_POD_NAMED: Final = re.compile(r"[a-z0-9][a-z0-9.-]*-[a-z0-9]{5}")
"""Segments of pods begin with the pod's name, which ends in five characters of a controller's choice."""


@dataclass(frozen=True)
class Swept:
    """What was found and ended, and what would not go."""

    processes: int
    segments: tuple[str, ...]
    survivors: tuple[int, ...]


def segments() -> set[str]:
    """Names of this user's shared-memory segments."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in SHARED_MEMORY.iterdir():
            with contextlib.suppress(OSError):
                if entry.lstat().st_uid == os.getuid():
                    found.add(entry.name)
    return found


def sweep(home: Path, segments_before: Iterable[str] | None, *, but: Iterable[int] = (), grace_seconds: float) -> Swept:
    """End every process of this lab except `but`, then remove its shared memory.

    A segment is the lab's when one of its processes had it open, or when it is new since `segments_before`, is named
    after a pod and nothing has it open any more. Without `segments_before` only the first of these counts.
    """
    ended: set[int] = set()
    theirs: set[str] = set()
    for _ in range(LOOKS):  # what is being started while one looks is found by the next look
        found = of_lab(home, but=but)
        if not found:
            break
        theirs |= _opened(found)
        ended |= found.keys() - stop_all(found, grace_seconds).keys()
    if segments_before is not None:
        new = {name for name in segments() - set(segments_before) if _POD_NAMED.match(name)}
        theirs |= new - _opened(psutil.pids()) if new else set()
    removed = []
    for name in sorted(theirs & segments()):
        with contextlib.suppress(OSError):
            (SHARED_MEMORY / name).unlink()
            removed.append(name)
    return Swept(len(ended), tuple(removed), tuple(of_lab(home, but=but)))


def _opened(pids: Iterable[int]) -> set[str]:
    """Segments that these processes have mapped."""
    names = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
                path = line.partition(f"{SHARED_MEMORY}/")[2]
                if path:
                    names.add(path.removesuffix(" (deleted)"))
    return names


def taken(listener: Listener) -> str:
    """Who listens there, as a sentence; empty when the address is free."""
    kind = socket.SOCK_DGRAM if listener.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as trial:
        if kind == socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((listener.host, listener.port))
        except OSError as error:
            return f"{listener} cannot be used: {error.strerror}; {_holder(listener)}"
    return ""


def _holder(listener: Listener) -> str:
    for connection in psutil.net_connections(kind=f"{listener.protocol}4"):
        if (
            not connection.laddr
            or connection.laddr.port != listener.port
            or connection.laddr.ip not in (listener.host, "0.0.0.0")  # noqa: S104  # compared with, not bound to
            or connection.status not in (psutil.CONN_LISTEN, psutil.CONN_NONE)
            or connection.pid is None
        ):
            continue
        try:
            process = psutil.Process(connection.pid)
            command, home = " ".join(process.cmdline())[:120], process.environ().get(MARKER)
        except psutil.Error:
            break
        remedy = f"stop that lab: TANDEM_HOME={home} tandem lab down" if home else "stop it first"
        return f"it is held by pid {connection.pid} ({command}); {remedy}"
    return "who holds it is not visible to this user; find and stop it first"
