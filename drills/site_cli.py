"""`tandem site drain | restore | status`: a site emptied for maintenance, and filled again."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from drills import site as sites
from drills import site_status
from drills.drill import DrillError, NotRun
from drills.session import home, read_deployment
from drills.site import Course, RefusedError, UnfinishedError
from signals import SignalError, lock, marks, snapshot
from signals.holder import owner
from signals.store import stores_of
from stacks.contract import Deployment

app = typer.Typer(no_args_is_help=True, help="Empty a site for maintenance, and fill it again.")
console = Console(stderr=True, highlight=False, soft_wrap=True)

FAILED: Final = 1
REFUSED: Final = 2

Site = Annotated[str, typer.Argument(help="The site.")]
Env = Annotated[str, typer.Option(help="Environment: lab, prod, or another one with settings.")]
Outputs = Annotated[
    Path | None, typer.Option("--outputs", help="A signed snapshot of outputs; the state backend is not asked then.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Shadow = Annotated[bool, typer.Option("--shadow", help="Only the users of the shadow name.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@app.command()
def drain(
    site: Site,
    env: Env = "lab",
    outputs: Outputs = None,
    yes: Yes = False,
    why: Annotated[str, typer.Option(help="For whoever finds the mark.")] = "",
    shadow: Shadow = False,
    force: Annotated[bool, typer.Option("--force", help="Without headroom; never the last site that is well.")] = False,
    as_json: Json = False,
) -> None:
    """Exit 0: empty. 1: not emptied in time, or stopped; it says where the mark stands. 2: refused, nothing changed."""
    deployment = _deployment(env, outputs)
    _confirm(f"Lead {'shadow ' if shadow else ''}users of {env} away from {site}?", yes=yes)

    async def work() -> Course:
        return await sites.drain(deployment, site, who=owner(), why=why, shadow=shadow, force=force, say=_say)

    course = _run(work, deployment, site, shadow=shadow)
    console.print(f"[bold green]{site} is empty[/bold green]; fill it again: tandem site restore {site} --env {env}")
    if as_json:
        typer.echo(json.dumps(course.document(), indent=2))


@app.command()
def restore(
    site: Site,
    env: Env = "lab",
    outputs: Outputs = None,
    yes: Yes = False,
    shadow: Shadow = False,
    patience: Annotated[float, typer.Option(help="Seconds the site may take to be well.")] = sites.PATIENCE_SECONDS,
    as_json: Json = False,
) -> None:
    """Exit 0: users are led there again. 1: not well in time, or a mark may be left somewhere; it says which."""
    deployment = _deployment(env, outputs)
    declared = site in deployment.traffic.sites
    users = f"{'shadow ' if shadow else ''}users of {env}"
    _confirm(f"Lead {users} to {site} again?" if declared else f"Remove the marks left of {site}?", yes=yes)

    async def work() -> Course:
        return await sites.restore(deployment, site, shadow=shadow, patience_seconds=patience, say=_say)

    course = _run(work, deployment, site, shadow=shadow)
    said = f"{site} is restored" if declared else f"no mark of {site} is left"
    console.print(f"[bold green]{said}[/bold green]")
    if as_json:
        typer.echo(json.dumps(course.document(), indent=2))


@app.command()
def status(
    site: Annotated[str | None, typer.Argument(help="The site; all without it.")] = None,
    env: Env = "lab",
    outputs: Outputs = None,
    as_json: Json = False,
) -> None:
    """Marks, health, DNS and traffic of a site, and who works on the environment."""
    deployment = _deployment(env, outputs)
    named = sorted(deployment.traffic.sites) if site is None else [site]
    if unknown := set(named) - set(deployment.traffic.sites):
        console.print(f"[bold red]error[/bold red] site {unknown} is not declared")
        raise typer.Exit(FAILED)

    async def work() -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(site_status.standing(deployment, each) for each in named)))

    found = asyncio.run(work())
    holders = _holders(deployment)
    if as_json:
        typer.echo(json.dumps({"sites": found, "lock": holders}, indent=2))
        return
    for each in found:
        console.print(f"[bold]{each['site']}[/bold] {'drained' if each['drained'] else 'takes users'}")
        for one in each["marks"]:
            if one["mark"] or one["error"]:
                kind = "shadow mark" if one["shadow"] else "mark" if one["counts"] else "copy of the mark"
                mark = one["mark"]
                text = one["error"] or f"by {mark['who']} at {mark['when']} {mark['why']}".rstrip()
                console.print(f"  {kind} in {one['store']}: {text}")
        for probe in each["probes"]:
            console.print(f"  {'yes' if probe['held'] else 'NO '} {probe['probe']}: {probe['detail']}")
        console.print(f"  traffic: {', '.join(f'{key} {value}' for key, value in each['traffic'].items())}")
    for holder in holders:
        console.print(f"the environment is locked by {holder}")


def _run(work: Callable[[], Coroutine[Any, Any, Course]], deployment: Deployment, site: str, *, shadow: bool) -> Course:
    """Do the work under signals; an interruption says what state things are in."""
    for holder in _holders(deployment):
        # No reason to wait: a site has to be drained most urgently when an `up` is stuck half-way.
        _say(f"note: the environment is locked by {holder}")

    async def main() -> Course:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work())
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(main())
    except RefusedError as error:
        console.print(f"[bold red]refused[/bold red] {error}")
        raise typer.Exit(REFUSED) from error
    except (UnfinishedError, DrillError, SignalError) as error:
        console.print(f"[bold red]not done[/bold red] {error}")
        raise typer.Exit(FAILED) from error
    except (asyncio.CancelledError, KeyboardInterrupt) as error:
        console.print(f"stopped; {_left(deployment, site, shadow=shadow)}")
        raise typer.Exit(FAILED) from error


def _left(deployment: Deployment, site: str, *, shadow: bool) -> str:
    """What state things are in: asked of the stores, not remembered."""
    try:
        seen = marks.read(deployment, site, shadow=shadow)
    except SignalError as error:
        return str(error)
    if marks.counting(seen):
        return (
            f"{site} is drained, users are being led away ({site_status.said(seen)});"
            f" take it back: tandem site restore {site} --env {deployment.env}"
        )
    if any(each.mark or each.error for each in seen):
        return f"whether {site} is drained is not certain ({site_status.said(seen)})"
    return f"{site} is not drained: no store holds a mark"


def _holders(deployment: Deployment) -> list[str]:
    """Who works on the environment, on this machine or as the stores tell."""
    here = lock.here(home() / deployment.env)
    seen = [each.holder for each in lock.status(stores_of(deployment.storage)) if each.holder]
    return sorted({str(each) for each in [*seen, *([here] if here and not seen else [])]})


def _deployment(env: str, outputs: Path | None) -> Deployment:
    try:
        return read_deployment(env, outputs)
    except NotRun as error:
        console.print(f"[bold red]error[/bold red] {error}")
        saved = snapshot.local(home(), env)
        if outputs is None and saved.exists():
            console.print(f"when the state backend is away, name a signed snapshot: --outputs {saved}")
        raise typer.Exit(FAILED) from error


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        console.print(f"[bold red]refused[/bold red] {question} Nobody is there to answer; take --yes")
        raise typer.Exit(REFUSED)
    if not typer.confirm(question):
        raise typer.Exit(REFUSED)


def _say(text: str) -> None:
    console.print(text, markup=False)
