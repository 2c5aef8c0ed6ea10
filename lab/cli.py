"""`tandem lab`: the hybrid cloud on this machine, up, down, looked at."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lab import control
from lab.aws.check import HEALTHY_SHARE
from lab.aws.prober_settings import CHECKER_LIMIT, DEFAULT_CHECKERS
from lab.coverage import CoverageError
from lab.members import table
from lab.process import alive
from lab.state import LabError, LabState, Plan, log_file
from lab.topology import Topology, TopologyError, home_directory

app = typer.Typer(name="lab", no_args_is_help=True, help="The hybrid cloud on this machine.")
_errors = Console(stderr=True, highlight=False)

FOLLOW_SECONDS = 0.2
LINES = 40


def _fail(error: Exception) -> typer.Exit:
    _errors.print(f"[red]error:[/red] {error}", soft_wrap=True, markup=True)
    return typer.Exit(1)


@app.command()
def up(
    topology: Annotated[Path | None, typer.Option(help="JSON file with other sites or addresses.")] = None,
    checkers: Annotated[
        int, typer.Option(min=1, max=CHECKER_LIMIT, help="Probers per health check.")
    ] = DEFAULT_CHECKERS,
    clock_factor: Annotated[
        float, typer.Option(min=1.0, help="Divides the health checks' intervals; 1 is real time.")
    ] = 1.0,
    healthy_share: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Share of checkers that keeps a site; another one than AWS's to see its worth."
        ),
    ] = HEALTHY_SHARE,
) -> None:
    """Start the lab and wait until all of it is ready."""
    began = time.monotonic()
    try:
        chosen = Topology.default() if topology is None else Topology.from_json(json.loads(topology.read_text()))
        members = table(chosen, checkers=checkers, clock_factor=clock_factor, healthy_share=healthy_share)
        fresh = control.up(home_directory(), Plan(chosen, members), lambda line: _errors.print(f"  {line}"))
    except (LabError, TopologyError, OSError, json.JSONDecodeError) as error:
        raise _fail(error) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    said = f"the lab is up after {time.monotonic() - began:.1f} s" if fresh else "the lab is up already"
    _errors.print(f"{said}: {len(members)} processes, home {home_directory()}")
    if clock_factor != 1:
        _errors.print(f"health checks run {clock_factor:g} times faster than declared")
    if healthy_share != HEALTHY_SHARE:
        _errors.print(
            f"a site is dropped when no more than {healthy_share:.0%} of its checkers see it; AWS's rule is 18 %"
        )


@app.command()
def down() -> None:
    """Stop the lab, and whatever an earlier one left behind."""
    try:
        ended = control.down(home_directory(), lambda line: _errors.print(f"  {line}"))
    except LabError as error:
        raise _fail(error) from None
    _errors.print("the lab is down" if ended else "no lab was up")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print lab.json with what is wrong.")] = False,
) -> None:
    """Tell what runs; exit 1 unless all of it does."""
    state = LabState.read(home_directory())
    troubles = ["the lab is not up; start it: tandem lab up"] if state is None else state.troubles
    if as_json:
        typer.echo(json.dumps({**(state.to_json() if state else {}), "troubles": troubles}, indent=1))
    elif state is not None:
        shown = Table("process", "pid", "state", "module")
        for name, member in state.members.items():
            lives = member.pid and alive(member.pid, member.started)
            shown.add_row(name, str(member.pid or ""), member.state if lives else "ended", member.module)
        Console().print(shown)
    for trouble in troubles:
        _errors.print(f"[red]{trouble}[/red]", soft_wrap=True)
    if troubles:
        raise typer.Exit(1)


@app.command()
def env() -> None:
    """Print what a shell needs so that the Pulumi CLI finds the lab: eval "$(tandem lab env)"."""
    state = LabState.read(home_directory())
    if state is None or not state.alive:
        raise _fail(LabError("the lab is not up; start it: tandem lab up"))
    for name, value in sorted(state.engine_environment().items()):
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A process of `tandem lab status`, or supervisor.")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many from the end.")] = LINES,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Print the log of one process."""
    path = log_file(home_directory(), name)
    if not path.is_file():
        known = sorted(entry.stem for entry in path.parent.glob("*.log"))
        raise _fail(LabError(f"no log of {name!r}; there are logs of {', '.join(known) or 'nothing yet'}"))
    try:
        for line in _lines(path, lines, follow=follow):
            typer.echo(line)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class Form(StrEnum):
    """What a table is written for."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@app.command()
def coverage(
    form: Annotated[Form, typer.Option("--format", help="For people, for machines, for the docs.")] = Form.TEXT,
    kind: Annotated[
        str, typer.Option(metavar="FILTER", help="Each property of the kinds with this in their name.")
    ] = "",
) -> None:
    """Tell of each property the programs use whether the lab acts on it, validates it, or only records it."""
    from lab.coverage import declared, table, text  # the schemas behind it are slow to load, and no other command's

    try:
        rows = text.of_kinds(table.rows(declared.declared()), kind)
        if not rows:
            raise CoverageError(f"no kind that the programs use has {kind!r} in its name; leave --kind out for a list")
    except CoverageError as error:
        raise _fail(error) from None
    if form is Form.JSON:
        typer.echo(text.document(rows))
    elif form is Form.MARKDOWN:
        typer.echo(text.markdown(rows), nl=False)
    else:
        for line in text.lines(rows, each=bool(kind)):
            typer.echo(line)


def _lines(path: Path, count: int, *, follow: bool) -> Iterator[str]:
    with path.open(errors="replace") as file:
        kept = file.read().splitlines()
        yield from kept[len(kept) - count if count < len(kept) else 0 :]
        while follow:
            line = file.readline()
            if line:
                yield line.rstrip("\n")
            else:
                time.sleep(FOLLOW_SECONDS)


if __name__ == "__main__":
    app()
