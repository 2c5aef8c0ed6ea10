"""What a drill would do to what, and how that would be undone, for reading before it is run."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drills.drill import Drill, Level, Observation


def plan(drill: Drill, conditions: Sequence[Observation], console: Console) -> None:
    """Claim, stages with their actions and proofs, and the guard's conditions."""
    levels = ", ".join(level for level in Level if level in drill.levels)
    console.print(f"[bold]{drill.name}[/bold] would prove: {drill.claim}", soft_wrap=True)
    console.print(f"levels: {levels}; client classes: {', '.join(drill.classes)}", style="dim")
    steps = _table("stage", "step", "what")
    for action in drill.frame:
        steps.add_row("throughout", "do", action.name)
    for stage in drill.stages:
        for action in stage.actions:
            steps.add_row(stage.name, "do", action.name)
        steps.add_row("", "must be seen", stage.symptom.name)
        for probe in stage.effect:
            steps.add_row("", "must follow", f"{probe.name}, within {stage.effect_seconds:.0f} s")
        for probe in (*stage.throughout, *stage.always):
            steps.add_row("", "must stay", probe.name)
        for action in reversed(stage.actions):
            steps.add_row("", "undo", f"put back: {action.name}")
        for probe in stage.restored:
            steps.add_row("", "must return", probe.name)
    console.print(steps)
    sites = sorted({action.site for action in drill.actions})
    console.print(
        f"before any of it a Job with the undo stands in {', '.join(sites)} and is seen running", soft_wrap=True
    )
    observations(conditions, console)


def observations(seen: Sequence[Observation], console: Console) -> None:
    """Probes or conditions, one a line."""
    table = _table("condition", "", "seen")
    for each in seen:
        word = "[green]holds[/green]" if each.held else "[red]does not hold[/red]"
        table.add_row(escape(each.probe), word, escape(each.detail))
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
