"""The rules as policies of the real CLI: what its SDK hands over becomes Declared, verdicts become reports.

Imports nothing of that SDK; the pack's `__main__` passes it in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.rule import Rule, Undecided
from infra.policies.rules import RULES

UNKNOWNS: Final = frozenset(
    {
        UNKNOWN,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)
"""Pulumi's sentinels for a string, boolean, number, list, asset, archive and map that cannot be known yet
(pulumi/pulumi, sdk/go/common/resource/plugin/rpc.go)."""
STACK: Final = "pulumi:pulumi:Stack"

Report = Callable[..., None]


class Sdk(Protocol):
    """What of the package pulumi_policy is used here."""

    ResourceValidationPolicy: Callable[..., Any]
    StackValidationPolicy: Callable[..., Any]


def policies(sdk: Sdk, unknown: type[Exception], rules: Iterable[Rule] = RULES) -> list[Any]:
    """A policy for each rule that can be judged with what the CLI shows; it says of no value whether it is secret.

    Rules over an environment see one stack of it and judge what is in that; `tandem preview` sees them all.
    """
    made = []
    for rule in rules:
        if rule.secretness:
            continue
        if rule.over == "resource":
            kind, validate = sdk.ResourceValidationPolicy, partial(_resource, rule, unknown)
        else:
            kind, validate = sdk.StackValidationPolicy, partial(_stack, rule, unknown)
        made.append(kind(name=rule.name, description=rule.says, validate=validate))
    return made


def _resource(rule: Rule, unknown: type[Exception], args: Any, report: Report) -> None:
    resource = resource_of(args, unknown)
    _tell(rule, unknown, StackDeclared(resource.stack, (resource,), {}), report)


def _stack(rule: Rule, unknown: type[Exception], args: Any, report: Report) -> None:
    _tell(rule, unknown, stack_of(args.resources, unknown), report)


def _tell(rule: Rule, unknown: type[Exception], stack: StackDeclared, report: Report) -> None:
    """Report what is violated; what hangs on unknown values is raised as the SDK's own word for that, an advice."""
    open_questions = []
    for verdict in rule.verdicts({stack.stack: stack}):
        if isinstance(verdict, Undecided):
            open_questions.append(verdict.message)
        else:
            report(verdict.message, verdict.urn or None)
    if open_questions:
        advice = unknown(UNKNOWN, [rule.name])
        advice.message = "; ".join(open_questions)  # type: ignore[attr-defined]  # what the SDK prints of it
        raise advice


def resource_of(args: Any, unknown: type[Exception]) -> Declared:
    """A resource as a resource validation or a stack validation gets it."""
    awaited = [*getattr(args, "dependencies", ())]
    for held in getattr(args, "property_dependencies", {}).values():
        awaited += held
    parent, provider = getattr(args, "parent", None), args.provider
    return Declared(
        stack=args.urn.split("::")[0].rpartition(":")[2],
        type=args.resource_type,
        name=args.name,
        urn=args.urn,
        parent=parent.urn if parent else "",
        inputs=plain(args.props, unknown),
        protect=bool(args.opts.protect),
        depends_on=frozenset(each.urn for each in awaited),
        ignores=frozenset(args.opts.ignore_changes),
        provider=provider.urn if provider else "",
    )


def stack_of(resources: Iterable[Any], unknown: type[Exception]) -> StackDeclared:
    """A whole stack; its outputs are the properties of its root."""
    found = tuple(resource_of(resource, unknown) for resource in resources)
    outputs: Mapping[str, Any] = next((one.inputs for one in found if one.type == STACK), {})
    return StackDeclared(found[0].stack if found else "", found, outputs)


def plain(value: Any, unknown: type[Exception]) -> Any:
    """The value without the SDK's guards, which raise where something unknown is touched."""
    if isinstance(value, Mapping):
        return {key: _touched(value, key, unknown) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_touched(value, index, unknown) for index in range(len(value))]
    return UNKNOWN if isinstance(value, str) and value in UNKNOWNS else value


def _touched(value: Any, key: Any, unknown: type[Exception]) -> Any:
    try:
        return plain(value[key], unknown)
    except unknown:
        return UNKNOWN
