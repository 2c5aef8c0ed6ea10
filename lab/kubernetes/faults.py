"""Chaos Mesh's NetworkChaos and HTTPChaos as the links understand them: whom they hit, what they do, until when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lab.kubernetes.api.objects import Object, labels_of, name_of, namespace_of, terminating, uid_of

PAUSED: Final = "experiment.chaos-mesh.org/pause"
"""Annotation that lifts a fault for as long as it says "true"."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(bps|bit)", re.IGNORECASE)
_POWER: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class FaultError(ValueError):
    """A fault the lab's links cannot act out."""


@dataclass(frozen=True)
class PodSet:
    """Pods by namespace and labels."""

    namespaces: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]

    def __contains__(self, pod: Object | None) -> bool:
        if pod is None or namespace_of(pod) not in self.namespaces:
            return False
        labels = labels_of(pod)
        return all(labels.get(key) == value for key, value in self.labels)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One declared fault of links."""

    key: str
    action: str
    """delay, bandwidth, partition or abort."""
    selected: PodSet
    target: PodSet | None = None
    """Whose packets to and from the selected pods are meant; None: everybody's."""
    direction: str = "to"
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = 0.0
    port: int = 0
    """Of an abort."""
    side: str = "Request"
    """Of an abort: what has to pass before the reset."""

    def hits(self, sender: Object | None, receiver: Object | None) -> bool:
        """Whether packets of this direction are hit; None is an end outside of the cluster."""

        def meant(pod: Object | None) -> bool:
            return self.target is None or pod in self.target

        outgoing = self.direction in {"to", "both"} and sender in self.selected and meant(receiver)
        incoming = self.direction in {"from", "both"} and receiver in self.selected and meant(sender)
        return outgoing or incoming


def seconds(text: Any) -> float:
    """A Go duration such as 1m30s."""
    parts = _DURATION.findall(str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise FaultError(f"{text!r} is not a duration; write it like 200ms or 1m30s")
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def bytes_per_second(text: Any) -> float:
    """A rate as tc reads it in Chaos Mesh: 1mbps is 1024 * 1024 bytes a second, 1mbit a million bits."""
    found = _RATE.fullmatch(str(text).strip())
    if not found or float(found[1]) <= 0:
        raise FaultError(f"{text!r} is not a rate; write it like 1mbps, which is 1 MiB a second")
    power = _POWER[found[2].lower()]
    return float(found[1]) * (1024.0**power if found[3].lower() == "bps" else 1000.0**power / 8)


def fault_of(obj: Object) -> Fault:
    """What the object declares; FaultError for what the links do not act out."""
    spec = obj["spec"]
    _all(spec)
    key, selected = f"{obj['kind']}/{namespace_of(obj)}/{name_of(obj)}/{uid_of(obj)}", _pods(spec, obj)
    if obj["kind"] == "HTTPChaos":
        return _abort(key, selected, spec)
    action, direction = spec.get("action"), spec.get("direction") or "to"
    target = spec.get("target")
    if target is not None:
        _all(target)
    elif direction != "to" and (action != "partition"):
        raise FaultError(f"direction {direction!r} needs a target; name one or use direction 'to'")
    common: dict[str, Any] = {
        "key": key,
        "action": action,
        "selected": selected,
        "target": _pods(target, obj) if target is not None else None,
        "direction": direction,
    }
    if spec.get("externalTargets"):
        raise FaultError("externalTargets are not acted on; cut sources with a NetworkPolicy's ipBlock")
    if action == "partition":
        return Fault(**common)
    if action == "delay":
        delay = spec.get("delay") or {}
        return Fault(
            **common,
            delay_seconds=seconds(delay.get("latency") or ""),
            jitter_seconds=seconds(delay["jitter"]) if str(delay.get("jitter") or "0") not in {"0", ""} else 0.0,
        )
    if action == "bandwidth":
        return Fault(**common, bytes_per_second=bytes_per_second((spec.get("bandwidth") or {}).get("rate") or ""))
    raise FaultError(f"action {action!r} is not acted on; use delay, bandwidth or partition")


def _abort(key: str, selected: PodSet, spec: Mapping[str, Any]) -> Fault:
    if spec.get("abort") is not True:
        raise FaultError(f"abort {spec.get('abort')!r} is not acted on; the lab's HTTPChaos needs abort: true")
    if (path := spec.get("path") or "*") not in {"*", "/*"} or spec.get("method"):
        raise FaultError(f"path {path!r}, method {spec.get('method')!r}: the lab resets every request of the port")
    return Fault(
        key=key, action="abort", selected=selected, port=int(spec["port"]), side=spec.get("target") or "Request"
    )


def _all(chosen: Mapping[str, Any]) -> None:
    if chosen.get("mode") != "all":
        raise FaultError(f"mode {chosen.get('mode')!r} is not acted on; use all")


def _pods(chosen: Mapping[str, Any], obj: Object) -> PodSet:
    selector = chosen.get("selector") or {}
    namespaces = selector.get("namespaces") or [namespace_of(obj)]
    return PodSet(tuple(namespaces), tuple(sorted((selector.get("labelSelectors") or {}).items())))


def ends(obj: Object) -> datetime | None:
    """When the fault is over, counted from its creation; None for one that stays until it is deleted."""
    duration = obj["spec"].get("duration")
    if not duration:
        return None
    created = datetime.strptime(obj["metadata"]["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return created + timedelta(seconds=seconds(duration))


def paused(obj: Object) -> bool:
    """Whether its annotation lifts it for now."""
    return (obj["metadata"].get("annotations") or {}).get(PAUSED) == "true"


def runs(obj: Object, now: datetime) -> bool:
    """Whether the fault acts at this moment."""
    try:
        fault_of(obj)
        end = ends(obj)
    except FaultError:
        return False
    return not terminating(obj) and not paused(obj) and (end is None or now < end)
