"""The program of a lease's Job, `python -m drills.undo`: waits for renewals, and puts everything back when none come.

It says each step in its log. It ends with 0 once nothing of the drill is left, however that came about.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from drills import rights
from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, Cluster
from drills.actions import again
from drills.drill import Action, DrillError, Prior, completed
from drills.lease import DOCUMENT, RELEASED, RENEWED, STATE, WHY, State, awake_or_not

LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
LATE_SECONDS: Final = 15.0
"""So long after the lease has run out a change its host had sent before may still land: a call's deadline and more."""
UNDO_SECONDS: Final = 300.0
"""So long it tries; then the Job fails, is started again by its back-off limit, and tries again."""


@dataclass(frozen=True)
class Kept:
    """The ConfigMap of a lease, read and written from inside the site."""

    cluster: Cluster
    namespace: str
    name: str

    def read(self) -> Mapping[str, str]:
        """Its data. Raises ApiException, HTTPError or OSError."""
        found = self.cluster.core.read_namespaced_config_map(
            self.name, self.namespace, _request_timeout=API_TIMEOUT_SECONDS
        )
        return dict(found.data or {})

    def say(self, state: str, why: str = "") -> None:
        """Write the state where the drill's host looks for it. Raises as `read` does."""
        self.cluster.core.patch_namespaced_config_map(
            self.name, self.namespace, {"data": {STATE: state, WHY: why}}, _request_timeout=API_TIMEOUT_SECONDS
        )


def watch(
    read: Callable[[], Mapping[str, str]],
    seconds: float,
    *,
    clock: Callable[[], float] = awake_or_not,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait while renewals come; `released` or `expired`. An API that is silent brings no renewal either."""
    renewed, last = "", clock()
    while True:
        try:
            data = read()
        except API_ERRORS as error:
            log(f"the lease cannot be read: {type(error).__name__}: {str(error)[:200]}")
            data = {RENEWED: renewed}
        if data.get(RELEASED):
            return "released"
        if data.get(RENEWED, "") != renewed:
            renewed, last = data.get(RENEWED, ""), clock()
        if clock() - last > seconds:
            return "expired"
        sleep(LOOK_SECONDS)


async def put_back(
    actions: list[tuple[Action, Prior]],
    deadline_seconds: float = UNDO_SECONDS,
    say: Callable[[str], None] | None = None,
    late_seconds: float = 0.0,
) -> list[str]:
    """Undo in reverse until nothing is left or the deadline passes; what is left. No failure keeps the others back.

    For `late_seconds` it goes on looking all the same: what was on its way may land still.
    """
    say = say or log
    began = time.monotonic()
    left: list[str] = []
    while True:
        for action, prior in reversed(actions):
            try:
                if await action.residue(prior):
                    say(f"undoing: {action.name}")
                    await action.undo(prior)
                    say(f"undone: {action.name}")
            except Exception as error:  # noqa: BLE001  a defect in one undo must not keep the others back
                say(f"not undone yet: {action.name}: {type(error).__name__}: {error}")
        left = await residue(actions)
        passed = time.monotonic() - began
        if passed > deadline_seconds or (not left and passed >= late_seconds):
            return left
        await asyncio.sleep(RETRY_SECONDS)


async def residue(actions: list[tuple[Action, Prior]]) -> list[str]:
    """What of the actions is still there, or cannot be asked about."""
    found: list[str] = []
    for action, prior in actions:
        try:
            found += await action.residue(prior)
        except Exception as error:  # noqa: BLE001  what cannot be asked about counts as left
            found.append(str(error) if isinstance(error, DrillError) else f"{action.name}: {error!r}")
    return found


def log(text: str) -> None:
    """One line of the Job's log."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stdout.flush()


async def undone(kept: Kept, actions: list[tuple[Action, Prior]], late_seconds: float) -> list[str]:
    """Put back, having said so first: a host that still renews has to hear that nobody waits any more."""

    async def announced() -> None:
        while True:
            if await _said(kept, State.UNDOING):
                return
            await asyncio.sleep(RETRY_SECONDS)

    telling = asyncio.ensure_future(announced())
    try:
        # An API that is silent keeps nothing from being put back: it is told as soon as it listens.
        await asyncio.wait([telling], timeout=API_TIMEOUT_SECONDS)
        return await put_back(actions, late_seconds=late_seconds)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _said(kept: Kept, state: str) -> bool:
    """Whether it was heard; what was sent is waited for, so that no later word is overwritten."""
    try:
        await completed(asyncio.ensure_future(asyncio.to_thread(kept.say, state)))
    except API_ERRORS as error:
        log(f"cannot say {state!r}: {type(error).__name__}: {str(error)[:200]}")
        return False
    return True


def stand(kept: Kept, actions: list[tuple[Action, Prior]], seconds: float) -> str:
    """Say that it stands, if it could undo, and wait: `released` or `expired`; else why it could not, as DrillError."""
    if why := asyncio.run(rights.missing(kept.cluster, kept.name, actions, log)):
        raise DrillError("; ".join(why))
    kept.say(State.STANDING)
    log(f"standing: lease of {seconds:g} s; to undo: {'; '.join(action.name for action, _ in actions)}")
    return watch(kept.read, seconds)


def main() -> int:
    """Stand, wait, put back when nobody else does."""
    cluster = Cluster.inside(os.environ["KUBECONFIG_JSON"])
    kept = Kept(cluster, os.environ["NAMESPACE"], os.environ["LEASE"])
    data = kept.read()
    document: dict[str, Any] = json.loads(data[DOCUMENT])
    actions = [(again(each["kind"], cluster, each["arguments"]), each["prior"]) for each in document["undo"]]
    if data.get(STATE) in (State.WAITING, State.STANDING):
        try:
            ending = stand(kept, actions, document["seconds"])
        except DrillError as error:
            log(f"cannot undo from here: {error}")
            kept.say(State.FAILED, str(error)[:1000])
            return 1
        log("released by the drill" if ending == "released" else "the lease has run out: nobody renewed it")
    else:
        # One that was at it before was stopped: what has begun to undo never stands again.
        ending = "released" if data.get(RELEASED) else "expired"
        log(f"started again; the undo is {data.get(STATE)}: going on")
    left = asyncio.run(undone(kept, actions, 0.0 if ending == "released" else LATE_SECONDS))
    if left:
        log(f"NOT undone: {'; '.join(left)}")
        kept.say(State.FAILED, "; ".join(left)[:1000])
        return 1
    log("nothing of the drill is left")
    kept.say(State.CLEAN if ending == "released" else State.UNDONE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
