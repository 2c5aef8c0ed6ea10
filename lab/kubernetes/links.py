"""What policies and faults make of every connection to a pod, as declared at one moment. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from lab.kubernetes import faults, policy
from lab.kubernetes.api.objects import Object, labels_of, name_of, namespace_of, uid_of
from lab.kubernetes.faults import Fault
from lab.kubernetes.policy import EVERYONE, NOBODY, Admission

Address = tuple[str, int]


@dataclass(frozen=True)
class Source:
    """Who opened a connection."""

    address: str
    pod_uid: str = ""
    """Empty for one outside of the cluster's pods."""


@dataclass(frozen=True)
class Limit:
    """A rate that all flows with the same share have together."""

    share: str
    bytes_per_second: float


@dataclass(frozen=True)
class Shape:
    """What happens to the bytes of one direction."""

    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    limits: tuple[Limit, ...] = ()
    resets: bool = False
    """The first byte from now on resets the connection."""


CLEAR_SHAPE = Shape()


@dataclass(frozen=True)
class Link:
    """What happens to one connection."""

    cut: bool = False
    upstream: Shape = CLEAR_SHAPE
    downstream: Shape = CLEAR_SHAPE


CLEAR = Link()
CUT = Link(cut=True)


@dataclass(frozen=True)
class Links:
    """All links of a site; two are equal when they treat every connection alike."""

    policies: tuple[Object, ...] = ()
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    """By address; empty while nothing is declared."""
    faults: tuple[Fault, ...] = ()
    until: datetime | None = None
    """When a fault ends by itself."""

    @classmethod
    def declared(
        cls,
        *,
        policies: Iterable[Object],
        namespaces: Iterable[Object],
        pods: Iterable[Object],
        chaos: Iterable[Object],
        now: datetime | None = None,
    ) -> Links:
        """From the objects of a cluster; everything that no link depends on is left out."""
        now = now or datetime.now(UTC)
        running = [each for each in chaos if faults.runs(each, now)]
        ruled = tuple(_only(each, "spec") for each in policies)
        if not ruled and not running:
            return NOTHING
        return cls(
            policies=ruled,
            namespaces={
                name_of(each): {"kubernetes.io/metadata.name": name_of(each), **labels_of(each)} for each in namespaces
            },
            pods={each["status"]["podIP"]: _pod(each) for each in pods if _addressed(each)},
            faults=tuple(faults.fault_of(each) for each in running),
            until=min((end for end in map(faults.ends, running) if end), default=None),
        )

    def concerns(self, backend: Address) -> bool:
        """Whether anything declared may touch connections to it; most often the answer is no, and fast."""
        if self.faults or any(policy.rules_going(each) for each in self.policies):
            return True
        pod = self.pods.get(backend[0])
        return pod is not None and any(policy.selects(each, pod) for each in self.policies)

    def gate(self, backends: Iterable[Address]) -> Admission:
        """Who may reach at least one of the backends."""
        found, seen = NOBODY, False
        for backend in backends:
            found, seen = found | self._admission(backend), True
        return found if seen else EVERYONE

    def between(self, source: Source, backend: Address) -> Link:
        """What happens to a connection from this source to this backend."""
        pod = self.pods.get(backend[0])
        caller = self._caller(source)
        if pod is None or (caller is not None and uid_of(caller) == uid_of(pod)):
            return CLEAR
        admitted = policy.admission(self.policies, pod, backend[1])
        if caller is not None:
            let_in = admitted.of_pod(caller, self.namespaces.get(namespace_of(caller), {}))
        else:
            let_in = admitted.of_address(source.address)
        if not let_in or (caller is not None and not self._may_go(caller, pod, backend[1])):
            return CUT
        link = CLEAR
        for fault in self.faults:
            if fault.action == "abort":
                link = _aborting(link, fault) if pod in fault.selected and fault.port == backend[1] else link
                continue
            up, down = fault.hits(caller, pod), fault.hits(pod, caller)
            if fault.action == "partition" and (up or down):
                return CUT  # a connection that loses one direction moves nothing in the other
            sender = uid_of(caller) if caller is not None else ""
            if up:
                link = replace(link, upstream=_shaped(link.upstream, fault, sender))
            if down:
                link = replace(link, downstream=_shaped(link.downstream, fault, uid_of(pod)))
        return link

    def _may_go(self, caller: Object, pod: Object, port: int) -> bool:
        labels = self.namespaces.get(namespace_of(pod), {})
        return policy.may_go(self.policies, caller, pod, labels, port)

    def _caller(self, source: Source) -> Object | None:
        if not source.pod_uid:
            return None
        return next((each for each in self.pods.values() if uid_of(each) == source.pod_uid), None)

    def _admission(self, backend: Address) -> Admission:
        pod = self.pods.get(backend[0])
        if pod is None:
            return EVERYONE
        if any(_cuts_everybody(fault, pod) for fault in self.faults):
            return NOBODY
        return policy.admission(self.policies, pod, backend[1])


NOTHING = Links()


def _cuts_everybody(fault: Fault, pod: Object) -> bool:
    return fault.action == "partition" and fault.target is None and pod in fault.selected


def _shaped(shape: Shape, fault: Fault, sender: str) -> Shape:
    if fault.action == "bandwidth":
        return replace(shape, limits=(*shape.limits, Limit(f"{fault.key}/{sender}", fault.bytes_per_second)))
    return replace(
        shape,
        delay_seconds=shape.delay_seconds + fault.delay_seconds,
        jitter_seconds=shape.jitter_seconds + fault.jitter_seconds,
    )


def _aborting(link: Link, fault: Fault) -> Link:
    if fault.side == "Response":
        return replace(link, downstream=replace(link.downstream, resets=True))
    return replace(link, upstream=replace(link.upstream, resets=True))


def _addressed(pod: Object) -> bool:
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in {"Succeeded", "Failed"}


def _pod(pod: Object) -> Object:
    containers = [{"ports": each.get("ports") or []} for each in pod["spec"].get("containers") or []]
    return {
        **_only(pod),
        "spec": {"containers": containers},
        "status": {"podIP": pod["status"]["podIP"]},
    }


def _only(obj: Object, *parts: str) -> Object:
    """What names and selects an object, and these parts of it: other changes of it change no link."""
    metadata: dict[str, Any] = {key: obj["metadata"].get(key) for key in ("name", "namespace", "uid", "labels")}
    return {"metadata": metadata, **{part: obj.get(part) for part in parts}}
