"""The arithmetic of a Deployment's rollout: how many pods the new and the old ReplicaSets may have now."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def resolved(value: int | str | None, default: int | str, total: int, *, up: bool) -> int:
    """A count, or a share of `total` written `25%`, rounded up or down."""
    value = default if value is None else value
    if isinstance(value, int):
        return value
    share = float(value.rstrip("%")) / 100 * total
    return math.ceil(share) if up else math.floor(share)


@dataclass(frozen=True)
class Limits:
    """What a rolling update must stay within."""

    replicas: int
    surge: int
    unavailable: int

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Limits:
        """From a Deployment's spec, with Kubernetes' defaults and roundings."""
        replicas = int(spec.get("replicas", 1))
        if (spec.get("strategy") or {}).get("type") == "Recreate":
            return cls(replicas, 0, 0)
        rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        surge = resolved(rolling.get("maxSurge"), "25%", replicas, up=True)
        unavailable = resolved(rolling.get("maxUnavailable"), "25%", replicas, up=False)
        if surge == 0 and unavailable == 0:
            unavailable = 1  # both round to nothing: without one of them no rollout could move
        return cls(replicas, surge, min(unavailable, replicas))


@dataclass(frozen=True)
class Count:
    """One ReplicaSet: pods asked for, and pods available."""

    wanted: int
    available: int


def rolling(limits: Limits, new: Count, old: Sequence[Count]) -> tuple[int, list[int]]:
    """The next sizes of the new ReplicaSet and of the old ones, oldest first.

    The rules of Kubernetes' deployment controller (pkg/controller/deployment/rolling.go): the new one grows while all
    together stay within replicas + surge; the old ones shrink, broken pods first, while what is available stays at
    least replicas - unavailable, counting the new one's pods that are not available yet as lost.
    """
    total = new.wanted + sum(each.wanted for each in old)
    grown = new.wanted
    if new.wanted > limits.replicas:
        grown = limits.replicas
    elif new.wanted < limits.replicas:
        room = limits.replicas + limits.surge - total
        grown = new.wanted + max(0, min(room, limits.replicas - new.wanted))
    floor = limits.replicas - limits.unavailable
    spare = total - floor - (new.wanted - new.available)
    sizes = [each.wanted for each in old]
    for index, each in enumerate(old):  # broken ones first: they serve nobody
        broken = min(max(0, each.wanted - each.available), max(0, spare))
        sizes[index] -= broken
        spare -= broken
    excess = new.available + sum(min(each.available, each.wanted) for each in old) - floor
    for index, size in enumerate(sizes):
        gone = min(size, max(0, excess))
        sizes[index] -= gone
        excess -= gone
    return grown, sizes


def recreate(limits: Limits, old_pods: int) -> tuple[int, int]:
    """The next size of the new ReplicaSet and of each old one: nothing new before everything old is gone."""
    return (0 if old_pods else limits.replicas), 0
