"""Services and their addresses: which pods they lead to, and what a load balancer gives them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import IP_ADDRESS_POOL, SERVICE, Kind
from lab.kubernetes.api.objects import Object, name_of, namespace_of, terminating
from lab.kubernetes.controller import Controller, Key, key_of
from lab.kubernetes.forwarder import Address
from lab.kubernetes.recorder import Recorder

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
