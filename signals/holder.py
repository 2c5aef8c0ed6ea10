"""Who holds an environment: one process on one machine, for one purpose, until it says it is done or falls silent."""

from __future__ import annotations

import json
import os
import pwd
import socket
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from signals.store import Stored

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Holder:
    """One lock as it stands in a store or on this machine."""

    token: str
    owner: str
    """user@host pid: for people."""
    process: str
    """The process, so that nobody on its own machine waits for one that died; empty where that cannot be told."""
    purpose: str
    env: str
    since: str
    until: str
    """When it lapses unless it is renewed, by its holder's clock: for people. What counts is the store's clock."""
    lease_seconds: float
    released: bool = False

    @classmethod
    def me(cls, env: str, purpose: str, lease_seconds: float) -> Holder:
        """A new lock for this process."""
        now = datetime.now(UTC)
        return cls(
            token=uuid.uuid4().hex,
            owner=owner(),
            process=_identity(os.getpid()),
            purpose=purpose,
            env=env,
            since=_text(now),
            until=_text(now + timedelta(seconds=lease_seconds)),
            lease_seconds=lease_seconds,
        )

    def renewed(self, lease_seconds: float | None = None) -> Holder:
        """The same lock for another lease from now on."""
        seconds = self.lease_seconds if lease_seconds is None else lease_seconds
        return replace(self, lease_seconds=seconds, until=_text(datetime.now(UTC) + timedelta(seconds=seconds)))

    def let_go(self) -> Holder:
        """The same lock, given back."""
        return replace(self, released=True, until=_text(datetime.now(UTC)))

    def body(self) -> bytes:
        """The lock as an object."""
        return json.dumps(vars(self), sort_keys=True).encode()

    @classmethod
    def parse(cls, body: bytes, lease_seconds: float) -> Holder:
        """A lock out of its object; one nobody can read is held by somebody unknown until its lease is over."""
        try:
            return cls(**json.loads(body))
        except (ValueError, TypeError):
            return cls(UNKNOWN, UNKNOWN, "", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, lease_seconds)

    def free(self, stored: Stored) -> bool:
        """Whether somebody else may take it: given back, lapsed, or its process died on this machine."""
        return self.released or stored.age_seconds > self.lease_seconds or self.dead

    @property
    def dead(self) -> bool:
        """Whether its process was one of this machine and is no more."""
        here = _machine()
        machine, _, rest = self.process.rpartition("/")
        if not here or machine != here:
            return False
        return _identity(int(rest.partition(":")[0])) != self.process

    def __str__(self) -> str:
        return f"{self.owner} for {self.purpose!r} since {self.since}, until {self.until} unless renewed"

    def document(self) -> dict[str, Any]:
        """For JSON output."""
        return dict(vars(self))


def person() -> str:
    """Who works here, as the machine has it, whatever the environment says: user@host."""
    number = os.getuid()
    try:
        user = pwd.getpwuid(number).pw_name
    except KeyError:
        user = str(number)
    return f"{user}@{socket.gethostname()}"


def owner() -> str:
    """Name of this process for people: user@host pid."""
    return f"{person()} {os.getpid()}"


def _machine() -> str:
    """What tells this boot of this machine, and its process numbers, from all others; empty where nothing does."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _identity(pid: int) -> str:
    """A process as nothing else will ever be named: machine, number and moment of its start."""
    machine = _machine()
    try:
        # The name in field 2 may hold anything, spaces and brackets too; the start is the 20th field after it.
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
    return f"{machine}/{pid}:{started}" if machine else ""


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
