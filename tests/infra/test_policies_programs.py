"""What the programs declare for lab and prod keeps to every rule.

Twice: as a preview sees it, with everything unknown that only a provider can say, and with stand-ins for that, so
that no rule has to leave its verdict open.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pulumi
import pytest

from infra import settings
from infra.policies.declared import StackDeclared
from infra.policies.rules import RULES, Undecided, check, judge
from stacks.contract import SITE_LAYERS, StackName
from stacks.workspace import Workspace
from tests.infra.declaring import declared
from tests.previewed import DIGEST, as_previewed


def without_a_file(env: str) -> list[str]:
    """Stacks of the environment's sites that nobody has written settings for."""
    found = {stack for layer in Workspace.of(env).order() for stack in layer}
    sites = {stack.site for stack in found if stack.site}
    wanted = {StackName(layer, site, env) for layer in SITE_LAYERS for site in sites}
    return sorted(str(stack) for stack in wanted - found)


every_environment = pytest.mark.parametrize(
    "env",
    [
        pytest.param(env, marks=pytest.mark.skipif(bool(without_a_file(env)), reason=f"no {without_a_file(env)}"))
        for env in ("lab", "prod")
    ],
)


@pytest.fixture(autouse=True)
def _no_config_left() -> Iterator[None]:
    yield
    pulumi.runtime.set_all_config({})


@cache
def with_stand_ins(env: str) -> Mapping[str, StackDeclared]:
    """Every stack of the environment; what a provider would compute is the recording engine's."""
    workspace = Workspace.of(env)
    stacks: dict[str, StackDeclared] = {}
    recorded: dict[str, Mapping[str, Any]] = {}
    for stack in (stack for layer in workspace.order() for stack in layer):
        values = {"tandem:model_digest": DIGEST} if stack.layer == "serving" else {}
        values |= workspace.settings(stack)
        pulumi.runtime.set_all_config({k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items()})
        found = declared(str(stack), lambda stack=stack: _declare(stack), recorded)
        stacks[str(stack)] = found
        recorded[stack.qualified] = found.outputs
    return stacks


def _declare(stack: StackName) -> Any:
    return importlib.import_module(f"stacks.{stack.layer}").declare(stack, settings.read(stack.layer, stack.site))


@every_environment
def test_the_programs_keep_to_every_rule_when_all_is_known(env: str) -> None:
    found = judge(with_stand_ins(env))
    assert not found, "\n".join(map(str, found))


@every_environment
def test_the_programs_keep_to_every_rule_as_a_preview_sees_them(env: str) -> None:
    found = check(as_previewed(env).stacks)
    assert not found, "\n".join(map(str, found))


@every_environment
def test_what_a_preview_leaves_open_has_a_stand_in_that_decides_it(env: str) -> None:
    left = {found.rule for found in judge(as_previewed(env).stacks) if isinstance(found, Undecided)}
    decided = {rule.name for rule in RULES if not list(rule.verdicts(with_stand_ins(env)))}
    assert left <= decided


@every_environment
def test_rules_have_something_to_judge(env: str) -> None:
    """A rule about types nobody declares would be green for ever."""
    kinds = {resource.type for stack in with_stand_ins(env).values() for resource in stack.resources}
    idle = {rule.name for rule in RULES if rule.about and not kinds & set(rule.about)}
    assert idle == set()
