"""A preview for machines: per stack what `pulumi preview --json` prints, as far as programs alone can tell."""

from __future__ import annotations

from typing import Any, Final

from stacks.preview.difference import ABSENT, Change, Op, Setting, StackDifference
from stacks.preview.effect import Effect
from stacks.preview.masking import MASK, Mask
from stacks.preview.report import HEAD, RULES, Report

_OPS: Final = {Op.MAY_REPLACE: "update"}
"""What the provider decides is an update to Pulumi until it has decided; `mayReplace` stands beside it."""
_KINDS: Final = {Effect.UPDATE: "update", Effect.MAY_REPLACE: "update", Effect.REPLACE: "update-replace"}


def document(report: Report) -> dict[str, Any]:
    """Everything, secrets masked."""
    return {
        "kind": HEAD,
        "environment": report.env,
        "against": report.against or None,
        "stacks": {each.stack: _stack(each, report) for each in report.stacks},
        "undecided": report.undecided,
        "violations": [
            {**report.mask.value(vars(each)), "documentation": f"{RULES}#{each.rule}"} for each in report.violations
        ],
    }


def _stack(stack: StackDifference, report: Report) -> dict[str, Any]:
    mask = report.mask
    summary: dict[str, int] = {}
    for change in stack.changes:
        op = _OPS.get(change.op, change.op.value)
        summary[op] = summary.get(op, 0) + 1
    return {
        "config": _config(report, stack.stack),
        "configChanges": {mask.text(each.path): _sides(each, mask) for each in stack.settings},
        "steps": [_step(change, mask) for change in stack.changes],
        "changeSummary": summary,
        "diagnostics": [{"severity": "error", "message": mask.text(error)} for error in stack.errors],
    }


def _config(report: Report, stack: str) -> dict[str, str]:
    """The stack's settings, as `pulumi preview --json` names them."""
    given = report.settings.get(stack)
    if given is None:
        return {}
    return {key: MASK if key in given.secret else report.mask.text(text) for key, text in sorted(given.values.items())}


def _sides(changed: Setting, mask: Mask) -> dict[str, Any]:
    """Both sides of a changed setting; one that is not there is left out."""
    sides = {"old": changed.old, "new": changed.new}
    there = {side: value for side, value in sides.items() if value is not ABSENT}
    return {side: MASK if changed.secret else mask.value(value) for side, value in there.items()}


def _step(change: Change, mask: Mask) -> dict[str, Any]:
    resource = change.resource
    step: dict[str, Any] = {
        "op": _OPS.get(change.op, change.op.value),
        "urn": resource.urn,
        "provider": resource.provider,
    }
    for side, state in (("oldState", change.old), ("newState", change.new)):
        if state is not None:
            step[side] = {
                "urn": state.urn,
                "type": state.type,
                "custom": state.custom,
                "protect": state.protect,
                "parent": state.parent,
                "inputs": mask.inputs(state.inputs, state.secrets),
            }
    if change.properties:
        step["diffReasons"] = [each.path for each in change.properties]
        step["detailedDiff"] = {
            each.path: {"kind": _KINDS[each.verdict.effect], "inputDiff": True, "rule": each.verdict.rule}
            for each in change.properties
        }
    replacing = [each.path for each in change.properties if each.verdict.effect is Effect.REPLACE]
    if replacing:
        step["replaceReasons"] = replacing
    if change.op is Op.MAY_REPLACE:
        step["mayReplace"] = [each.path for each in change.properties if each.verdict.effect is Effect.MAY_REPLACE]
    named: dict[str, Any] = mask.value(step)
    return named
