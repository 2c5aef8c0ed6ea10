"""Every rule red once and green once, and what hangs on unknown values neither."""

from __future__ import annotations

import pytest

from infra.policies.declared import UNKNOWN
from infra.policies.rules import RULES, Undecided, check, judge, undecided
from tests.infra import policy_cases_cloud, policy_cases_cluster, policy_cases_guarded, policy_cases_storage
from tests.infra.policy_case import Case, made, stack

MODULES = (policy_cases_storage, policy_cases_guarded, policy_cases_cloud, policy_cases_cluster)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
BY_NAME = {rule.name: rule for rule in RULES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}: {case.title}")
def test_a_rule_says_what_it_has_to(case: Case) -> None:
    verdicts = list(BY_NAME[case.rule].verdicts(case.stacks))
    broken = [found for found in verdicts if not isinstance(found, Undecided)]
    shown = "\n".join(map(str, verdicts))
    assert bool(broken) == (case.verdict == "red"), shown
    if case.verdict != "red":
        assert bool(verdicts) == (case.verdict == "open"), shown
    assert case.verdict != "red" or any(case.says in found.message for found in broken), shown


@pytest.mark.parametrize("verdict", ["red", "green"])
def test_every_rule_is_tried_both_ways(verdict: str) -> None:
    tried = {case.rule for case in CASES if case.verdict == verdict}
    assert {rule.name for rule in RULES} - tried == set(), f"rules without a {verdict} case"


def test_every_case_is_about_a_rule_that_exists() -> None:
    assert {case.rule for case in CASES} <= set(BY_NAME)


def test_names_are_used_once_and_written_alike() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert all(name == name.lower() and " " not in name and "_" not in name for name in names)
    assert len(names) >= 20


def test_sentences_end_and_messages_tell_value_rule_and_remedy() -> None:
    for rule in RULES:
        assert rule.says.endswith("."), rule.name
    for case in CASES:
        for found in BY_NAME[case.rule].check(case.stacks):
            assert ": " in found.message, f"{found.rule} names no remedy: {found.message}"
            assert "; " in found.message, f"{found.rule} names no rule: {found.message}"


def test_a_violation_names_stack_resource_and_rule() -> None:
    [case] = [case for case in CASES if (case.rule, case.title) == ("key-rotates", "never")]
    [found] = BY_NAME[case.rule].check(case.stacks)
    assert str(found).startswith("storage-private.prod: k: enableKeyRotation is None")
    assert str(found).endswith("[key-rotates]")


def test_what_is_undecided_is_no_violation_and_is_told() -> None:
    [case] = [case for case in CASES if (case.rule, case.title) == ("edge-kept", "not known")]
    assert [found.rule for found in judge(case.stacks)] == ["edge-kept"]
    assert check(case.stacks) == []
    assert [found.rule for found in undecided(case.stacks)] == ["edge-kept"]
    assert "known after `up` only" in undecided(case.stacks)[0].message


def test_no_rule_stumbles_over_what_is_not_known_or_not_there() -> None:
    """A preview judges programs of any revision, half-known ones among them."""
    kinds = {resource.type for case in CASES for held in case.stacks.values() for resource in held.resources}
    for shape in ({}, {"spec": UNKNOWN, "metadata": UNKNOWN}, {"spec": {"template": UNKNOWN}, "policy": "no JSON"}):
        for kind in sorted(kinds):
            judge(stack("serving-private.prod", made("serving-private.prod", kind, "x", shape)))
    for case in CASES:
        for held in case.stacks.values():
            for resource in held.resources:
                unknown = dict.fromkeys(resource.inputs, UNKNOWN)
                judge(stack(held.stack, made(held.stack, resource.type, "x", unknown)))
