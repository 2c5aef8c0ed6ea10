"""`make drills-table`: every drill on a healthy lab, on one whose defence is off, and with its own parts failing."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

import typer
from rich.console import Console
from rich.table import Table

from drills import load, session
from drills.changes import Standing
from drills.drill import Action, Drill, NotRun, Prior, Verdict
from drills.evidence import Evidence
from drills.lease import Lease
from drills.run import Times
from trials import defence
from trials.defence import Defence
from trials.line import ENV, RATE, Line, TrialError

CLOCK_FACTOR: Final = 4.0
TRIES: Final = 3
QUICK: Final = Times(warm_seconds=4.0, tail_seconds=6.0, steady_deadline_seconds=120.0)
ABSENT_IMAGE: Final = f"ghcr.io/tandem-recommender/absent@sha256:{'0' * 64}"
DROPPED, LAST_FAILURE = "DNS dropped the site", "last failure of any user"
SECOND_OUTAGE, IN_DNS = "failures after the first recovery", "in DNS all the time"
HELD, DEVIATED, NOT_RUN = Verdict.HELD, Verdict.DEVIATED, Verdict.NOT_RUN


@dataclass(frozen=True)
class Row:
    """One drill and the defence its claim rests on."""

    drill: str
    fault: str
    defence: Defence
    missed: tuple[str, ...]
    """Objectives of which one at least is missed when the defence is off: what it is there for."""

    @property
    def name(self) -> str:
        """As `tandem drill run` names it."""
        return f"{self.drill}-{self.fault}" if self.fault else self.drill


ROWS: Final = (
    Row("drain", "", defence.NO_DRAIN_CHECK, (DROPPED, "last answer of the drained site")),
    Row("switchover", "down", defence.UNCHECKED, (DROPPED,)),
    Row("switchover", "blackhole", defence.UNCHECKED, (DROPPED,)),
    Row("switchover", "slow", defence.LIVENESS, (DROPPED,)),
    Row("switchover", "flapping", defence.NO_HOLD_DOWN, (DROPPED, "out of DNS while it flapped")),
    Row("pod-loss", "", defence.NO_SECOND_POD, (LAST_FAILURE, SECOND_OUTAGE, IN_DNS)),
    # With one pod of each the site leaves DNS instead: its users are safe, and the claim is not.
    Row("node-loss", "", defence.NO_SECOND_POD, (IN_DNS, LAST_FAILURE, "answers of the site itself after that")),
    Row("control-plane-down", "", defence.UNCHECKED, (DROPPED,)),
    Row("failback", "", defence.NO_HOLD_DOWN, (SECOND_OUTAGE, "site back in DNS after the last lift")),
    Row("switchover", "partial", defence.NO_SHARE, (IN_DNS,)),
)
"""Last the one whose defence is the DNS service's own: it needs another lab."""


@dataclass(frozen=True)
class Idle:
    """An action that does nothing; its undo is the real one's."""

    kind: ClassVar[str] = "idle"

    action: Action

    @property
    def site(self) -> str:
        """See Action."""
        return self.action.site

    @property
    def name(self) -> str:
        """See Action."""
        return f"do nothing instead of: {self.action.name}"

    @property
    def arguments(self) -> dict[str, Any]:
        """See Action."""
        return self.action.arguments

    async def prepare(self) -> Prior:
        """See Action."""
        return await self.action.prepare()

    async def apply(self) -> None:
        """Nothing."""
        await asyncio.sleep(0)

    async def undo(self, prior: Prior) -> None:
        """See Action."""
        await self.action.undo(prior)

    async def residue(self, prior: Prior) -> list[str]:
        """See Action."""
        return await self.action.residue(prior)


def without_actions(drill: Drill) -> Drill:
    """The drill with every action turned into nothing; it has to notice that nothing bites."""

    def idle(actions: Sequence[Action]) -> list[Action]:
        return [_idle(action) for action in actions]

    stages = [dataclasses.replace(stage, actions=idle(stage.actions)) for stage in drill.stages]
    return dataclasses.replace(drill, stages=stages, frame=idle(drill.frame))


def _idle(action: Action) -> Action:
    # Under the action's own kind, so that the lease makes the real one again.
    made = type("IdleAction", (Idle,), {"kind": action.kind})
    idle: Action = made(action)
    return idle


def unpullable(lease: Lease) -> Standing:
    """The lease with an image nobody has."""
    return dataclasses.replace(lease, image=ABSENT_IMAGE)


