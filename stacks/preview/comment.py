"""A preview as one pull-request comment: what matters above the fold, everything else folded away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from infra.policies.rule import Violation
from stacks.preview.difference import Op, StackDifference
from stacks.preview.report import HEAD, RULES, Report
from stacks.preview.text import WORDS, changes, listing, summary

LONGEST: Final = 60_000
"""A comment holds 65,536 characters (https://docs.github.com/en/rest/issues/comments); the rest is for who posts it."""
LONGEST_HEAD: Final = 20_000
"""Of these for violations and counts; however many they are, stacks have room after them."""
LONGEST_CELL: Final = 1_000
LEFT_OUT: Final = 2_000
"""Kept free for the names of stacks that do not fit."""
MARKER: Final = "<!-- tandem-preview: {} -->"
"""Hidden, before each stack: finds its part of the comment again."""


def markdown(report: Report, repository: str = "") -> str:
    """The comment; stacks that do not fit are named and left out, and violations that do not are counted.

    `repository` is the address of the project's pages, for links to its rules; empty where nobody knows it.
    """
    head = "\n".join(_head(report, f"{repository}/blob/HEAD/{RULES}" if repository else RULES))
    parts = [_part(report, each) for each in report.stacks if each.told]
    left_out = []
    text = head
    for name, part in parts:
        if len(text) + len(part) > LONGEST - LEFT_OUT:
            left_out.append(name)
        else:
            text += part
    if left_out:
        names = ", ".join(left_out)
        some = names if len(names) < LEFT_OUT - 100 else f"{len(left_out)} stacks"
        text += f"\nToo long for a comment, run `tandem preview` for: {some}\n"
    return text


def repository(environment: Mapping[str, str]) -> str:
    """Address of the project's pages as GitHub tells its jobs; empty elsewhere.

    https://docs.github.com/en/actions/reference/workflows-and-actions/variables
    """
    server, name = (environment.get(each, "") for each in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"))
    return f"{server}/{name}" if server and name else ""


def _head(report: Report, rules: str) -> Iterator[str]:
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
        yield from _as_many_as_fit("violations", [_violation(report, each, rules) for each in report.violations])
        yield ""
    changed = [each for each in report.stacks if each.told]
    if changed:
        ops = [op for op in WORDS if report.counts[op]]
        yield f"| stack | settings | {''.join(f'{WORDS[op][0]} | ' for op in ops)}".rstrip()
        yield f"|---|---|{'---|' * len(ops)}"
        yield from _as_many_as_fit("stacks", [_counts(each, ops) for each in changed])
        yield ""


def _as_many_as_fit(what: str, rows: list[str]) -> Iterator[str]:
    """Rows of one of the two tables of the head, and how many there is no room for."""
    room = LONGEST_HEAD // 2
    for number, row in enumerate(rows):
        room -= len(row) + 1
        if room < 0:
            yield ""
            yield f"_and {len(rows) - number} more {what}: run `tandem preview`_"
            return
        yield row


def _violation(report: Report, violation: Violation, rules: str) -> str:
    where, what = (_cell(report.mask.text(said)) for said in (violation.urn.rpartition("::")[2], violation.message))
    return f"| [{violation.rule}]({rules}#{violation.rule}) | {violation.stack}: {where or 'the stack'} | {what} |"


def _counts(stack: StackDifference, ops: list[Op]) -> str:
    cells = ["error"] * len(ops) if stack.errors else [str(stack.counts.get(op, "")) for op in ops]
    return f"| {' | '.join([stack.stack, str(len(stack.settings) or ''), *cells])} |"


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
    short = text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
    return short.replace("|", "\\|").replace("\n", " ")
