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

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills.access import API_TIMEOUT_SECONDS, Cluster
from drills.actions import again
from drills.drill import Action, DrillError, Prior
from drills.lease import DOCUMENT, RELEASED, RENEWED, STATE, State

LOOK_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
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

    def say(self, state: str) -> None:
        """Write the state where the drill's host looks for it."""
        self.cluster.core.patch_namespaced_config_map(
            self.name, self.namespace, {"data": {STATE: state}}, _request_timeout=API_TIMEOUT_SECONDS
        )


def watch(
    read: Callable[[], Mapping[str, str]],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Wait while renewals come; `released` or `expired`. An API that is silent brings no renewal either."""
    renewed, last = "", clock()
    while True:
        try:
            data = read()
        except (ApiException, HTTPError, OSError) as error:
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
) -> list[str]:
    """Undo in reverse until nothing is left or the deadline passes; what is left. No failure keeps the others back."""
    say = say or log
    end = time.monotonic() + deadline_seconds
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
        if not left or time.monotonic() > end:
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


def main() -> int:
    """Stand, wait, put back when nobody else does."""
    cluster = Cluster.inside(os.environ["KUBECONFIG_JSON"])
    kept = Kept(cluster, os.environ["NAMESPACE"], os.environ["LEASE"])
    document: dict[str, Any] = json.loads(kept.read()[DOCUMENT])
    actions = [(again(each["kind"], cluster, each["arguments"]), each["prior"]) for each in document["undo"]]
    kept.say(State.STANDING)
    log(f"standing: lease of {document['seconds']:g} s; to undo: {'; '.join(a.name for a, _ in actions)}")
    ending = watch(kept.read, document["seconds"])
    log("released by the drill" if ending == "released" else "the lease has run out: nobody renewed it")
    left = asyncio.run(put_back(actions))
    if left:
        log(f"NOT undone: {'; '.join(left)}")
        kept.say(State.FAILED)
        return 1
    log("nothing of the drill is left")
    kept.say(State.CLEAN if ending == "released" else State.UNDONE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
