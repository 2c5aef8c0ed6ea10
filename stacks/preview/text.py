"""A preview on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from rich.text import Text

from stacks.preview.difference import Change, Op, StackDifference
from stacks.preview.effect import Effect
from stacks.preview.report import HEAD, RULES, Report

WORDS: Final = {
    Op.DELETE: ("delete", "red"),
    Op.REPLACE: ("replace", "magenta"),
    Op.MAY_REPLACE: ("MAY REPLACE", "magenta"),
    Op.UPDATE: ("update", "yellow"),
    Op.CREATE: ("create", "green"),
}


def lines(report: Report) -> Iterator[Text]:
    """What changes, stack by stack, deletions first; then what rules say of it."""
    yield Text(HEAD, style="bold")
    if report.against:
        yield Text(f"{report.env}, against {report.against}")
    else:
        yield Text(f"{report.env}: everything the programs declare")
    same = []
    for stack in report.stacks:
        if not stack.told:
            same.append(stack.stack)
            continue
        yield Text()
        yield Text(stack.stack, style="bold")
        yield from (changes(report, stack) if report.against else listing(report, stack))
    yield Text()
    if same:
        yield Text(f"as before: {', '.join(same)}", style="dim")
    yield Text(summary(report), style="bold")
    for violation in report.violations:
        yield Text.assemble(("violation ", "bold red"), report.mask.text(str(violation)))
    if not report.violations:
        yield Text("no rule is violated", style="green")
    else:
        yield Text(f"each rule, in its own words: {RULES}", style="dim")
    if report.undecided:
        yield Text(f"{report.undecided} verdicts of rules hang on values that are known after up only", style="dim")


def summary(report: Report) -> str:
    """How much happens, in one line."""
    counts = report.counts
    failed = sum(1 for each in report.stacks if each.errors)
    also = [f"{failed} stacks could not be evaluated"] if failed else []
    if not report.against:
        return ", ".join([f"{counts[Op.CREATE]} resources in {len(report.stacks) - failed} stacks", *also])
    said = [f"{counts[op]} {word}" for op, (word, _) in WORDS.items() if counts[op]]
    return ", ".join([*said, *also]) or "nothing changes"


def _errors(report: Report, stack: StackDifference) -> Iterator[Text]:
    for error in stack.errors:
        yield Text.assemble(("  error ", "bold red"), report.mask.text(error))


def listing(report: Report, stack: StackDifference) -> Iterator[Text]:
    """How many resources of each type the stack declares."""
    yield from _errors(report, stack)
    kinds = Counter(change.resource.type for change in stack.changes if change.resource.custom)
    for kind, number in sorted(kinds.items()):
        yield Text(f"  {number:>4}  {kind}")


def changes(report: Report, stack: StackDifference) -> Iterator[Text]:
    """Settings that changed; what happens to the resources, and by which rule where it is more than an update."""
    yield from _errors(report, stack)
    for setting in stack.settings:
        old, new = report.mask.sides(setting)
        yield Text.assemble(
            f"  {'setting':<12}{report.mask.text(setting.path)}  ", (old, "red"), " -> ", (new, "green")
        )
    for change in stack.changed:
        if change.resource.custom or change.op not in {Op.CREATE, Op.DELETE}:
            yield from _change(report, change)


def _change(report: Report, change: Change) -> Iterator[Text]:
    word, style = WORDS[change.op]
    protected = " (protected)" if change.op in {Op.DELETE, Op.REPLACE} and change.old and change.old.protect else ""
    yield Text.assemble(
        "  ", (f"{word:<12}", style), f"{change.resource.type} {report.mask.text(change.resource.name)}{protected}"
    )
    for each in change.properties:
        if each.note:
            yield Text(f"{'':14}{report.mask.text(each.path)}  {each.note}", style="magenta")
            continue
        old, new = report.mask.sides(each)
        because = "" if each.verdict.effect is Effect.UPDATE else f"  [{each.verdict.effect}: {each.verdict.rule}]"
        yield Text.assemble(
            f"{'':14}{report.mask.text(each.path)}  ", (old, "red"), " -> ", (new, "green"), (because, "magenta")
        )
    if change.dependents:
        yield Text(f"{'':14}{change.dependents} resources take what is known of it after up only", style="dim")
