"""The whole of a preview: differences of all stacks, violated rules, and what kept stacks from being evaluated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from infra.policies import rules
from infra.policies.rule import Undecided, Violation
from stacks.contract import StackName
from stacks.preview.difference import Op, Setting, StackDifference, difference, walk
from stacks.preview.masking import Mask
from stacks.preview.revision import Evaluated, Settings

HEAD: Final = "program diff: no state, no drift"
"""What every form says first: nobody asked a cloud or a state."""
RULES: Final = "docs/policies.md"
"""Where each rule that is named stands, under its own name."""


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
    settings: Mapping[str, Settings] = field(default_factory=dict)
    """What each stack's program was given."""

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
        changed = _changed(old.settings.get(name), new.settings.get(name)) if old else ()
        stacks.append(replace(found, settings=changed))
    verdicts = rules.judge(new.stacks)
    violations = tuple(each for each in verdicts if not isinstance(each, Undecided))
    undecided = len(verdicts) - len(violations)
    secrets = new.secrets | (old.secrets if old else frozenset())
    return Report(env, against, tuple(stacks), violations, undecided, Mask(secrets), new.settings)


def _changed(old: Settings | None, new: Settings | None) -> tuple[Setting, ...]:
    """What stands otherwise in the settings; lists and mappings are compared in their parts, secrets as a whole.

    A key that is new, or gone, and has its default says nothing of this stack.
    """
    if old is None or new is None:
        return ()
    secret = old.secret | new.secret
    told = old.given | new.given | (set(old.values) & set(new.values))
    before, after = (
        {key: text if key in secret else _read(text) for key, text in each.values.items() if key in told}
        for each in (old, new)
    )
    return tuple(
        Setting(path=path, old=one, new=other, secret=any(path == key for key in secret))
        for path, one, other in walk(before, after)
    )


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
