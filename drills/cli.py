"""`tandem drill`: run a drill, undo what a killed one left, show a report."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from drills import report, switchover
from drills.actions import ACTIONS
from drills.drill import DrillError, NotRun, Verdict
from drills.journal import OPEN, Journal, alone, unfinished, write_json
from stacks.contract import ContractError, Deployment

app = typer.Typer(no_args_is_help=True, help="Break something on purpose and report whether the promise held.")

LAB = "lab"
OUTPUTS_DEADLINE_SECONDS = 120

Env = Annotated[str, typer.Option(help="The environment whose stack outputs are read.")]
OutputsFile = Annotated[Path | None, typer.Option("--outputs", help="Read stack outputs from this file instead.")]


def home() -> Path:
    """Where Tandem keeps what it writes."""
    return Path(os.environ.get("TANDEM_HOME", ".tandem")).resolve()


def read_deployment(env: str, outputs: Path | None) -> Deployment:
    """Outputs of every stack, from the engine or a saved file; NotRun when they are not to be had."""
    try:
        text = _ask_engine(env) if outputs is None else outputs.read_text(encoding="utf-8")
        return Deployment.read(env, json.loads(text))
    except (OSError, ValueError, ContractError, subprocess.TimeoutExpired) as error:
        raise NotRun(f"no stack outputs of {env}: {error}") from error


def _ask_engine(env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tandem", "outputs", "--env", env, "--json"],
        capture_output=True,
        text=True,
        timeout=OUTPUTS_DEADLINE_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise NotRun(f"no stack outputs of {env}: {done.stderr.strip()[-500:]}")
    return done.stdout


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="The drill: switchover.")],
    env: Env = "lab",
    fault: Annotated[str, typer.Option(help="What is broken: down.")] = "down",
    site: Annotated[str, typer.Option(help="The site that is lost.")] = "private",
    rate: Annotated[float, typer.Option(help="Requests per second of all users together.")] = 50.0,
    users: Annotated[int, typer.Option(help="Virtual users, each with its own DNS cache.")] = 25,
    seed: Annotated[int | None, typer.Option(help="Repeats the fault's moment within the probe interval.")] = None,
    outputs: OutputsFile = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the journal.")] = False,
) -> None:
    """Exit 0: held. 1: deviated. 2: not run, nothing was proved. 3: aborted; the journal says what is left changed."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    folder = home() / env / "drills"
    chosen: dict[str, Any] = {"fault": fault, "site": site, "rate_per_second": rate, "users": users}
    if seed is not None:
        chosen["seed"] = seed
    try:
        if name != switchover.NAME:
            raise NotRun(f"drill {name!r} is not known; there is: {switchover.NAME}")
        if env != LAB:
            raise NotRun(
                f"env {env!r} is not the lab; outside it a drill needs an approval, a lock and an undo that stands in"
                " the site itself, which this version does not have: rehearse with --env lab"
            )
        with alone(folder):
            deployment = read_deployment(env, outputs)
            zone = deployment.traffic.zone_id
            if left := unfinished(folder, zone):
                raise NotRun(
                    f"{left[0]} has changed something that was not put back; undo it: tandem drill undo --env {env}"
                )
            settings = switchover.SwitchoverSettings(**chosen)
            given = switchover.parts(deployment, settings)
            journal = Journal(folder, f"{name}-{fault}", env, vars(settings), zone)
            result = _run(deployment, settings, given, journal, console)
    except NotRun as error:
        console.print(f"[bold]not run[/bold]: {error}")
        raise typer.Exit(Verdict.NOT_RUN.exit_code) from error
    journal.end(result.verdict, result.reason, result.findings, result.measures)
    page = report.write(journal.content, journal.path.with_suffix(".html"))
    if json_output:
        sys.stdout.write(json.dumps(journal.content, indent=1) + "\n")
    else:
        report.scoreboard(journal.content, Console())
    console.print(f"journal {journal.path}\nreport  {page}")
    raise typer.Exit(result.verdict.exit_code)


def _run(
    deployment: Deployment,
    settings: switchover.SwitchoverSettings,
    given: switchover.Parts,
    journal: Journal,
    console: Console,
) -> switchover.Result:
    """Run to a verdict under signals and a progress display."""

    async def main(live: Live) -> switchover.Result:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _cancel, asyncio.current_task())
        last = ""

        def progress(phase: str, seen: switchover.Watch) -> None:
            nonlocal last
            live.update(report.progress(phase, seen.samples, seen.started, seen.broken))
            if phase != last and not console.is_terminal:
                console.print(f"{phase} ...", highlight=False)
            last = phase

        return await switchover.run(deployment, settings, given, journal, progress)

    try:
        with Live(
            Table(), console=console, transient=True, refresh_per_second=4, auto_refresh=console.is_terminal
        ) as live:
            return asyncio.run(main(live))
    except NotRun as error:
        return switchover.Result(Verdict.NOT_RUN, f"{error}; {_left(journal)}")
    except (asyncio.CancelledError, KeyboardInterrupt):
        return switchover.Result(Verdict.ABORTED, f"stopped from outside; {_left(journal)}")
    except Exception as error:  # noqa: BLE001  a defect of the drill must not read as a verdict on the system
        journal.entry("defect", "".join(traceback.format_exception(error)))
        return switchover.Result(Verdict.ABORTED, f"{type(error).__name__}: {error}; {_left(journal)}")


def _left(journal: Journal) -> str:
    """Whether a drill that was stopped left something changed."""
    if journal.clean:
        return "nothing is left changed"
    return f"what it changed is NOT put back: tandem drill undo --env {journal.content['env']}"


def _cancel(task: asyncio.Task[Any] | None) -> None:
    """Stop the drill where it is; its own clean-up still runs."""
    if task is not None:
        task.cancel()


@app.command()
def undo(env: Env = "lab", outputs: OutputsFile = None) -> None:
    """Put back what a killed drill changed, from the prior state in its journal."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    folder = home() / env / "drills"
    try:
        with alone(folder):
            deployment = read_deployment(env, outputs)
            left = unfinished(folder, deployment.traffic.zone_id)
            for path in left:
                _undo(deployment, path, console)
    except DrillError as error:
        console.print(f"[bold red]not undone[/bold red]: {error}")
        raise typer.Exit(1) from error
    if not left:
        console.print("nothing to undo: every drill put back what it changed")


def _undo(deployment: Deployment, path: Path, console: Console) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    standing = content["undo"]
    action = ACTIONS[standing["action"]](deployment, standing["arguments"]["site"])
    asyncio.run(action.undo(standing["prior"]))
    standing["done"] = True
    if content["status"] == OPEN:
        content.update(status=str(Verdict.ABORTED), reason="the drill died; undone afterwards")
    write_json(path, content)
    console.print(f"undone: {action.name} ({path.name})")


@app.command("report")
def show(journal: Annotated[Path, typer.Argument(help="A drill's journal.")]) -> None:
    """Print a journal's scoreboard and write its page again."""
    content = json.loads(journal.read_text(encoding="utf-8"))
    report.scoreboard(content, Console())
    page = report.write(content, journal.with_suffix(".html"))
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"journal {journal}\nreport  {page}")
