"""What kube-proxy and a network plugin do: ClusterIPs lead to ready pods, as policies and faults let them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import ENDPOINT_SLICE, HTTP_CHAOS, NAMESPACE, NETWORK_CHAOS, NETWORK_POLICY, POD, SERVICE
from lab.kubernetes.api.objects import Object, labels_of, namespace_of
from lab.kubernetes.api.store import Store
from lab.kubernetes.callers import Callers
from lab.kubernetes.controller import Key, follow, key_of
from lab.kubernetes.endpoints import SERVICE_NAME
from lab.kubernetes.forwarder import Address, Forwarder
from lab.kubernetes.lane import Buckets
from lab.kubernetes.links import NOTHING, Links
from lab.kubernetes.services import ready_addresses

LINK_KINDS: Final = (NETWORK_POLICY, NETWORK_CHAOS, HTTP_CHAOS, NAMESPACE, POD)
"""What links are made of."""


def seconds_to(moment: datetime | None) -> float | None:
    """From now on, never negative; None for no moment at all."""
    return None if moment is None else max(0.0, (moment - datetime.now(UTC)).total_seconds())


class ServiceProxy:
    """Every ClusterIP and port leads to a pod that is ready, or refuses; links in between are those declared."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._forwarders: dict[Address, Forwarder] = {}
        self._callers, self._buckets = Callers(), Buckets()
        self._links = NOTHING
        self._stale: set[Key] = set()
        self._links_stale = False
        self._work = asyncio.Event()
        self._wanted: dict[Key, dict[Address, list[Address]]] = {}

    async def run(self) -> None:
        """Follow what ClusterIPs and links are made of until cancelled; closes every listener then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(follow(self._store, SERVICE, self._service_changed))
                group.create_task(follow(self._store, ENDPOINT_SLICE, self._slice_changed))
                for kind in LINK_KINDS:
                    group.create_task(follow(self._store, kind, self._link_changed))
                group.create_task(self._drain())
        finally:
            for forwarder in self._forwarders.values():
                await forwarder.close()

    def _service_changed(self, _type: str, service: Object) -> None:
        self._stale.add(key_of(service))
        self._work.set()

    def _slice_changed(self, _type: str, slice_: Object) -> None:
        if service := labels_of(slice_).get(SERVICE_NAME):
            self._stale.add((namespace_of(slice_), service))
            self._work.set()

    def _link_changed(self, _type: str, _object: Object) -> None:
        self._links_stale = True
        self._work.set()

    async def _drain(self) -> None:
        while True:
            try:
                async with asyncio.timeout(seconds_to(self._links.until)):
                    await self._work.wait()
            except TimeoutError:  # a fault has ended by itself
                self._links_stale = True
            self._work.clear()
            if self._links_stale:
                self._links_stale = False
                self._links = self._declared()
            for key in self._stale:
                self._wanted[key] = self._targets(key)
            self._stale.clear()
            await self._apply()

    def _declared(self) -> Links:
        policies, network, http = (self._store.list(kind) for kind in (NETWORK_POLICY, NETWORK_CHAOS, HTTP_CHAOS))
        if not policies and not network and not http:
            return NOTHING
        return Links.declared(
            policies=policies,
            namespaces=self._store.list(NAMESPACE),
            pods=self._store.list(POD),
            chaos=[*network, *http],
        )

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
            if address not in self._forwarders:
                self._forwarders[address] = Forwarder(address, callers=self._callers, buckets=self._buckets)
            forwarder = self._forwarders[address]
            await forwarder.set_links(self._links)
            if list(forwarder.backends) != backends:
                await forwarder.set_backends(backends)
