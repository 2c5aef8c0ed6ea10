"""A preview as one pull-request comment: what matters above the fold, everything else folded away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stacks.preview.difference import Op, StackDifference
from stacks.preview.report import HEAD, Report
from stacks.preview.text import WORDS, changes, listing, summary

LONGEST: Final = 60_000
"""A comment holds 65,536 characters (https://docs.github.com/en/rest/issues/comments); the rest is for who posts it."""
MARKER: Final = "<!-- tandem-preview: {} -->"
"""Hidden, before each stack: finds its part of the comment again."""


def markdown(report: Report) -> str:
    """The comment; stacks that do not fit are named and left out."""
    head = "\n".join(_head(report))
    parts = [_part(report, each) for each in report.stacks if each.errors or each.changed]
    left_out = []
    text = head
    for name, part in parts:
        if len(text) + len(part) > LONGEST:
            left_out.append(name)
        else:
            text += part
    if left_out:
        text += f"\nToo long for a comment, run `tandem preview` for: {', '.join(left_out)}\n"
    return text


def _head(report: Report) -> Iterator[str]:
    against = f" against `{report.against}`" if report.against else ""
    yield f"### Preview of {report.env}{against}"
    yield ""
    yield f"_{HEAD}_"
    yield ""
    yield f"**{summary(report)}**"
    yield ""
    if report.violations:
        yield "| violated rule | where | what |"
        yield "|---|---|---|"
        for each in report.violations:
            where, what = (_cell(report.mask.text(said)) for said in (each.urn.rpartition("::")[2], each.message))
            yield f"| {each.rule} | {each.stack}: {where or 'the stack'} | {what} |"
        yield ""
    changed = [each for each in report.stacks if each.errors or each.changed]
    if changed:
        ops = [op for op in WORDS if report.counts[op]]
        yield f"| stack | {' | '.join(WORDS[op][0] for op in ops)} |"
        yield f"|---|{'---|' * len(ops)}"
        for stack in changed:
            cells = ["error"] * len(ops) if stack.errors else [str(stack.counts.get(op, "")) for op in ops]
            yield f"| {stack.stack} | {' | '.join(cells)} |"
        yield ""


def _part(report: Report, stack: StackDifference) -> tuple[str, str]:
    rows = changes(report, stack) if report.against else listing(report, stack)
    text = "\n".join(row.plain for row in rows).replace("```", "'''")
    dangerous = bool(stack.errors) or any(each.op in {Op.DELETE, Op.REPLACE, Op.MAY_REPLACE} for each in stack.changed)
    opened = " open" if dangerous else ""
    return stack.stack, (
        f"\n{MARKER.format(stack.stack)}\n<details{opened}><summary>{stack.stack}</summary>\n\n```\n{text}\n```\n\n"
        "</details>\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
