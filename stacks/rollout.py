"""A new model version at one site, in two steps and one site at a time.

Gateways refuse an answer whose version they do not accept. So they first learn to accept the new version beside the
old one, while Triton still serves the old; only then Triton rolls. No pod ever answers what a gateway does not accept.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Final

from stacks.contract import PROJECT, StackName
from stacks.runs import Engine, Progress, StackFailed
from stacks.workspace import Workspace

LAYER: Final = "serving"
DIGEST_KEY: Final = f"{PROJECT}:model_digest"
ACCEPTED_KEY: Final = f"{PROJECT}:accepted_digests"


class Rollout:
    """The rollouts of one `up`: sites take turns, and after one that failed no other begins."""

    def __init__(self, workspace: Workspace, engine: Engine, progress: Progress) -> None:
        self._workspace = workspace
        self._engine = engine
        self._progress = progress
        self._turn = threading.Lock()
        self._failed: StackName | None = None

    def up(self, stack: StackName) -> dict[str, int]:
        """Bring a stack up, in two steps when its version changes; the steps taken by operation. Raises StackFailed."""
        if stack.layer != LAYER:
            return self._engine.up(stack, self._progress)
        recorded = self._engine.outputs(stack) or {}
        first = between(self._workspace.settings(stack), recorded)
        if first is None:
            return self._engine.up(stack, self._progress)
        with self._turn:
            if self._failed is not None:
                raise StackFailed(
                    stack, f"its rollout was not begun, because that of {self._failed} failed: see to that one first"
                )
            try:
                return self._two_steps(stack, first)
            except BaseException:
                self._failed = stack
                raise

    def _two_steps(self, stack: StackName, first: dict[str, Any]) -> dict[str, int]:
        new, old = self._workspace.settings(stack)[DIGEST_KEY], first[DIGEST_KEY]
        self._progress.message(stack, "info", f"rollout 1 of 2: the gateways accept {new} beside {old}")
        with self._workspace.passing(stack, first):
            counts = Counter(self._engine.up(stack, self._progress))
        self._progress.message(stack, "info", f"rollout 2 of 2: {new} is served")
        last = self._engine.up(stack, self._progress)
        # What stayed as it was is counted once.
        counts.pop("same", None)
        return dict(counts + Counter(last))


def between(settings: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any] | None:
    """Settings of the first of two steps; None where one is enough: a first creation, or a version accepted already."""
    new, old = settings.get(DIGEST_KEY), recorded.get("model_digest")
    accepted = list(recorded.get("accepted_digests") or ([old] if old else []))
    if not new or not old or new in accepted:
        return None
    # Without a list of its own the stack accepts only the new version in the end, so the gateways roll once more
    # anyway: all that was accepted stays so until then. An earlier rollout may have ended half-way.
    listed = settings.get(ACCEPTED_KEY) or [new, *accepted]
    return {DIGEST_KEY: old, ACCEPTED_KEY: list(dict.fromkeys([old, *listed, new]))}