@dataclass(frozen=True)
class Cell:
    """One run of a drill: what was expected of it and what came."""

    expected: Verdict
    verdict: Verdict
    reason: str
    seconds: float
    because: tuple[str, ...] = ()
    """What it has to have ended so for: a word of the reason, or one of the missed objectives; none: anything."""
    missed: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether it ended as it should, and for the reason it should."""
        if self.verdict is not self.expected:
            return False
        if self.expected is DEVIATED:
            return not self.because or any(name in self.missed for name in self.because)
        return not self.because or any(word in self.reason for word in self.because)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "right": self.right}


def play(row: Row, expected: Verdict, make: session.Make, say: Any, because: tuple[str, ...] = ()) -> Cell:
    """Run it in this process; it is right when it ends as expected, because of one of these.

    A run whose own users were late is no evidence either way: it is played again, `TRIES` times in all.
    """
    for last in range(1, TRIES + 1):
        cell = _played(row, expected, make, say, because)
        if load.LATE not in cell.reason or last == TRIES:
            break
        say(f"{row.name}: {cell.reason}; played again")
    return cell


def _played(row: Row, expected: Verdict, make: session.Make, say: Any, because: tuple[str, ...]) -> Cell:
    began = time.monotonic()
    try:
        journal = session.execute(
            session.Request(name=row.drill, fault=row.fault, env=ENV, rate_per_second=RATE), _silent, say, make
        )
    except NotRun as error:
        return Cell(expected, NOT_RUN, str(error), time.monotonic() - began, because)
    content, seconds = journal.content, time.monotonic() - began
    if str(content["reason"]).startswith(session.STOPPED):
        raise KeyboardInterrupt  # the drill has put back what it did; the table stops as well
    missed = tuple(str(each["objective"]) for each in content["findings"] if not each["held"])
    return Cell(expected, Verdict(content["status"]), str(content["reason"]), seconds, because, missed)


def _silent(_phase: str, _seen: Evidence) -> None:
    return None


NO_BITE: Final = ("did not bite",)
NO_UNDO: Final = ("does not stand",)
COLUMNS: Final = ("healthy", "defence off", "action does nothing", "undo cannot start")


def fill(row: Row, line: Line, again: Sequence[str]) -> Iterator[tuple[str, Cell]]:
    """The cells of one row, as they come."""
    if "healthy" in again:
        line.spread()
        yield "healthy", play(row, HELD, session.Make(times=QUICK), line.say)
    if "action does nothing" in again:
        line.spread()
        made = session.Make(drill=without_actions, times=QUICK)
        yield "action does nothing", play(row, NOT_RUN, made, line.say, NO_BITE)
    if "undo cannot start" in again:
        line.spread()
        made = session.Make(lease=unpullable, times=QUICK)
        yield "undo cannot start", play(row, NOT_RUN, made, line.say, NO_UNDO)
    if "defence off" in again:
        with row.defence.off(line):
            yield "defence off", play(row, DEVIATED, session.Make(times=QUICK), line.say, row.missed)


@contextmanager
def a_line(home: Path, clock_factor: float, say: Any, lab_options: tuple[str, ...] = ()) -> Iterator[Line]:
    """A lab for the trials, taken down afterwards."""
    line = Line(home, say)
    os.environ["TANDEM_HOME"] = str(home)
    try:
        line.up(clock_factor=clock_factor, lab_options=lab_options)
        yield line
    finally:
        line.down()


def main(
    only: Annotated[list[str] | None, typer.Option(help="Rows to fill; may be repeated.")] = None,
    column: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(COLUMNS)}; may be repeated.")] = None,
    clock_factor: Annotated[float, typer.Option(help="Divides the health checks' intervals.")] = CLOCK_FACTOR,
    home: Annotated[Path, typer.Option(help="Where the lab of the trials lives.")] = Path(".tandem/trials"),
) -> None:
    """Exit 0 when every cell is as it should be."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    wanted = [row for row in ROWS if not only or row.name in only]
    columns = tuple(column or COLUMNS)
    cells: dict[str, dict[str, Cell]] = {row.name: {} for row in wanted}
    home = home.resolve()

    def say(text: str) -> None:
        console.print(text, style="dim")

    def note(row: Row, name: str, cell: Cell) -> None:
        cells[row.name][name] = cell
        wanted_for = f" because of {' or '.join(cell.because)}" if cell.because else ""
        word = "as it should" if cell.right else f"WRONG, expected {cell.expected}{wanted_for}"
        console.print(f"{row.name}, {name}: {cell.verdict} ({word}, {cell.seconds:.0f} s): {cell.reason[:300]}")

    try:
        with a_line(home, clock_factor, say) as line:
            for row in wanted:
                here = [name for name in columns if name != "defence off" or not row.defence.lab_options]
                for name, cell in fill(row, line, here):
                    note(row, name, cell)
        for row in wanted if "defence off" in columns else ():
            if row.defence.lab_options:
                with a_line(home, clock_factor, say, row.defence.lab_options):
                    note(row, "defence off", play(row, DEVIATED, session.Make(times=QUICK), say, row.missed))
    except TrialError as error:
        console.print(f"[bold red]the trial failed[/bold red]: {error}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        console.print("stopped; the lab is down")
        raise typer.Exit(130) from error
    finally:
        _show(cells, columns, clock_factor, home)
    raise typer.Exit(0 if all(cell.right for row in cells.values() for cell in row.values()) else 1)


def _show(cells: dict[str, dict[str, Cell]], columns: Sequence[str], clock_factor: float, home: Path) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("drill", *columns):
        table.add_column(name, no_wrap=name == "drill", overflow="fold")
    off = {row.name: row.defence.name for row in ROWS}
    table.add_column("the defence")
    for name, row in cells.items():
        shown = [_word(row.get(column)) for column in columns]
        table.add_row(name, *shown, off[name])
    console = Console()
    console.print("LAB: a rehearsal on one machine, no evidence about production", style="dim")
    console.print(f"health checks {clock_factor:g} times faster than declared", style="dim")
    console.print(table)
    document = {
        "clock_factor": clock_factor,
        "rows": {name: {column: cell.document() for column, cell in row.items()} for name, row in cells.items()},
    }
    (home / "drills-table.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _word(cell: Cell | None) -> str:
    if cell is None:
        return "[dim]not tried[/dim]"
    colour = "green" if cell.right else "red"
    return f"[{colour}]{cell.verdict}[/{colour}]"


if __name__ == "__main__":
    typer.run(main)
