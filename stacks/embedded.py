"""Runs stacks of the lab through the embedded engine, in processes: this room imports nothing of the lab."""

from __future__ import annotations

import os
from typing import Any

from stacks.contract import StackName
from stacks.forks import Forks
from stacks.process import Processes
from stacks.runs import QUERY_SECONDS, Progress, StackFailed, digest_of, exported, follow, passed_on, python_path
from stacks.workspace import Workspace


class Embedded:
    """The engine of the lab; a process per run, so that this room needs nothing of the lab's."""

    name = "embedded"

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._processes = Processes(Forks(workspace.root).start)

    def _command(self, verb: str, stack: StackName, *options: str) -> list[str]:
        where = ["--stack", str(stack), "--state-dir", str(self._workspace.states), "--root", str(self._workspace.root)]
        return [verb, *where, *options]

    def _environment(self, *, reach: bool) -> dict[str, str]:
        extra = self._workspace.engine_environment() if reach else {}
        return {
            **os.environ,
            **extra,
            "TANDEM_HOME": str(self._workspace.home),
            "PYTHONPATH": python_path(self._workspace.root),
        }

    def up(self, stack: StackName, progress: Progress) -> dict[str, int]:
        """See Engine."""
        return self._run("up", stack, progress)

    def destroy(self, stack: StackName, progress: Progress) -> dict[str, int]:
        """See Engine."""
        return self._run("destroy", stack, progress)

    def _run(self, verb: str, stack: StackName, progress: Progress) -> dict[str, int]:
        command = self._command(verb, stack, "--config-file", str(self._workspace.merge(stack)), "--json")
        return follow(self._processes, stack, command, self._environment(reach=True), self._workspace.root, progress)

    def preview(self, stack: StackName, progress: Progress) -> dict[str, Any]:
        """See Engine."""
        command = self._command("preview", stack, "--config-file", str(self._workspace.merge(stack)), "--json")
        return digest_of(self._processes, stack, command, self._environment(reach=True), self._workspace.root, progress)

    def outputs(self, stack: StackName) -> dict[str, Any] | None:
        """See Engine."""
        state = self._workspace.states / f"{stack}.json"
        if not state.exists():
            return None
        done = self._processes.run(
            self._command("outputs", stack), self._environment(reach=False), self._workspace.root, QUERY_SECONDS
        )
        if done.code != 0 and "is not up" in done.errors:
            return None
        return exported(stack, done.code, done.output, done.errors)

    def state(self, stack: StackName) -> str | None:
        """See Engine."""
        try:
            return (self._workspace.states / f"{stack}.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def restore(self, stack: StackName, state: str) -> None:
        """See Engine."""
        with passed_on(self._workspace, stack, state) as path:
            command = self._command("import", stack, "--file", str(path))
            done = self._processes.run(command, self._environment(reach=False), self._workspace.root, QUERY_SECONDS)
        if done.code != 0:
            raise StackFailed(stack, f"its state cannot be recorded: {done.errors.strip()}")

    def interrupt(self) -> None:
        """See Engine."""
        self._processes.interrupt()
