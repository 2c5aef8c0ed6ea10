"""`tandem drill`: look at a drill, arm it, run it, undo what a killed one left, show a report."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from drills import catalogue, dry_run, report, session
from drills.choice import check_site
from drills.drill import DrillError, Level, NotRun, Verdict
from drills.evidence import Evidence
from drills.guard import refusals
from drills.journal import Journal
from signals import SignalError, arming, holder
from signals.store import stores_of

app = typer.Typer(no_args_is_help=True, help="Break something on purpose and report whether the promise held.")

Env = Annotated[str, typer.Option(help="The environment whose stack outputs are read.")]
OutputsFile = Annotated[
    Path | None, typer.Option("--outputs", help="A signed snapshot to read instead of the engine's state.")
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Name = Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(catalogue.CATALOGUE))}.")]


def _console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


@app.command()
def run(
    name: Name,
    env: Env = "lab",
    fault: Annotated[str, typer.Option(help="For switchover: down, blackhole, slow, flapping or partial.")] = "",
    site: Annotated[str, typer.Option(help="The site that is disturbed.")] = "private",
    level: Annotated[Level | None, typer.Option(help="Whom it may touch; live in the lab, shadow elsewhere.")] = None,
    rate: Annotated[float, typer.Option(help="Requests per second of all users together.")] = 50.0,
    users: Annotated[int, typer.Option(help="Virtual users, each with its own DNS cache.")] = 26,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Client class; may be repeated. Default: the drill's own.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeats the fault's moment within the probe interval.")] = None,
    token: Annotated[str, typer.Option(help="What `tandem drill arm` printed.")] = "",
    lease_seconds: Annotated[
        float, typer.Option(help="The site puts everything back after so long without a renewal; 0: the default.")
    ] = 0.0,
    outputs: OutputsFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and undone; touch nothing.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Disturb a site under load, put everything back, and hold what users saw against the drill's claim.

    Exit 0: held. 1: deviated. 2: not run, nothing was proved. 3: aborted; the journal says what is left changed.
    """
    console = _console()
    chosen = {} if seed is None else {"seed": seed}
    try:
        request = session.Request(
            name=name,
            env=env,
            fault=fault,
            site=site,
            level=level,
            rate_per_second=rate,
            users=users,
            classes=tuple(classes or ()),
            token=token,
            lease_seconds=lease_seconds,
            outputs=outputs,
            **chosen,
        )
        if dry_run or request.chosen_level is Level.OBSERVE:
            raise typer.Exit(_look(request, console, observe=not dry_run))
        journal = _execute(request, console)
    except typer.Exit:
        raise
    except DrillError as error:
        console.print(f"[bold]not run[/bold]: {escape(str(error))}")
        raise typer.Exit(Verdict.NOT_RUN.exit_code) from error
    except (Exception, KeyboardInterrupt) as error:  # a defect, or a Ctrl-C before the journal, is no deviation
        console.print_exception()
        raise typer.Exit(Verdict.NOT_RUN.exit_code) from error
    page = report.write(journal.content, journal.path.with_suffix(".html"))
    if json_output:
        sys.stdout.write(json.dumps(journal.content, indent=1) + "\n")
    else:
        report.scoreboard(journal.content, Console())
    console.print(f"journal {journal.path}\nreport  {page}")
    raise typer.Exit(Verdict(journal.content["status"]).exit_code)


def _execute(request: session.Request, console: Console) -> Journal:
    """Run with a progress display on a terminal, and a line per phase elsewhere."""
    last = ""
    with Live(Table(), console=console, transient=True, refresh_per_second=4, auto_refresh=console.is_terminal) as live:

        def progress(phase: str, seen: Evidence) -> None:
            nonlocal last
            live.update(report.progress(phase, seen.samples, seen.started, seen.broken))
            if phase != last and not console.is_terminal:
                console.print(f"{phase} ...")
            last = phase

        return session.execute(request, progress, lambda text: console.print(text, markup=False))


def _look(request: session.Request, console: Console, *, observe: bool) -> int:
    """Show the drill and its conditions; at level observe ask its probes too."""
    planned = asyncio.run(session.plan(request, session.read_deployment(request.env, request.outputs)))
    if not observe:
        dry_run.plan(planned.drill, planned.conditions, console)
        return Verdict.NOT_RUN.exit_code if refusals(planned.conditions) else 0
    observations = asyncio.run(session.observe(planned))
    dry_run.observations([*planned.conditions, *observations], console)
    if refusals(planned.conditions):
        return Verdict.NOT_RUN.exit_code
    return Verdict.DEVIATED.exit_code if refusals(observations) else 0


@app.command()
def arm(
    name: Name,
    env: Env,
    fault: Annotated[str, typer.Option(help="For switchover.")] = "",
    site: Annotated[str, typer.Option(help="The site it may disturb.")] = "private",
    level: Annotated[Level, typer.Option(help="Whom the drill may touch.")] = Level.SHADOW,
    minutes: Annotated[int, typer.Option(help="How long the token is good for.")] = 30,
    outputs: OutputsFile = None,
) -> None:
    """Let one drill in for some minutes; prints its token."""
    console = _console()
    try:
        deployment = session.read_deployment(env, outputs)
        check_site(deployment, site)
        armed = arming.arm(
            stores_of(deployment.storage),
            env=env,
            level=level,
            drill=catalogue.title(name, fault),
            site=site,
            minutes=minutes,
            who=holder.person(),
        )
    except (NotRun, SignalError) as error:
        raise _fail(error, console) from error
    typer.echo(armed.token)
    console.print(
        f"{armed.drill} of {armed.site} at level {armed.level} in {armed.env}"
        f" is armed by {armed.who} until {armed.until}"
    )
    if level is Level.LIVE:
        console.print(f"a second person has to agree: tandem drill approve {armed.token} --env {env}")


@app.command()
def approve(
    token: Annotated[str, typer.Argument(help="A colleague's token.")], env: Env, outputs: OutputsFile = None
) -> None:
    """Agree, as a second person, to a drill that a colleague has armed."""
    console = _console()
    try:
        deployment = session.read_deployment(env, outputs)
        approved = arming.approve(stores_of(deployment.storage), token, who=holder.person())
    except (NotRun, SignalError) as error:
        raise _fail(error, console) from error
    console.print(
        f"{approved.drill} of {approved.site} at level {approved.level}, armed by {approved.who}:"
        f" approved by {approved.approved_by}"
    )


@app.command()
def undo(env: Env = "lab", outputs: OutputsFile = None) -> None:
    """See to it that nothing of a killed drill is left: its lease first, then its journal."""
    console = _console()
    try:
        closed = session.undo(env, outputs, lambda text: console.print(text, markup=False))
    except DrillError as error:
        raise _fail(error, console) from error
    console.print(
        f"{len(closed)} journals closed" if closed else "nothing to undo: every drill put back what it changed"
    )


@app.command("report")
def show(journals: Annotated[list[Path], typer.Argument(help="Journals of drills.")]) -> None:
    """Print each journal's scoreboard and write its page again."""
    for journal in journals:
        content = json.loads(journal.read_text(encoding="utf-8"))
        report.scoreboard(content, Console())
        page = report.write(content, journal.with_suffix(".html"))
        _console().print(f"journal {journal}\nreport  {page}\n")


def _fail(error: Exception, console: Console) -> typer.Exit:
    console.print(f"[bold red]error[/bold red] {escape(str(error))}")
    return typer.Exit(1)
