"""Which pods stand behind a Service: EndpointSlices, and the older Endpoints, kept up to the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE, Kind
from lab.kubernetes.api.objects import Object, labels_of, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import holds
from lab.kubernetes.controller import Controller, Key, key_of, owner_reference

SERVICE_NAME: Final = "kubernetes.io/service-name"
_MANAGED_BY: Final = {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}


@dataclass(frozen=True)
class Endpoint:
    """One pod behind a Service, and how it is."""

    pod: Object
    ip: str
    ready: bool
    serving: bool
    terminating: bool


def endpoints_of(service: Object, pods: Iterable[Object]) -> list[Endpoint]:
    """Pods the Service selects that have an address and are not over; one on its way out is not ready any more."""
    selector = service["spec"].get("selector")
    if not selector:
        return []
    found = []
    for pod in pods:
        status, labels = pod.get("status") or {}, labels_of(pod)
        if not status.get("podIP") or status.get("phase") in {"Succeeded", "Failed"}:
            continue
        if any(labels.get(key) != value for key, value in selector.items()):
            continue
        serving, going = holds(pod, "Ready"), terminating(pod)
        ready = (serving or bool(service["spec"].get("publishNotReadyAddresses"))) and not going
        found.append(Endpoint(pod, status["podIP"], ready, serving, going))
    return sorted(found, key=lambda each: name_of(each.pod))


def port_of(target: int | str | None, port: int, pod: Object) -> int | None:
    """The number a Service's targetPort means in this pod; None when it names a port the pod does not declare."""
    if target is None or target == "":
        return port
    if isinstance(target, int) or target.isdigit():
        return int(target)
    for container in pod["spec"]["containers"]:
        for declared in container.get("ports") or []:
            if declared.get("name") == target:
                return int(declared["containerPort"])
    return None


Ports = tuple[tuple[str, int, str], ...]


def _ports(service: Object, pod: Object) -> Ports:
    ports = []
    for port in service["spec"].get("ports") or []:
        number = port_of(port.get("targetPort"), int(port["port"]), pod)
        if number is not None:
            ports.append((str(port.get("name") or ""), number, str(port.get("protocol") or "TCP")))
    return tuple(ports)


class EndpointsController(Controller):
    """Keeps EndpointSlices and Endpoints of every Service that selects pods."""

    primary = SERVICE

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A pod concerns every Service of its namespace: its labels may have just changed."""
        return {POD: lambda pod: [key_of(service) for service in self.store.list(SERVICE, namespace_of(pod))]}

    def reconcile(self, key: Key) -> float | None:
        """Write what is true now; one slice per set of port numbers."""
        try:
            service = self.store.get(SERVICE, *key)
        except NotFound:
            with suppress(NotFound):
                self.store.delete(ENDPOINTS, *key)
            return None
        if not service["spec"].get("selector") or terminating(service):
            return None
        found = endpoints_of(service, self.store.list(POD, namespace_of(service)))
        by_ports: dict[Ports, list[Endpoint]] = {}
        for endpoint in found:
            by_ports.setdefault(_ports(service, endpoint.pod), []).append(endpoint)
        self._write_slices(service, by_ports)
        _write(self.store, ENDPOINTS, self._endpoints(service, by_ports))
        return None

    def _write_slices(self, service: Object, by_ports: Mapping[Ports, Sequence[Endpoint]]) -> None:
        wanted = by_ports or {(): []}
        names = [f"{name_of(service)}-{index}" for index in range(len(wanted))]
        for name, (ports, endpoints) in zip(names, wanted.items(), strict=True):
            _write(self.store, ENDPOINT_SLICE, self._slice(service, name, ports, endpoints))
        selector = f"{SERVICE_NAME}={name_of(service)}"
        for present in self.store.list(ENDPOINT_SLICE, namespace_of(service), selector):
            if name_of(present) not in names:
                self.store.delete(ENDPOINT_SLICE, namespace_of(present), name_of(present))

    def _slice(self, service: Object, name: str, ports: Ports, endpoints: Sequence[Endpoint]) -> Object:
        return {
            "metadata": {
                "name": name,
                "namespace": namespace_of(service),
                "labels": {SERVICE_NAME: name_of(service), **_MANAGED_BY},
                "ownerReferences": [owner_reference(SERVICE, service)],
            },
            "addressType": "IPv4",
            "endpoints": [
                {
                    "addresses": [each.ip],
                    "conditions": {"ready": each.ready, "serving": each.serving, "terminating": each.terminating},
                    "targetRef": _reference(each.pod),
                    "nodeName": each.pod["spec"].get("nodeName", ""),
                }
                for each in endpoints
            ],
            "ports": [{"name": port, "port": number, "protocol": protocol} for port, number, protocol in ports],
        }

    def _endpoints(self, service: Object, by_ports: Mapping[Ports, Sequence[Endpoint]]) -> Object:
        subsets = []
        for ports, endpoints in by_ports.items():
            subset: dict[str, Any] = {}
            for field, ready in (("addresses", True), ("notReadyAddresses", False)):
                addresses = [
                    {"ip": each.ip, "nodeName": each.pod["spec"].get("nodeName", ""), "targetRef": _reference(each.pod)}
                    for each in endpoints
                    if each.ready == ready and not each.terminating
                ]
                if addresses:
                    subset[field] = addresses
            if subset:
                subset["ports"] = [
                    {"port": number, "protocol": protocol, **({"name": port} if port else {})}
                    for port, number, protocol in ports
                ]
                subsets.append(subset)
        metadata = {
            "name": name_of(service),
            "namespace": namespace_of(service),
            "ownerReferences": [owner_reference(SERVICE, service)],
        }
        return {"metadata": metadata, "subsets": subsets}


def _reference(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": namespace_of(pod), "name": name_of(pod), "uid": uid_of(pod)}


def _write(store: Store, kind: Kind, wanted: Object) -> None:
    try:
        present = store.get(kind, namespace_of(wanted), name_of(wanted))
    except NotFound:
        store.create(kind, wanted)
        return
    metadata = {**present["metadata"], **wanted["metadata"]}
    store.update(kind, {**wanted, "metadata": metadata})
