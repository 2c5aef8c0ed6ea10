"""The folder of an environment's states: one file per stack, one run per stack at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from lab.engine.errors import StateError
from lab.engine.state import State
from lab.engine.values import mask, reveal


@dataclass(frozen=True)
class StateFolder:
    """States of the stacks of one environment."""

    path: Path

    def file(self, stack: str) -> Path:
        """Where a stack's state is."""
        return self.path / f"{stack}.json"

    def load(self, stack: str) -> State:
        """The stack's state; empty when it was never up."""
        return State.load(self.file(stack))

    def stacks(self) -> list[str]:
        """Stacks with a recorded state."""
        return sorted(each.stem for each in self.path.glob("*.json"))

    def outputs(self, stack: str) -> dict[str, object]:
        """Outputs of a stack that is up; StateError with the way there when it is not."""
        root = self.load(stack).root
        if root is None:
            env = stack.partition(".")[2] or "ENV"
            layer = stack.partition(".")[0]
            raise StateError(
                f"stack {stack!r} is not up ({self.file(stack)} records none); bring it up first: tandem up --env"
                f" {env} --stack {layer}"
            )
        return root.outputs

    def shown_outputs(self, stack: str, *, show_secrets: bool = False) -> dict[str, object]:
        """What `pulumi stack output --json` prints; StateError when the stack is not up."""
        recorded = self.outputs(stack)
        return dict(sorted((reveal(recorded) if show_secrets else mask(recorded)).items()))

    def restore(self, stack: str, source: Path) -> None:
        """Record the state of a file as the stack's; StateError when it is none, or another stack's."""
        if not source.exists():
            raise StateError(f"{source} is not there; name a file `pulumi stack export` or this engine wrote")
        state = State.load(source)
        for each in (*state.resources, *(operation.resource for operation in state.operations)):
            if not each.urn.startswith(f"urn:pulumi:{stack}::"):
                raise StateError(
                    f"{source} holds {each.urn}, which is of another stack than {stack!r}: take that one's"
                )
        with self.locked(stack):
            state.save(self.file(stack))

    @contextlib.contextmanager
    def locked(self, stack: str) -> Iterator[None]:
        """Hold the stack; StateError naming the holder when another run does.

        The kernel lets go of the lock when its holder dies, however it dies; pid and start time are for the message.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / f"{stack}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.read(lock, 4096).decode(errors="replace").strip() or "another process"
                raise StateError(
                    f"stack {stack!r} is in use by {holder}; one run per stack at a time: wait for it, or end it"
                ) from error
            os.ftruncate(lock, 0)
            holder = json.dumps({"pid": os.getpid(), "started": psutil.Process().create_time()})
            os.pwrite(lock, holder.encode(), 0)
            yield
            os.ftruncate(lock, 0)
        finally:
            os.close(lock)
