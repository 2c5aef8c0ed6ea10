"""Runs an environment's stacks through the Pulumi CLI or, in the lab, the embedded engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Final

from stacks.contract import StackName
from stacks.embedded import Embedded
from stacks.pulumi_cli import PulumiCli
from stacks.rollout import Gates, Rollout
from stacks.runs import Engine, EngineError, Progress, StackFailed
from stacks.workspace import LAB, Workspace

__all__ = [
    "Embedded",
    "Engine",
    "EngineError",
    "Progress",
    "PulumiCli",
    "StackFailed",
    "choose",
    "destroy",
    "in_layers",
    "outputs",
    "up",
]

PARALLEL: Final = 2
"""Stacks of one layer that run side by side."""

Layer = Sequence[StackName]
OnLayer = Callable[[Layer], None]


def _nothing(_: Layer) -> None:
    """Do nothing about a layer."""


def choose(
    env: str,
    engine: str | None = None,
    workspace: Workspace | None = None,
    *,
    plans: Path | None = None,
    refresh: bool = False,
    plan: Path | None = None,
) -> Engine:
    """The engine for an environment: the CLI where there is one, else, in the lab only, the embedded one.

    Plans and a refresh are the CLI's.
    """
    workspace = workspace or Workspace.of(env)
    installed = shutil.which("pulumi") is not None
    if engine not in {None, "cli", "embedded"}:
        raise EngineError(f"engine {engine!r} is neither cli nor embedded; name one of them, or none")
    if engine == "embedded" and env != LAB:
        raise EngineError(
            f"environment {env!r} needs the Pulumi CLI;"
            f" the embedded engine is for {LAB!r} only: leave out --engine embedded"
        )
    if engine == "embedded" or (engine is None and env == LAB and not installed):
        if plans is not None or plan is not None or refresh:
            raise EngineError(
                "--plans, --plan and --refresh need the Pulumi CLI, the embedded engine has none of them: leave them"
                " out"
            )
        return Embedded(workspace)
    if not installed:
        raise EngineError(
            f"environment {env!r} needs the Pulumi CLI and there is no pulumi on PATH; install it: https://www.pulumi.com/docs/install/"
        )
    return PulumiCli(workspace, plans=plans, refresh=refresh, plan=plan)


def in_layers(
    engine: Engine,
    layers: Iterable[Sequence[StackName]],
    work: Callable[[StackName], Any],
    *,
    keep_going: bool = False,
    before: OnLayer = _nothing,
    after: OnLayer = _nothing,
) -> dict[str, Any]:
    """Do the work layer by layer, up to two stacks at once; after a layer with a failure nothing further begins.

    Raises the first failure, with all others in its notes. An interruption ends the engine's runs in order first.
    """
    results: dict[str, Any] = {}
    failures: list[StackFailed] = []
    for layer in layers:
        before(layer)
        with ThreadPoolExecutor(PARALLEL) as pool:
            running = {stack: pool.submit(work, stack) for stack in layer}
            try:
                for stack, future in running.items():
                    try:
                        results[str(stack)] = future.result()
                    except StackFailed as failure:
                        failures.append(failure)
            except KeyboardInterrupt:
                engine.interrupt()
                raise
        if failures and not keep_going:
            break
        after(layer)
    if failures:
        for other in failures[1:]:
            failures[0].add_note(str(other))
        raise failures[0]
    return results


def up(
    workspace: Workspace,
    engine: Engine,
    progress: Progress,
    layers: Sequence[Layer] | None = None,
    *,
    gates: Gates | None = None,
    after: OnLayer = _nothing,
) -> dict[str, dict[str, int]]:
    """Bring the environment's stacks up in order; the steps taken, by stack and operation."""
    rollout = Rollout(workspace, engine, progress, gates)
    return in_layers(engine, workspace.order() if layers is None else layers, rollout.up, after=after)


def destroy(
    workspace: Workspace,
    engine: Engine,
    progress: Progress,
    layers: Sequence[Layer] | None = None,
    *,
    before: OnLayer = _nothing,
) -> dict[str, dict[str, int]]:
    """Take the environment's stacks down, last layer first."""
    chosen = workspace.order() if layers is None else layers
    return in_layers(engine, list(reversed(chosen)), lambda stack: engine.destroy(stack, progress), before=before)


def outputs(workspace: Workspace, engine: Engine, layers: Sequence[Layer] | None = None) -> dict[str, dict[str, Any]]:
    """Outputs of every stack that is up, by stack name."""
    found = in_layers(
        engine, [list(chain.from_iterable(workspace.order() if layers is None else layers))], engine.outputs
    )
    return {name: exported for name, exported in found.items() if exported is not None}
