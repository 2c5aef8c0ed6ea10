"""Nodes of a site: registered as a pool declares them, drained before they go, with GPUs once a plugin reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from lab.kubernetes import images
from lab.kubernetes.api.errors import NotFound, TooManyRequests
from lab.kubernetes.api.eviction import evict
from lab.kubernetes.api.kinds import NODE, POD, Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, terminating
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import condition, set_condition
from lab.kubernetes.controller import Controller, Key, owner_of
from lab.topology import SiteAddresses

GPU_RESOURCE: Final = "nvidia.com/gpu"
GPU_COUNT: Final = "lab.tandem.io/gpu-count"
"""Annotation of a Node: GPUs the machine has, whether or not a device plugin has reported them."""
PODS_PER_NODE: Final = "110"
PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What one machine of a pool is."""

    cpu: str
    memory: str
    gpu_count: int = 0
    instance_type: str = ""
    provider_id: str = ""
    zone: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()


def taint_of(text: str) -> dict[str, str]:
    """A taint written `key=value:Effect` or `key:Effect`; ValueError for anything else."""
    pair, colon, effect = text.strip().rpartition(":")
    key, _, value = pair.partition("=")
    if not colon or not key or effect not in {"NoSchedule", "PreferNoSchedule", "NoExecute"}:
        raise ValueError(f"taint {text!r} is not key=value:Effect with NoSchedule, PreferNoSchedule or NoExecute")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


class NoAddressError(ValueError):
    """The site has no address left for one more node."""


def set_healthy(status: Object) -> None:
    """The conditions a kubelet posts while all is well."""
    for pressure in PRESSURES:
        set_condition(status, pressure, False, f"KubeletHasNo{pressure}")
    set_condition(status, "Ready", True, "KubeletReady", "kubelet is posting ready status")


def _free_address(store: Store, addresses: SiteAddresses) -> str:
    taken = {each["address"] for node in store.list(NODE) for each in (node.get("status") or {}).get("addresses") or []}
    free = (address for address in map(addresses.node_address, range(1, 255)) if address not in taken)
    found = next(free, None)
    if found is None:
        raise NoAddressError(f"site {addresses.name} has addresses for 254 nodes and all are taken; ask for fewer")
    return found


def register(store: Store, addresses: SiteAddresses, name: str, shape: Shape) -> Object:
    """The Node of that name; made, with an address of its own, when there is none; NoAddressError."""
    with suppress(NotFound):
        return store.get(NODE, None, name)
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        **({"node.kubernetes.io/instance-type": shape.instance_type} if shape.instance_type else {}),
        **({"topology.kubernetes.io/zone": shape.zone} if shape.zone else {}),
        **shape.labels,
    }
    capacity = {"cpu": shape.cpu, "memory": shape.memory, "ephemeral-storage": "100Gi", "pods": PODS_PER_NODE}
    status: Object = {
        "capacity": capacity,
        "allocatable": dict(capacity),
        "addresses": [
            {"type": "InternalIP", "address": _free_address(store, addresses)},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": str(uuid4()),
            "containerRuntimeVersion": "lab://1.0.0",
            "kernelVersion": "",
            "kubeProxyVersion": "",
            "kubeletVersion": "v1.34.0",
            "machineID": name,
            "operatingSystem": "linux",
            "osImage": "Tandem lab",
            "systemUUID": name,
        },
    }
    set_healthy(status)
    spec: Object = {"providerID": shape.provider_id or f"lab://{addresses.name}/{name}"}
    if shape.taints:
        spec["taints"] = [dict(taint) for taint in shape.taints]
    annotations = {GPU_COUNT: str(shape.gpu_count)}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    return store.create(NODE, {"metadata": metadata, "spec": spec, "status": status})


def retire(store: Store, name: str) -> bool:
    """One step of a node's orderly end: cordon, evict, delete; True when it is gone.

    On a node that is not there any more nobody ends a pod: there it is enough that each has been told to go.
    """
    try:
        node = store.get(NODE, None, name)
    except NotFound:
        return True
    if not node["spec"].get("unschedulable"):
        node["spec"]["unschedulable"] = True
        store.update(NODE, node)
    silent = (condition(node, "Ready") or {}).get("status") == "Unknown"
    left = 0
    for pod in store.list(POD, field_selector=f"spec.nodeName={name}"):
        if (owner_of(pod) or {}).get("kind") == "DaemonSet":
            continue  # daemon pods tolerate the cordon and go with the node
        left += not (silent and terminating(pod))
        if not terminating(pod):
            with suppress(TooManyRequests, NotFound):  # a disruption budget holds the drain back; asked again later
                evict(store, namespace_of(pod), name_of(pod), None, dry_run=False)
    if left:
        return False
    store.delete(NODE, None, name)
    return True


class GpuController(Controller):
    """Lets a node offer its GPUs while a pod of a device-plugin DaemonSet runs on it."""

    primary = NODE

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """The pods of the node."""
        return {POD: lambda pod: [("", pod["spec"]["nodeName"])] if pod["spec"].get("nodeName") else []}

    def reconcile(self, key: Key) -> float | None:
        """Write capacity and allocatable."""
        try:
            node = self.store.get(NODE, None, key[1])
        except NotFound:
            return None
        has = int((node["metadata"].get("annotations") or {}).get(GPU_COUNT, 0))
        if not has:
            return None
        pods = self.store.list(POD, field_selector=f"spec.nodeName={key[1]}")
        reported = any(_reports_gpus(pod) for pod in pods)
        status = node["status"]
        if reported:
            status["capacity"][GPU_RESOURCE] = status["allocatable"][GPU_RESOURCE] = str(has)
        elif GPU_RESOURCE in status["capacity"]:
            status["allocatable"][GPU_RESOURCE] = "0"  # as a kubelet does when a plugin has gone
        self.store.update(NODE, node, subresource="status")
        return None


def _reports_gpus(pod: Object) -> bool:
    if (owner_of(pod) or {}).get("kind") != "DaemonSet" or terminating(pod):
        return False
    running = [
        each["name"] for each in (pod.get("status") or {}).get("containerStatuses") or [] if "running" in each["state"]
    ]
    for container in pod["spec"]["containers"]:
        with suppress(images.PullError):
            if container["name"] in running and images.parse(container["image"])[0] == images.DEVICE_PLUGIN:
                return True
    return False
