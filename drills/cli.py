"""`tandem drill`: run a drill, undo what a killed one left, show a report."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from drills import report, switchover
from drills.actions import ACTIONS
from drills.drill import DrillError, NotRun, Verdict
from drills.journal import Journal, unfinished, write_json
from stacks.contract import ContractError, Deployment

app = typer.Typer(no_args_is_help=True, help="Break something on purpose and report whether the promise held.")

OUTPUTS_DEADLINE_SECONDS = 120

Env = Annotated[str, typer.Option(help="The environment whose stack outputs are read.")]
OutputsFile = Annotated[Path | None, typer.Option("--outputs", help="Read stack outputs from this file instead.")]


def home() -> Path:
    """Where Tandem keeps what it writes."""
    return Path(os.environ.get("TANDEM_HOME", ".tandem")).resolve()


def read_deployment(env: str, outputs: Path | None) -> Deployment:
    """Outputs of every stack, from the engine or a saved file; NotRun when they are not to be had."""
    if outputs is not None:
        text = outputs.read_text(encoding="utf-8")
    else:
        done = subprocess.run(
            [sys.executable, "-m", "tandem", "outputs", "--env", env, "--json"],
            capture_output=True,
            text=True,
            timeout=OUTPUTS_DEADLINE_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise NotRun(f"no stack outputs of {env}: {done.stderr.strip()[-500:]}")
        text = done.stdout
    try:
        return Deployment.read(env, json.loads(text))
    except (ValueError, ContractError) as error:
        raise NotRun(str(error)) from error


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
    """Exit 0: held. 1: deviated. 2: not run, nothing was proved. 3: aborted, and undone."""
    console = Console(stderr=True)
    if name != switchover.NAME:
        console.print(f"drill {name!r} is not known; there is: {switchover.NAME}")
        raise typer.Exit(Verdict.NOT_RUN.exit_code)
    folder = home() / env / "drills"
    try:
        if left := unfinished(folder):
            raise NotRun(
                f"{left[0]} has changed something that was not put back; undo it: tandem drill undo --env {env}"
            )
        deployment = read_deployment(env, outputs)
        chosen: dict[str, Any] = {"fault": fault, "site": site, "rate_per_second": rate, "users": users}
        if seed is not None:
            chosen["seed"] = seed
        settings = switchover.SwitchoverSettings(**chosen)
        given = switchover.parts(deployment, settings)
    except NotRun as error:
        console.print(f"[bold]not run[/bold]: {error}", highlight=False)
        raise typer.Exit(Verdict.NOT_RUN.exit_code) from error
    journal = Journal(folder, f"{name}-{fault}", env, vars(settings))
    result = _run(deployment, settings, given, journal, console)
    journal.end(result.verdict, result.reason, result.findings, result.measures)
    page = report.write(journal.content, journal.path.with_suffix(".html"))
    if json_output:
        sys.stdout.write(json.dumps(journal.content, indent=1) + "\n")
    else:
        report.scoreboard(journal.content, Console())
    console.print(f"journal {journal.path}\nreport  {page}", highlight=False, soft_wrap=True)
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
        return switchover.Result(Verdict.NOT_RUN, str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return switchover.Result(Verdict.ABORTED, f"stopped from outside; {_left(journal)}")
    except DrillError as error:
        return switchover.Result(Verdict.ABORTED, f"{error}; {_left(journal)}")


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
    console = Console(stderr=True)
    left = unfinished(home() / env / "drills")
    if not left:
        console.print("nothing to undo: every drill put back what it changed")
        return
    deployment = read_deployment(env, outputs)
    for path in left:
        content = json.loads(path.read_text(encoding="utf-8"))
        standing = content["undo"]
        action = ACTIONS[standing["action"]](deployment, standing["arguments"]["site"])
        asyncio.run(action.undo(standing["prior"]))
        standing["done"] = True
        if content["status"] == "open":
            content.update(status=str(Verdict.ABORTED), reason="the drill died; undone afterwards")
        write_json(path, content)
        console.print(f"undone: {action.name} ({path.name})", highlight=False)


@app.command("report")
def show(journal: Annotated[Path, typer.Argument(help="A drill's journal.")]) -> None:
    """Print a journal's scoreboard and write its page again."""
    content = json.loads(journal.read_text(encoding="utf-8"))
    report.scoreboard(content, Console())
    Console(stderr=True).print(report.write(content, journal.with_suffix(".html")), highlight=False)
