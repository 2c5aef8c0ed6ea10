"""lab.json: what runs in a lab, written by its supervisor alone and replaced as a whole."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.members import Member
from lab.process import alive
from lab.topology import Topology, lab_directory

STARTING: Final = "starting"
READY: Final = "ready"
STOPPING: Final = "stopping"
FAILED: Final = "failed"
ENDED: Final = "ended"
WAITING: Final = "waiting"

BELONGING_TO_ONE_RUN: Final = ("sites", "volumes", "state", "exports", "pulumi", "tmp")
"""Below the lab's directory: what describes clouds that live in memory, and end with the lab. Stack states and their
exports are among them: resources they name are gone after a restart."""


class LabError(RuntimeError):
    """The lab cannot do what was asked; the message says what to do."""


@dataclass
class Running:
    """What the supervisor knows of one member."""

    module: str
    pid: int = 0
    started: float = 0.0
    state: str = WAITING
    exit_status: int | None = None
    """As the shell counts: the exit code, or minus the signal."""


@dataclass
class Plan:
    """What a supervisor is asked to run."""

    topology: Topology
    members: tuple[Member, ...]
    deadline_seconds: float = 60.0
    """What every member has to become ready."""
    grace_seconds: float = 12.0
    """What the members that end side by side have between SIGTERM and SIGKILL."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "topology": self.topology.to_json(),
            "members": [member.to_json() for member in self.members],
            "deadline_seconds": self.deadline_seconds,
            "grace_seconds": self.grace_seconds,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        return cls(
            topology=Topology.from_json(document["topology"]),
            members=tuple(Member.from_json(member) for member in document["members"]),
            deadline_seconds=document["deadline_seconds"],
            grace_seconds=document["grace_seconds"],
        )


@dataclass
class LabState:
    """The whole of lab.json."""

    pid: int
    started: float
    plan: Plan
    state: str = STARTING
    error: str = ""
    members: dict[str, Running] = field(default_factory=dict)
    segments_before: list[str] | None = None
    """Shared-memory segments that were there before the lab, and are none of its business; None: do not guess."""

    @property
    def alive(self) -> bool:
        """Whether this state's supervisor runs."""
        return alive(self.pid, self.started)

    @property
    def troubles(self) -> list[str]:
        """One sentence for each thing that is not as it should be."""
        if not self.alive:
            last = f" (its last start failed: {self.error})" if self.error else ""
            return [f"the lab's supervisor is not running{last}; start the lab: tandem lab up"]
        found = [f"the lab is {self.state}, not ready"] if self.state != READY else []
        for name, member in self.members.items():
            if member.state == ENDED or (member.pid and not alive(member.pid, member.started)):
                how = "" if member.exit_status is None else f" with status {member.exit_status}"
                found.append(
                    f"{name} ended{how}; read `tandem lab logs {name}`, then restart: tandem lab down, tandem lab up"
                )
        return found

    def engine_environment(self) -> dict[str, str]:
        """What the Pulumi CLI, or the embedded engine, needs to find the lab's providers."""
        port = self.plan.topology.provider_port
        return {"PULUMI_DEBUG_PROVIDERS": f"aws:{port},kubernetes:{port}"}

    def to_json(self) -> dict[str, Any]:
        """As the document other rooms read."""
        return {
            "supervisor": {"pid": self.pid, "started": self.started},
            "state": self.state,
            "error": self.error,
            "topology": self.plan.topology.to_json(),
            "engine_environment": self.engine_environment(),
            "processes": {
                name: member.pid for name, member in self.members.items() if member.state in (STARTING, READY)
            },
            "members": {name: asdict(member) for name, member in self.members.items()},
            "segments_before": self.segments_before,
            "plan": self.plan.to_json(),
        }

    @classmethod
    def read(cls, home: Path) -> LabState | None:
        """The state on disk; None where there is none or it is unreadable, as after a crash of the machine."""
        try:
            document = json.loads(state_file(home).read_text())
            return cls(
                pid=document["supervisor"]["pid"],
                started=document["supervisor"]["started"],
                plan=Plan.from_json(document["plan"]),
                state=document["state"],
                error=document["error"],
                members={name: Running(**member) for name, member in document["members"].items()},
                segments_before=document["segments_before"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, home: Path) -> None:
        """Replace lab.json."""
        write_atomically(state_file(home), json.dumps(self.to_json(), indent=1))


def state_file(home: Path) -> Path:
    """Where lab.json lies."""
    return lab_directory(home) / "lab.json"


def plan_file(home: Path) -> Path:
    """Where the plan of the next supervisor lies."""
    return lab_directory(home) / "plan.json"


def log_file(home: Path, name: str) -> Path:
    """Where a member's, or the supervisor's, output goes."""
    return lab_directory(home) / "logs" / f"{name}.log"


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


def forget_last_run(home: Path) -> None:
    """Remove what described the clouds of an earlier run."""
    for name in BELONGING_TO_ONE_RUN:
        shutil.rmtree(lab_directory(home) / name, ignore_errors=True)
    for beside in lab_directory(home).glob(".*.json.*"):
        beside.unlink(missing_ok=True)
