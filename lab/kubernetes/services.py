"""Services through their addresses: load-balancer addresses, and a forwarder for every ClusterIP and port."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import ENDPOINT_SLICE, IP_ADDRESS_POOL, SERVICE, Kind
from lab.kubernetes.api.objects import Object, labels_of, name_of, namespace_of, terminating
from lab.kubernetes.api.store import Store
from lab.kubernetes.controller import Controller, Key, follow, key_of
from lab.kubernetes.endpoints import SERVICE_NAME
from lab.kubernetes.forwarder import Address, Forwarder
from lab.kubernetes.recorder import Recorder

log = logging.getLogger(__name__)

LOAD_BALANCER_ADDRESSES: Final = ("metallb.io/loadBalancerIPs", "metallb.universe.tf/loadBalancerIPs")


def ready_addresses(slices: Iterable[Object], port: str) -> list[Address]:
    """Where the port of that name is served by endpoints that are ready."""
    return sorted(
        (address, int(number["port"]))
        for each in slices
        for number in each.get("ports") or []
        if (number.get("name") or "") == port
        for endpoint in each.get("endpoints") or []
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    )


class LoadBalancerController(Controller):
    """Gives every Service of type LoadBalancer the address it asks for, as MetalLB does from its pools."""

    primary = SERVICE

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A pool may bring the address that a Service waits for."""
        return {IP_ADDRESS_POOL: lambda _pool: [key_of(each) for each in self.store.list(SERVICE)]}

    def reconcile(self, key: Key) -> float | None:
        """Write status.loadBalancer."""
        try:
            service = self.store.get(SERVICE, *key)
        except NotFound:
            return None
        if terminating(service):
            return None
        addresses = self._addresses(service) if service["spec"].get("type") == "LoadBalancer" else []
        status = service.setdefault("status", {})
        status["loadBalancer"] = (
            {"ingress": [{"ip": address, "ipMode": "VIP"} for address in addresses]} if addresses else {}
        )
        self.store.update(SERVICE, service, subresource="status")
        return None

    def _addresses(self, service: Object) -> list[str]:
        annotations = service["metadata"].get("annotations") or {}
        asked = next((annotations[key] for key in LOAD_BALANCER_ADDRESSES if annotations.get(key)), "")
        asked = asked or service["spec"].get("loadBalancerIP") or ""
        wanted = [part.strip() for part in asked.split(",") if part.strip()]
        ranges = [each for pool in self.store.list(IP_ADDRESS_POOL) for each in pool["spec"].get("addresses") or []]
        outside = [address for address in wanted if not any(_within(address, each) for each in ranges)]
        if not wanted or outside:
            what = f"address {outside[0]} is in no IPAddressPool" if outside else "no address is asked for"
            message = (
                f"Failed to allocate IP for {namespace_of(service)}/{name_of(service)}: {what};"
                f" annotate the Service with {LOAD_BALANCER_ADDRESSES[0]} and declare an IPAddressPool that holds it"
            )
            Recorder(self.store, "metallb-controller").warning(service, "AllocationFailed", message)
            return []
        return wanted


def _within(address: str, addresses: str) -> bool:
    """Whether an IPAddressPool's entry, a range `a-b` or a network `a/n`, holds the address."""
    try:
        one = ipaddress.IPv4Address(address)
        if "-" in addresses:
            first, last = (ipaddress.IPv4Address(part.strip()) for part in addresses.split("-"))
            return first <= one <= last
        return one in ipaddress.IPv4Network(addresses, strict=False)
    except ValueError:
        return False


class ServiceProxy:
    """What kube-proxy does: every ClusterIP and port leads to a pod that is ready, or refuses."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._forwarders: dict[Address, Forwarder] = {}
        self._work: asyncio.Queue[Key] = asyncio.Queue()
        self._wanted: dict[Key, dict[Address, list[Address]]] = {}

    async def run(self) -> None:
        """Follow Services and EndpointSlices until cancelled; closes every listener then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._store, SERVICE, lambda _type, each: self._work.put_nowait(key_of(each))))
                group.create_task(follow(self._store, ENDPOINT_SLICE, self._slice_changed))
                group.create_task(self._drain())
        finally:
            for forwarder in self._forwarders.values():
                await forwarder.close()

    def _slice_changed(self, _type: str, slice_: Object) -> None:
        if service := labels_of(slice_).get(SERVICE_NAME):
            self._work.put_nowait((namespace_of(slice_), service))

    async def _drain(self) -> None:
        while True:
            key = await self._work.get()
            self._wanted[key] = self._targets(key)
            await self._apply()

    def _targets(self, key: Key) -> dict[Address, list[Address]]:
        try:
            service = self._store.get(SERVICE, *key)
        except NotFound:
            return {}
        cluster_ip = service["spec"].get("clusterIP") or "None"
        if cluster_ip == "None":
            return {}
        slices = self._store.list(ENDPOINT_SLICE, key[0], f"{SERVICE_NAME}={key[1]}")
        return {
            (cluster_ip, int(port["port"])): ready_addresses(slices, port.get("name") or "")
            for port in service["spec"].get("ports") or []
            if (port.get("protocol") or "TCP") == "TCP"
        }

    async def _apply(self) -> None:
        wanted = {address: backends for targets in self._wanted.values() for address, backends in targets.items()}
        for address in set(self._forwarders) - set(wanted):
            await self._forwarders.pop(address).close()
        for address, backends in wanted.items():
            forwarder = self._forwarders.setdefault(address, Forwarder(address))
            if list(forwarder.backends) != backends:
                await forwarder.set_backends(backends)
