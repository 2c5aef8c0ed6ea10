"""Every drill there is, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drills import control_plane_down, drain, failback, node_loss, pod_loss, switchover
from drills.choice import Choice
from drills.drill import Drill, NotRun
from stacks.contract import Deployment

CATALOGUE: Final[dict[str, Callable[[Deployment, Choice], Drill]]] = {
    module.NAME: module.drill for module in (control_plane_down, drain, failback, node_loss, pod_loss, switchover)
}


def find(name: str, deployment: Deployment, choice: Choice) -> Drill:
    """The drill of that name. Raises NotRun for one that is not known, or has no such fault."""
    title(name, choice.fault)
    return CATALOGUE[name](deployment, choice)


def title(name: str, fault: str = "") -> str:
    """What a drill asked for like this calls itself. Raises NotRun as `find` does."""
    if name not in CATALOGUE:
        raise NotRun(f"drill {name!r} is not known; there are {', '.join(sorted(CATALOGUE))}")
    if name == switchover.NAME:
        return f"{name}-{switchover.known_fault(fault)}"
    if fault:
        raise NotRun(f"fault {fault!r}: drill {name} has none to choose; leave it out")
    return name
