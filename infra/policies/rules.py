"""All rules, and how an environment is held against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from infra.policies import (
    cluster,
    credentials,
    identity,
    kept,
    pool,
    residency,
    rollout,
    serving,
    sites,
    storage,
    traffic,
)
from infra.policies.declared import StackDeclared
from infra.policies.rule import Rule, Undecided, Violation

__all__ = ["RULES", "Rule", "Undecided", "Violation", "check", "judge", "undecided"]

RULES: Final[tuple[Rule, ...]] = (
    *storage.RULES,
    *residency.RULES,
    *identity.RULES,
    *kept.RULES,
    *credentials.RULES,
    *pool.RULES,
    *cluster.RULES,
    *rollout.RULES,
    *serving.RULES,
    *traffic.RULES,
    *sites.RULES,
)


def judge(stacks: Mapping[str, StackDeclared]) -> list[Violation]:
    """Every verdict that is not plain yes, in the order of the rules: violations, and Undecided ones among them."""
    return [verdict for rule in RULES for verdict in rule.verdicts(stacks)]


def check(stacks: Mapping[str, StackDeclared]) -> list[Violation]:
    """Every violation; what hangs on a value that is not known yet is in `undecided`."""
    return [verdict for verdict in judge(stacks) if not isinstance(verdict, Undecided)]


def undecided(stacks: Mapping[str, StackDeclared]) -> list[Undecided]:
    """What cannot be judged before values are known."""
    return [verdict for verdict in judge(stacks) if isinstance(verdict, Undecided)]
