"""What a drill that died has left: its lease undoes it, and the next drill makes sure before it starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drills.access import API_ERRORS, API_TIMEOUT_SECONDS, answered, cluster
from drills.actions import again
from drills.actions.drain_mark import MarkDrained
from drills.actions.on_cluster import THREADS
from drills.drill import Action, DrillError, NotRun, Prior, Verdict
from drills.journal import OPEN, unfinished, write_json
from drills.lease import DOCUMENT, Lease, State
from drills.lease_job import DRILL_LABEL
from drills.undo import put_back
from stacks.contract import Deployment

MARGIN_SECONDS = 60.0
"""For a lease's own undo, beyond the time it waits."""

Say = Callable[[str], None]


async def left_behind(deployment: Deployment, site: str) -> list[Lease]:
    """Leases in a site that no drill has taken away, its host being dead."""
    namespace = deployment.serving[site].namespace

    def ask() -> Any:
        listing = cluster(deployment, site).core.list_namespaced_config_map
        return listing(namespace, label_selector=DRILL_LABEL, _request_timeout=API_TIMEOUT_SECONDS)

    try:
        found = await answered(ask, THREADS)
    except (*API_ERRORS, DrillError) as error:
        raise NotRun(f"{site}: cannot look for leases that were left behind: {error}") from error
    try:
        return [
            Lease(
                deployment,
                site,
                str(each.metadata.labels[DRILL_LABEL]),
                float(json.loads(each.data[DOCUMENT])["seconds"]),
            )
            for each in found.items
        ]
    except (TypeError, KeyError, ValueError) as error:
        names = ", ".join(each.metadata.name for each in found.items)
        raise NotRun(f"{site}: a ConfigMap of {names} is no lease ({error!r}); look at it and delete it") from error


async def leases(deployment: Deployment, say: Say, *, undo: bool) -> None:
    """Wait for the end of every lease a dead drill left behind, and take it away.

    With `undo`, what one has not put back in time is put back from here. Raises NotRun for one that does not end
    otherwise. For whoever holds the environment's lock: no living drill has a lease then.
    """
    for site in sorted(deployment.traffic.sites):
        for lease in await left_behind(deployment, site):
            say(f"{lease.name} stands in {site}: its drill died; waiting for its undo")
            try:
                state = await lease.ended(lease.seconds + MARGIN_SECONDS)
                for line in (await lease.log()).splitlines():
                    say(f"undo in {site}: {line}")
                if state == State.WAITING:
                    say(f"{lease.name} never stood, so its drill changed nothing")
                elif state not in State.NOTHING_LEFT:
                    await _take_over(deployment, lease, state, say, undo=undo)
            except DrillError as error:
                raise NotRun(f"{lease.name} in {site}: {error}") from error
            await lease.remove()


async def _take_over(deployment: Deployment, lease: Lease, state: str, say: Say, *, undo: bool) -> None:
    """Do what a lease has not done. Raises DrillError for what is left."""
    if not undo:
        raise DrillError(
            f"it has not undone what its drill did: it is {state or 'silent'};"
            f" undo it from here: tandem drill undo --env {deployment.env}"
        )
    actions = _actions(deployment, (await lease.document())["undo"])
    if left := await put_back(actions, MARGIN_SECONDS, say):
        raise DrillError(f"not undone from here either: {'; '.join(left)}")


async def journals(deployment: Deployment, folder: Path, say: Say, *, undo: bool) -> list[Path]:
    """Close the journals of drills that died, once nothing of them is left; the paths closed.

    With `undo`, what is left is put back from here. Raises NotRun for what is left otherwise.
    """
    closed = []
    for path in unfinished(folder, deployment.traffic.zone_id):
        content = json.loads(path.read_text(encoding="utf-8"))
        for action, prior in actions_of(deployment, content):
            if left := await action.residue(prior):
                if not undo:
                    raise NotRun(
                        f"{path} has changed something that was not put back ({'; '.join(left)});"
                        f" undo it: tandem drill undo --env {deployment.env}"
                    )
                await action.undo(prior)
                if left := await action.residue(prior):
                    raise NotRun(f"{action.name} ({path.name}): undone, and still there: {'; '.join(left)}")
                say(f"undone: {action.name} ({path.name})")
        content["undo"]["done"] = True
        if content["status"] == OPEN:
            content.update(status=str(Verdict.ABORTED), reason="the drill died; nothing of it is left")
        write_json(path, content)
        closed.append(path)
    return closed


def actions_of(deployment: Deployment, content: dict[str, Any]) -> list[tuple[Action, Prior]]:
    """A journal's actions with their prior states, the last applied first."""
    return _actions(deployment, content["undo"]["actions"])[::-1]


def _actions(deployment: Deployment, documents: list[dict[str, Any]]) -> list[tuple[Action, Prior]]:
    """The actions a drill has written down, in the order it applied them."""
    made = []
    for each in documents:
        action = again(each["kind"], cluster(deployment, each["arguments"]["site"]), each["arguments"])
        made.append((action.at_host(deployment) if isinstance(action, MarkDrained) else action, dict(each["prior"])))
    return made
