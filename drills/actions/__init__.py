"""Actions: what a drill changes on purpose. One file each; made again by kind and arguments where the undo stands."""

from __future__ import annotations

from typing import Any, Final

from drills.access import Cluster
from drills.actions.drain_mark import MarkDrained
from drills.actions.network_chaos import FlappingChaos, NetworkChaos
from drills.actions.network_policy import CutSources
from drills.actions.pods import KillPods
from drills.actions.power import PowerOff
from drills.actions.refused_writes import RefuseWrites
from drills.actions.scale import ScaleToZero
from drills.drill import Action, DrillError

ACTIONS: Final[dict[str, Any]] = {
    kind.kind: kind
    for kind in (
        CutSources,
        FlappingChaos,
        KillPods,
        MarkDrained,
        NetworkChaos,
        PowerOff,
        RefuseWrites,
        ScaleToZero,
    )
}
"""By the name a journal and a lease keep."""


def again(kind: str, cluster: Cluster, arguments: dict[str, Any]) -> Action:
    """The action another process wrote down. Raises DrillError for one this version does not know."""
    if kind not in ACTIONS:
        raise DrillError(f"action {kind!r} is not known; there are {', '.join(sorted(ACTIONS))}: use the same version")
    action: Action = ACTIONS[kind](cluster, **arguments)
    return action
