"""What running a stack means, whichever engine does it: the protocol, its failures, and the events both engines print.

EngineError
└── StackFailed      one stack; names it and says what its engine said
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from stacks.contract import StackName
from stacks.process import Processes
from stacks.workspace import ROOT, Workspace, replace_file

RUN_SECONDS: Final = 1800.0
QUERY_SECONDS: Final = 60.0


class EngineError(Exception):
    """No engine can do what is asked."""


class StackFailed(EngineError):  # noqa: N818 - it is the stack that failed, and the name says so
    """One stack could not be brought where it should be."""

    def __init__(self, stack: StackName, reason: str) -> None:
        super().__init__(f"{stack}: {reason}")
        self.stack = stack
        self.reason = reason


class Progress(Protocol):
    """Where a run's news go. Called from several threads."""

    def change(self, stack: StackName, op: str, kind: str, name: str) -> None:
        """One resource was created, updated, replaced or deleted."""

    def message(self, stack: StackName, severity: str, text: str) -> None:
        """The engine or the program said something."""

    def done(self, stack: StackName, counts: dict[str, int], seconds: float) -> None:
        """The stack is where it should be."""


class Engine(Protocol):
    """One way to run one stack."""

    name: str

    def up(self, stack: StackName, progress: Progress) -> dict[str, int]:
        """Make the stack what its program declares; the steps taken, by operation. Raises StackFailed."""

    def preview(self, stack: StackName, progress: Progress) -> dict[str, Any]:
        """What `up` would do, in PreviewDigest shape. Raises StackFailed."""

    def destroy(self, stack: StackName, progress: Progress) -> dict[str, int]:
        """Delete everything the stack holds. Raises StackFailed."""

    def outputs(self, stack: StackName) -> dict[str, Any] | None:
        """The stack's outputs, secrets masked; None when it is not up."""

    def state(self, stack: StackName) -> str | None:
        """What is recorded of the stack, as `pulumi stack export` prints it; None when nothing is. Raises StackFailed.

        Secrets stay as they are recorded.
        """

    def restore(self, stack: StackName, state: str) -> None:
        """Record this state in place of what is recorded of the stack. Raises StackFailed."""

    def interrupt(self) -> None:
        """End what is running in an orderly way."""


@contextmanager
def passed_on(workspace: Workspace, stack: StackName, state: str) -> Iterator[Path]:
    """A state in a file for an engine to read; only its owner may, and it is gone afterwards."""
    folder = workspace.home / workspace.env
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{stack}.import.{os.getpid()}"
    replace_file(path, state)
    try:
        yield path
    finally:
        path.unlink()


def python_path(root: Path) -> str:
    """A PYTHONPATH on which programs find the rooms of this house."""
    return os.pathsep.join(dict.fromkeys(filter(None, [str(root), str(ROOT), os.environ.get("PYTHONPATH", "")])))


def violation(event: Mapping[str, Any]) -> str | None:
    """What an event of the CLI says of a rule that is broken; None when it says nothing of the kind."""
    said = event.get("policyEvent") or {}
    if said.get("enforcementLevel") != "mandatory":
        return None
    where = said.get("resourceUrn", "").rpartition("::")[2]
    return f"rule {said['policyName']} is broken{f' by {where}' if where else ''}: {' '.join(said['message'].split())}"


def violations(events: Path) -> list[str]:
    """The rules that a run broke, by the log of its events."""
    if not events.exists():
        return []
    return [broken for line in events.read_text("utf-8").splitlines() if (broken := violation(json.loads(line)))]


def follow(
    processes: Processes,
    stack: StackName,
    command: Sequence[str],
    environment: dict[str, str],
    folder: Path,
    progress: Progress,
) -> dict[str, int]:
    """Run an engine that prints events; tell them as they come."""
    counts: dict[str, int] = {}
    errors: list[str] = []
    began = time.monotonic()

    def read(line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            progress.message(stack, "info", line)
            return
        if metadata := event.get("resOutputsEvent", {}).get("metadata"):
            progress.change(stack, metadata["op"], metadata["type"], metadata["urn"].rpartition("::")[2])
        elif said := event.get("diagnosticEvent"):
            text = said["message"].strip()
            if said["severity"] == "error":
                errors.append(text)
            elif said["severity"] != "debug" and text and not said.get("ephemeral"):
                progress.message(stack, said["severity"].removesuffix("#err"), text)
        elif summary := event.get("summaryEvent"):
            counts.update(summary["resourceChanges"])

    done = processes.run(command, environment, folder, RUN_SECONDS, read)
    if done.code != 0:
        raise StackFailed(stack, "\n".join(errors) or done.errors.strip() or f"{command[0]} exited with {done.code}")
    progress.done(stack, counts, time.monotonic() - began)
    return counts


def digest_of(
    processes: Processes,
    stack: StackName,
    command: Sequence[str],
    environment: dict[str, str],
    folder: Path,
    progress: Progress,
    events: Path | None = None,
) -> dict[str, Any]:
    """Run a preview that prints a PreviewDigest; tell its steps and return it.

    A digest does not say which rules are broken; the log of events does, where the engine writes one.
    """
    done = processes.run(command, environment, folder, RUN_SECONDS)
    try:
        digest = dict(json.loads(done.output))
    except ValueError:
        digest = {}
    said = [each["message"].strip() for each in digest.get("diagnostics") or () if each["severity"] == "error"]
    said += violations(events) if events else []
    if done.code != 0 or not digest:
        raise StackFailed(stack, "\n".join(said) or done.errors.strip() or f"preview exited with {done.code}")
    for step in digest.get("steps") or ():
        kind = step["urn"].split("::")[2].rpartition("$")[2]
        progress.change(stack, step["op"], kind, step["urn"].rpartition("::")[2])
    progress.done(stack, dict(digest.get("changeSummary") or {}), (digest.get("duration") or 0) / 1e9)
    return digest


def exported(stack: StackName, code: int, output: str, errors: str) -> dict[str, Any]:
    """The outputs a query printed; StackFailed when it did not."""
    try:
        if code == 0:
            return dict(json.loads(output))
    except ValueError:
        errors = f"what it printed is no JSON: {output[:200]!r}"
    raise StackFailed(stack, f"its outputs cannot be read: {errors.strip()}")
