"""`tandem rehearse`: the whole walk on one machine, each step a command anyone could have typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

ENV: Final = "lab"
DRILLS: Final = ("drain", "switchover:down", "switchover:blackhole", "node-loss")
STEP_DEADLINE_SECONDS: Final = 420
TRAIN_SECONDS: Final = 20
STOP_GRACE_SECONDS: Final = 60

console = Console(stderr=True)


class StepFailedError(Exception):
    """A command of the rehearsal ended badly; `exit_code` is what the rehearsal ends with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass
class Walk:
    """The steps so far, and how long each took."""

    steps: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce a step, time it."""
        console.rule(f"[bold]{title}[/bold]", align="left", style="dim")
        begun = time.monotonic()
        try:
            yield
        finally:
            self.steps.append((title, time.monotonic() - begun))

    def table(self) -> Table:
        """Seconds per step."""
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("step")
        table.add_column("seconds", justify="right")
        for title, seconds in self.steps:
            table.add_row(title, f"{seconds:.1f}")
        table.add_row("[bold]together[/bold]", f"[bold]{sum(seconds for _, seconds in self.steps):.1f}[/bold]")
        return table


def tandem(*arguments: str, deadline_seconds: float = STEP_DEADLINE_SECONDS, capture: bool = False) -> str:
    """Run one `tandem` command in the foreground; its standard output when captured."""
    console.print(f"$ tandem {' '.join(arguments)}", style="dim", highlight=False, soft_wrap=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tandem", *arguments], stdout=subprocess.PIPE if capture else None, text=True
    )
    try:
        printed, _ = process.communicate(timeout=deadline_seconds)
    except subprocess.TimeoutExpired as error:
        _stop(process)
        raise StepFailedError(f"tandem {' '.join(arguments)}: not done after {deadline_seconds:.0f} s", 1) from error
    except KeyboardInterrupt:
        # A terminal sends the interrupt to the command as well: let it put back what it changed.
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_GRACE_SECONDS)
        _stop(process)
        raise
    if process.returncode != 0:
        raise StepFailedError(f"tandem {' '.join(arguments)}: exit code {process.returncode}", process.returncode)
    return printed or ""


@contextmanager
def _beside(*arguments: str) -> Iterator[Callable[[], str]]:
    """Run one `tandem` command while others run; what is given waits for its end and is its standard output."""
    console.print(f"$ tandem {' '.join(arguments)} &", style="dim", highlight=False, soft_wrap=True)
    log = _home() / "beside.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tandem", *arguments], stdout=subprocess.PIPE, stderr=said, text=True
        )

    def ended() -> str:
        try:
            printed, _ = process.communicate(timeout=STEP_DEADLINE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StepFailedError(
                f"tandem {' '.join(arguments)}: not done after {STEP_DEADLINE_SECONDS} s", 1
            ) from error
        text = log.read_text(encoding="utf-8")
        if process.returncode != 0:
            raise StepFailedError(f"tandem {' '.join(arguments)}: {text[-2000:]}", process.returncode)
        console.print(text.rstrip(), style="dim", highlight=False, markup=False)
        return printed

    try:
        yield ended
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """End a command that has not ended: politely, then for certain."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def rehearse(
    data: Annotated[
        str, typer.Option(help="Folder of a MovieLens data set, or `generated` for a catalogue with latent tastes.")
    ] = "generated",
    drill: Annotated[
        list[str] | None, typer.Option(help="A drill to run, as `drain` or `switchover:slow`; may be repeated.")
    ] = None,
    train_seconds: Annotated[int, typer.Option(help="Time the training may take.", min=5, max=60)] = TRAIN_SECONDS,
    rate: Annotated[float, typer.Option(help="Requests per second of all virtual users together.")] = 50.0,
    topology: Annotated[
        Path | None, typer.Option(help="JSON file with other sites; their settings have to be there.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up at the end.")] = False,
) -> None:
    """Sites on this machine, a trained model behind Triton on each; one is emptied, lost, cut off, half lost."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    walk = Walk()
    started = time.time()
    code = 0
    try:
        _walk(walk, data, drill or list(DRILLS), train_seconds, rate, topology)
    except StepFailedError as error:
        console.print(f"[bold red]the rehearsal failed[/bold red]: {error}", highlight=False)
        code = error.exit_code
    except KeyboardInterrupt:
        console.print("stopped; taking the lab down")
        code = 130
    finally:
        if not keep:
            code = _take_down(walk) or code
    console.print(walk.table())
    journals = sorted(path for path in _home().glob(f"{ENV}/drills/*.json") if path.stat().st_mtime >= started)
    if journals:
        tandem("drill", "report", *map(str, journals))
    raise typer.Exit(code)


def _walk(
    walk: Walk, data: str, drills: list[str], train_seconds: int, rate: float, topology: Path | None = None
) -> None:
    training = ["--data", data, "--out", str(_home() / "models"), "--seconds", str(train_seconds)]
    with _beside("model", "train", *training, "--json") as trained:
        with walk.step("bring the lab up: sites, stores, DNS, prober; the recommender trains meanwhile"):
            tandem("lab", "down")
            tandem("lab", "up", *([] if topology is None else ["--topology", str(topology)]))
        with walk.step("declare stores, pools and platforms; it goes on training"):
            tandem("up", "--env", ENV, "--layer", "storage", "--layer", "pool", "--layer", "platform")
        with walk.step("train the recommender to its end, package it as a version"):
            report = json.loads(trained())
            console.print(quality(report))
    with walk.step("publish the version to every store, select it"):
        tandem("model", "publish", report["package"], "--env", ENV)
        tandem("model", "promote", report["digest"], "--env", ENV, "--all-sites")
    with walk.step("declare serving and traffic"):
        tandem("up", "--env", ENV)
    failed: StepFailedError | None = None
    for each in drills:
        name, _, fault = each.partition(":")
        with walk.step(f"drill: {f'{name}, {fault}' if fault else name}"):
            chosen = ["--fault", fault] if fault else []
            try:
                # The scoreboards come last, when the lab is down again.
                tandem("drill", "run", name, "--env", ENV, *chosen, "--rate", str(rate), "--json", capture=True)
            except StepFailedError as error:
                # What the others have to say is worth hearing all the same.
                console.print(f"[bold red]{each}[/bold red]: {error}", highlight=False)
                failed = failed or error
    if failed is not None:
        raise failed


def _take_down(walk: Walk) -> int:
    """Take the lab down; the exit code of that."""
    try:
        with walk.step("take the lab down"):
            tandem("lab", "down")
    except StepFailedError as error:
        console.print(f"[bold red]the lab did not go down[/bold red]: {error}", highlight=False)
        return error.exit_code
    return 0


def _home() -> Path:
    return Path(os.environ.get("TANDEM_HOME", ".tandem")).resolve()


def quality(report: dict[str, Any]) -> Table:
    """Accuracy of the trained model beside the baselines, on each user's last choice."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{report['data']}, {report['users']} users")
    table.add_column("HR@10", justify="right")
    table.add_column("NDCG@10", justify="right")
    for name, metrics in report["metrics"].items():
        table.add_row(name, f"{metrics['hr@10']:.4f}", f"{metrics['ndcg@10']:.4f}")
    return table
