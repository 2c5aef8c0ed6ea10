"""The whole of a preview: differences of all stacks, violated rules, and what kept stacks from being evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from infra.policies import rules
from infra.policies.rule import Undecided, Violation
from stacks.contract import StackName
from stacks.preview.difference import Op, StackDifference, difference
from stacks.preview.masking import Mask
from stacks.preview.revision import Evaluated

HEAD: Final = "program diff: no state, no drift"
"""What every form says first: nobody asked a cloud or a state."""


@dataclass(frozen=True)
class Report:
    """What a reviewer gets."""

    env: str
    against: str
    """The revision it is compared with; empty where everything declared is listed."""
    stacks: tuple[StackDifference, ...]
    violations: tuple[Violation, ...]
    undecided: int
    """So many verdicts hang on values that are known after `up` only."""
    mask: Mask

    @property
    def failed(self) -> bool:
        """Whether a stack could not be evaluated or a rule is violated."""
        return bool(self.violations) or any(each.errors for each in self.stacks)

    @property
    def counts(self) -> Counter[Op]:
        """How often each thing happens, in all stacks together."""
        return sum((Counter(each.counts) for each in self.stacks), Counter())


def report(env: str, order: Sequence[StackName], old: Evaluated | None, new: Evaluated, against: str) -> Report:
    """Compare what two revisions declare of the stacks asked for; without an old one everything is new.

    Stacks that are there no longer are told in any case.
    """
    names = [str(each) for each in order]
    gone = sorted(set(old.stacks if old else ()) - {*new.stacks, *new.errors})
    stacks = []
    for name in (*gone, *names):
        errors = tuple(new.errors.get(name, ()))
        before = old.stacks.get(name) if old else None
        if not errors and old is not None and name in old.errors:
            errors = (f"the revision {against} could not be evaluated: {old.errors[name][0]}",)
        found = StackDifference(name, (), errors) if errors else difference(name, before, new.stacks.get(name))
        stacks.append(found)
    verdicts = rules.judge(new.stacks)
    violations = tuple(each for each in verdicts if not isinstance(each, Undecided))
    undecided = len(verdicts) - len(violations)
    secrets = new.secrets | (old.secrets if old else frozenset())
    return Report(env, against, tuple(stacks), violations, undecided, Mask(secrets))
