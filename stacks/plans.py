"""Saved plans: what a preview of the CLI said each stack would do, in files that an `up` can be held to.

Beside each plan lies how its secrets are encrypted: a stack whose settings hold no secret gets a salt of its own on
each machine, and what one machine encrypted another would not read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stacks.contract import StackName
from stacks.runs import EngineError, StackFailed
from stacks.workspace import replace_file

VIOLATIONS: Final = ("violates plan", "not allowed by the plan", "decrypting secret value")
"""What the CLI says when a plan and what it finds do not go together."""


@dataclass(frozen=True)
class Plans:
    """A folder of them: `STACK.json`, and `STACK.first.json` of a stack that changes in two steps."""

    folder: Path

    def path(self, stack: StackName, *, first: bool = False) -> Path:
        """Where the plan of a stack lies, or of the first of its two steps."""
        return self.folder.absolute() / f"{stack}{'.first' if first else ''}.json"

    def begin(self, stack: StackName, *, first: bool = False) -> Path:
        """Where the CLI is to save one. What an earlier preview left there is gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(stack, first=first)
        for each in _files(path):
            each.unlink(missing_ok=True)
        return path

    def keep(self, path: Path, encryption: Mapping[str, str]) -> None:
        """Note how the secrets in a plan are encrypted: none of these values is a secret."""
        replace_file(path.with_suffix(".encryption"), json.dumps(dict(encryption)))

    def encryption(self, path: Path) -> dict[str, str]:
        """How they are."""
        try:
            return dict(json.loads(path.with_suffix(".encryption").read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise EngineError(f"{path.with_suffix('.encryption')} cannot be read: {error}; preview again") from error

    def planned(self, stack: StackName, *, first: bool) -> Path:
        """The plan to hold an `up` to. Raises StackFailed when there is none."""
        path = self.path(stack, first=first)
        if not path.exists():
            step = "the first step of its rollout" if first else "it"
            raise StackFailed(stack, f"{self.folder} holds no plan of {step}; {again(stack.env)}")
        return path

    def check(self, stacks: Iterable[StackName]) -> None:
        """Raise EngineError before anything begins when a stack has no plan, or half of one."""
        missing = [str(stack) for stack in stacks if not all(each.exists() for each in _files(self.path(stack)))]
        if missing:
            raise EngineError(
                f"{self.folder} holds no plan of {', '.join(missing)}; {again(missing[0].rpartition('.')[2])},"
                " or bring up what is planned only: --stack, --layer"
            )


def _files(plan: Path) -> tuple[Path, Path]:
    """What the CLI saved, and how the secrets in it are encrypted."""
    return plan, plan.with_suffix(".encryption")


def again(env: str) -> str:
    """How plans are made."""
    return f"preview them and have that looked at: tandem preview --env {env} --engine cli --plans FOLDER"


def explained(failure: StackFailed) -> StackFailed:
    """A failure with what to do when it is the plan that stands in the way."""
    if not any(words in failure.reason for words in VIOLATIONS):
        return failure
    return StackFailed(
        failure.stack,
        f"{failure.reason}; settings, programs or what is recorded are not what they were when it was planned:"
        f" {again(failure.stack.env)}",
    )
