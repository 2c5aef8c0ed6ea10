"""A new model version at one site, in two steps and one site at a time.

Gateways refuse an answer whose version they do not accept. So they first learn to accept the new version beside the
old one, while Triton still serves the old; only then Triton rolls. No pod ever answers what a gateway does not accept.

With gates every change of a serving stack, not only a new version, goes one site at a time: gates say whether it may
begin, and afterwards whether the next site may follow.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Final, Protocol

from stacks.contract import PROJECT, StackName
from stacks.runs import Engine, Progress, StackFailed
from stacks.workspace import Workspace

LAYER: Final = "serving"
DIGEST_KEY: Final = f"{PROJECT}:model_digest"
ACCEPTED_KEY: Final = f"{PROJECT}:accepted_digests"
UNCHANGED: Final = frozenset({"same", "read", "refresh"})
"""Operations after which a site is as it was."""


class GateError(Exception):
    """A change of a site that may not begin, or that the next site may not follow; says why and what to do."""


class Gates(Protocol):
    """What is asked of the sites before one of them is changed and after it was."""

    def before(self, stack: StackName) -> None:
        """Raise GateError when the change of this site may not begin."""

    def after(self, stack: StackName) -> None:
        """Raise GateError when the change has hurt, so that no other site follows."""


GatesOf = Callable[[Workspace, Engine, Callable[[str], None], Collection[str]], Gates | None]
"""The gates of one `up`: where to say things, and the sites known to be ill; none while nobody is served yet."""


class Rollout:
    """The rollouts of one `up`: sites take turns, and after one that failed no other begins."""

    def __init__(self, workspace: Workspace, engine: Engine, progress: Progress, gates: Gates | None = None) -> None:
        self._workspace = workspace
        self._engine = engine
        self._progress = progress
        self._gates = gates
        self._turn = threading.Lock()
        self._failed: StackName | None = None

    def up(self, stack: StackName) -> dict[str, int]:
        """Bring a stack up, in two steps when its version changes; the steps taken by operation. Raises StackFailed."""
        if stack.layer != LAYER:
            return self._engine.up(stack, self._progress)
        first = between(self._workspace.settings(stack), self._engine.outputs(stack) or {})
        if first is None and self._gates is None:
            return self._engine.up(stack, self._progress)
        with self._turn:
            if self._failed is not None:
                raise StackFailed(
                    stack, f"its rollout was not begun, because that of {self._failed} failed: see to that one first"
                )
            try:
                return self._through_gates(stack, first)
            except GateError as error:
                self._failed = stack
                raise StackFailed(stack, str(error)) from error
            except BaseException:
                self._failed = stack
                raise

    def _through_gates(self, stack: StackName, first: dict[str, Any] | None) -> dict[str, int]:
        if self._gates is not None:
            self._gates.before(stack)
        counts = self._engine.up(stack, self._progress) if first is None else self._two_steps(stack, first)
        if self._gates is not None and set(counts) - UNCHANGED:
            self._gates.after(stack)
        return counts

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


def previewed(
    workspace: Workspace, engine: Engine, stack: StackName, progress: Progress, *, steps: bool
) -> dict[str, Any]:
    """What `up` would do with the stack. With `steps` the first of two is previewed too, so that both are planned."""
    if steps and stack.layer == LAYER:
        first = between(workspace.settings(stack), engine.outputs(stack) or {})
        if first is not None:
            progress.message(stack, "info", "rollout 1 of 2, then as a whole:")
            with workspace.passing(stack, first):
                engine.preview(stack, progress)
    return engine.preview(stack, progress)


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
