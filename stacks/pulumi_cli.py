"""Runs stacks through the Pulumi CLI, with the interpreter that runs this."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from stacks.contract import PROJECT, StackName
from stacks.plans import Plans, explained
from stacks.process import Processes
from stacks.runs import (
    QUERY_SECONDS,
    EngineError,
    Progress,
    StackFailed,
    digest_of,
    exported,
    follow,
    passed_on,
    python_path,
)
from stacks.workspace import LAB, Workspace, replace_file

PACK: Final = Path("infra", "policies", "pack")
"""The rules, as the CLI takes them, beside the programs. Previews are held to them, and `up` by what they planned:
taking a protection away breaks a rule, and is done by hand, without a plan (docs/ways-back.md)."""


class PulumiCli:
    """The real engine. In the lab its backend is a folder and its providers are the lab's."""

    name = "cli"

    def __init__(
        self, workspace: Workspace, *, plans: Path | None = None, refresh: bool = False, plan: Path | None = None
    ) -> None:
        """Previews are saved below `plans`; with `refresh` they first ask the cloud how things are.

        What `up` does is held to the plans below `plan`.
        """
        self._workspace = workspace
        self._plans = Plans(plans) if plans else None
        self._refresh = refresh
        self._plan = Plans(plan) if plan else None
        self._processes = Processes()
        self._backend = workspace.home / workspace.env / "pulumi"

    def _environment(self, *, reach: bool) -> dict[str, str]:
        environment = {
            **os.environ,
            # The interpreter that runs this runs the programs: with this pip toolchain and no virtualenv, PATH decides.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PULUMI_PYTHON_CMD": sys.executable,
            "PYTHONPATH": python_path(self._workspace.root),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        if self._workspace.env == LAB:
            self._backend.mkdir(parents=True, exist_ok=True)
            environment |= {
                "PULUMI_BACKEND_URL": f"file://{self._backend}",
                "PULUMI_HOME": str(self._workspace.home / LAB / "pulumi-home"),
                # The lab's providers are attached; nothing is to be downloaded.
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            }
            if "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment:
                environment.setdefault("PULUMI_CONFIG_PASSPHRASE", "")
            environment |= self._workspace.engine_environment() if reach else {}
        return environment

    def _rules(self) -> list[str]:
        """What a run is asked with so that a broken rule stops it. Raises EngineError."""
        pack = self._workspace.root / PACK
        if not pack.is_dir():  # programs without rules: no tree of Tandem's
            return []
        if find_spec("pulumi_policy") is None:
            raise EngineError(
                "the package pulumi-policy is not installed, and without it the CLI cannot hold a stack to the rules;"
                " install it as the Makefile does: pip install --no-deps --constraint requirements.lock pulumi-policy"
            )
        return ["--policy-pack", str(pack)]

    def _prepare(self, stack: StackName, environment: dict[str, str]) -> Path:
        """The merged settings, with the stack in the backend and no secret in plain text."""
        path = self._workspace.merge(stack, self.name)
        # The CLI writes a new stack's encryption salt beside the project file: not into the tracked settings.
        project = path.parent / "Pulumi.yaml"
        if not project.exists():
            replace_file(project, f"name: {PROJECT}\nruntime: python\n")
        recorded = self._backend / ".pulumi" / "stacks" / PROJECT / f"{stack}.json"
        if not recorded.exists():
            name = stack.qualified if self._workspace.env == LAB else str(stack)
            command = ["pulumi", "stack", "init", "--no-select", "--non-interactive", name]
            done = self._processes.run(command, environment, path.parent, QUERY_SECONDS)
            if done.code != 0 and "already exists" not in done.errors:
                raise StackFailed(stack, f"it is not in the backend and cannot be made there: {done.errors.strip()}")
        plain = self._workspace.plain_secrets(path)
        if plain and self._workspace.env != LAB:
            keys = ", ".join(sorted(plain))
            raise StackFailed(
                stack, f"{keys}: in plain text; encrypt it: pulumi config set --secret KEY --stack {stack}"
            )
        if plain:
            pairs = [part for key, value in plain.items() for part in ("--secret", f"{key}={value}")]
            where = ["--stack", str(stack), "--config-file", str(path), "--non-interactive"]
            command = ["pulumi", "config", "set-all", *pairs, *where]
            done = self._processes.run(command, environment, self._workspace.root, QUERY_SECONDS)
            if done.code != 0:
                raise StackFailed(stack, f"its secret settings cannot be encrypted: {done.errors.strip()}")
        return path

    def up(self, stack: StackName, progress: Progress) -> dict[str, int]:
        """See Engine. Where it was planned, nothing else is done than what its plan says."""
        if self._plan is None:
            return self._run("up", stack, progress)
        path = self._plan.planned(stack, first=self._workspace.between_steps(stack))
        try:
            return self._run("up", stack, progress, path)
        except StackFailed as failure:
            raise explained(failure) from failure

    def destroy(self, stack: StackName, progress: Progress) -> dict[str, int]:
        """See Engine."""
        return self._run("destroy", stack, progress)

    def _run(self, verb: str, stack: StackName, progress: Progress, plan: Path | None = None) -> dict[str, int]:
        environment = self._environment(reach=True)
        options = ["--yes", "--skip-preview", "--non-interactive", "--json"]
        settings = self._prepare(stack, environment)
        if self._plan is not None and plan is not None:
            self._workspace.encrypt_alike(settings, self._plan.encryption(plan))
            options += ["--plan", str(plan)]
        command = ["pulumi", verb, *options, "--stack", str(stack), "--config-file", str(settings)]
        return follow(self._processes, stack, command, environment, self._workspace.root, progress)

    def preview(self, stack: StackName, progress: Progress) -> dict[str, Any]:
        """See Engine."""
        # The option that logs events is one of those the CLI has for tools and shows to nobody else.
        environment = self._environment(reach=True) | {"PULUMI_DEBUG_COMMANDS": "true"}
        asked = [*self._rules(), *(["--refresh"] if self._refresh else [])]
        settings = self._prepare(stack, environment)
        path = None
        if self._plans is not None:
            path = self._plans.begin(stack, first=self._workspace.between_steps(stack))
            asked += ["--save-plan", str(path)]
        where = ["--stack", str(stack), "--config-file", str(settings)]
        with TemporaryDirectory() as folder:  # what is logged may be read by its owner only, and is gone afterwards
            events = Path(folder) / "events"
            command = ["pulumi", "preview", *asked, "--json", "--event-log", str(events), "--non-interactive", *where]
            digest = digest_of(self._processes, stack, command, environment, self._workspace.root, progress, events)
        if self._plans is not None and path is not None:
            # The CLI may have written the salt just now.
            self._plans.keep(path, self._workspace.encryption(settings))
        return digest

    def outputs(self, stack: StackName) -> dict[str, Any] | None:
        """See Engine."""
        command = ["pulumi", "stack", "output", "--json", "--non-interactive", "--stack", str(stack)]
        done = self._processes.run(command, self._environment(reach=False), self._workspace.root, QUERY_SECONDS)
        if done.code != 0 and "no stack named" in done.errors:
            return None
        return exported(stack, done.code, done.output, done.errors) or None

    def state(self, stack: StackName) -> str | None:
        """See Engine."""
        command = ["pulumi", "stack", "export", "--non-interactive", "--stack", str(stack)]
        done = self._processes.run(command, self._environment(reach=False), self._workspace.root, QUERY_SECONDS)
        if done.code != 0 and "no stack named" in done.errors:
            return None
        if done.code != 0:
            raise StackFailed(stack, f"its state cannot be read: {done.errors.strip()}")
        return done.output

    def restore(self, stack: StackName, state: str) -> None:
        """See Engine."""
        environment = self._environment(reach=False)
        # Beside the merged settings: whatever the CLI writes into them, the tracked ones are left alone.
        folder = self._prepare(stack, environment).parent
        with passed_on(self._workspace, stack, state) as path:
            command = ["pulumi", "stack", "import", "--non-interactive", "--stack", str(stack), "--file", str(path)]
            done = self._processes.run(command, environment, folder, QUERY_SECONDS)
        if done.code != 0:
            raise StackFailed(stack, f"its state cannot be recorded: {done.errors.strip()}")

    def interrupt(self) -> None:
        """See Engine."""
        self._processes.interrupt()
