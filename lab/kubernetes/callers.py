"""Which pod opened a connection: its socket, found in /proc, belongs to a process that carries its pod's uid."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from lab.kubernetes.run import POD_UID

Address = tuple[str, int]
Ends = tuple[Address, Address]
"""The opener's end of a connection, and the other one."""

_MAPPED: Final = "0000000000000000FFFF0000"
"""How /proc/net/tcp6 begins an address of IPv4."""


class Callers:
    """Answers questions that come at the same time with one look at /proc."""

    def __init__(self) -> None:
        self._asked: dict[Ends, asyncio.Future[str]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def pod_of(self, opener: Address, listener: Address) -> str:
        """The uid of the pod; empty when no pod of the machine opened it."""
        ends = (opener, listener)
        if ends not in self._asked:
            self._asked[ends] = asyncio.get_running_loop().create_future()
        answer = self._asked[ends]
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(answer)

    async def _look(self) -> None:
        while self._asked:
            asked, self._asked = self._asked, {}
            found = await asyncio.to_thread(pods_of, list(asked))
            for ends, answer in asked.items():
                answer.set_result(found.get(ends, ""))


def pods_of(connections: Iterable[Ends]) -> dict[Ends, str]:
    """The pod of each connection that one opened."""
    inodes = _inodes({_row(*ends): ends for ends in connections})
    if not inodes:
        return {}
    found: dict[Ends, str] = {}
    for process in Path("/proc").iterdir():
        uid = _pod_uid(process) if process.name.isdigit() else ""
        if uid:
            found |= {inodes[inode]: uid for inode in _sockets(process) if inode in inodes}
        if len(found) == len(inodes):
            break
    return found


def _row(local: Address, remote: Address) -> tuple[str, str]:
    return _hexadecimal(local), _hexadecimal(remote)


def _hexadecimal(address: Address) -> str:
    """As /proc/net/tcp writes it on a little-endian machine."""
    return f"{ipaddress.IPv4Address(address[0]).packed[::-1].hex().upper()}:{address[1]:04X}"


def _inodes(rows: dict[tuple[str, str], Ends]) -> dict[str, Ends]:
    found = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split(maxsplit=10)
            ends = rows.get((columns[1].removeprefix(_MAPPED), columns[2].removeprefix(_MAPPED)))
            if ends is not None:
                found[columns[9]] = ends
    return found


def _pod_uid(process: Path) -> str:
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:  # gone meanwhile, or another user's
        return ""
    prefix = f"{POD_UID}=".encode()
    return next((each.removeprefix(prefix).decode() for each in variables if each.startswith(prefix)), "")


def _sockets(process: Path) -> list[str]:
    found = []
    try:
        for descriptor in (process / "fd").iterdir():
            link = str(descriptor.readlink())
            if link.startswith("socket:["):
                found.append(link[8:-1])
    except OSError:
        pass
    return found
