"""`tandem lock status | break`: who works on an environment, and the way out when that one is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from signals import SignalError, lock, snapshot
from signals.store import SignalStore
from stacks import engine as engines
from stacks import exclusive
from stacks.cli import Env, Json
from stacks.workspace import Workspace, WorkspaceError

app = typer.Typer(no_args_is_help=True, help="The one lock of an environment, shared by `up` and drills.")
console = Console(stderr=True, highlight=False, soft_wrap=True)

Outputs = Annotated[
    Path | None,
    typer.Option("--outputs", help="A signed snapshot; without it the engine is asked where the stores are."),
]


@app.command()
def status(env: Env = "lab", outputs: Outputs = None, as_json: Json = False) -> None:
    """Exit 0: free. 1: held, or not known."""
    workspace, stores = _stores(env, outputs)
    here, seen = lock.here(workspace.home / env), lock.status(stores)
    if as_json:
        said = {
            each.site: {"holder": each.holder and each.holder.document(), "error": each.error or None} for each in seen
        }
        typer.echo(json.dumps({"machine": here and here.document(), "stores": said}, indent=2))
    else:
        console.print(f"{'this machine':<14}{here or 'free'}")
        for each in seen:
            last = f"free; last {each.past.owner} for {each.past.purpose!r}" if each.past else "free"
            console.print(f"{each.site:<14}{each.error or each.holder or last}")
        if not stores:
            console.print("no store is up: there is nothing to lock but this machine")
    if here or any(each.holder or each.error for each in seen):
        raise typer.Exit(1)


@app.command("break")
def break_open(
    env: Env = "lab",
    outputs: Outputs = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Free the environment from a holder that is gone; one that is still at work notices and ends."""
    workspace, stores = _stores(env, outputs)
    if here := lock.here(workspace.home / env):
        console.print(
            f"on this machine it is held by {here}, which is at work: end that process, nothing else frees it"
        )
        raise typer.Exit(1)
    held = [each for each in lock.status(stores) if each.holder]
    for each in held:
        console.print(f"{each.site:<14}{each.holder}")
    if held and not yes and not typer.confirm(f"Is that holder gone, and is {env} to be freed?"):
        raise typer.Exit(1)
    broken = lock.break_open(stores)
    for standing in broken:
        console.print(f"{standing.site:<14}{standing.error or ('freed' if standing.past else 'was free')}")
    if any(standing.error for standing in broken):
        raise typer.Exit(1)


def _stores(env: str, outputs: Path | None) -> tuple[Workspace, list[SignalStore]]:
    workspace = Workspace.of(env)
    try:
        if outputs is not None:
            return workspace, exclusive.stores(snapshot.read(outputs, env, workspace.home).outputs)
        return workspace, exclusive.standing(workspace, engines.choose(env, None, workspace))
    except (SignalError, engines.EngineError, WorkspaceError, ValueError) as error:
        console.print(f"[bold red]error[/bold red] {error}")
        raise typer.Exit(1) from error
