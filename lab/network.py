"""The edge of a site: its load balancer, which knows only pods that are ready. `python -m lab.network`.

It is a process of its own and learns everything over HTTP: Services, EndpointSlices, and what links are made of, from
the site's Kubernetes API, target groups and listeners from the AWS API. When an API is silent it keeps forwarding to
what it knew last. It sees where users come from, so policies by address are kept here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import aiohttp

from lab.kubernetes.api.kinds import (
    ENDPOINT_SLICE,
    HTTP_CHAOS,
    NAMESPACE,
    NETWORK_CHAOS,
    NETWORK_POLICY,
    POD,
    SERVICE,
    TARGET_GROUP_BINDING,
    Kind,
)
from lab.kubernetes.api.objects import Object, labels_of, namespace_of
from lab.kubernetes.controller import Key, key_of
from lab.kubernetes.endpoints import SERVICE_NAME
from lab.kubernetes.forwarder import Address, Forwarder
from lab.kubernetes.lane import Buckets
from lab.kubernetes.links import NOTHING, Links
from lab.kubernetes.proxy import LINK_KINDS, seconds_to
from lab.kubernetes.services import ready_addresses
from lab.kubernetes.target_groups import TargetGroups
from lab.process import die_with_parent
from lab.topology import SiteAddresses, Topology, home_directory

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
LISTENER_POLL_SECONDS: Final = 2.0
"""The AWS API offers no watch: listeners of bound target groups are read at this pace."""
READ_SECONDS: Final = 60.0
LINE_LIMIT: Final = 4 * 1024 * 1024


class Reflector:
    """A copy of all objects of one kind, kept by list and watch over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, url: str, kind: Kind, changed: asyncio.Event) -> None:
        prefix = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
        self._url = f"{url}/{prefix}/{kind.plural}"
        self._session = session
        self._changed = changed
        self._said = False
        self.objects: dict[Key, Object] = {}
        self.listed = False
        """Whether the objects are all there are, or were."""

    async def run(self) -> None:
        """Follow the API until cancelled; while it is silent the copy stays as it was."""
        while True:
            try:
                await self._follow(await self._list())
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
                if not self._said:
                    log.warning(
                        "%s: %s; keeping %d objects", self._url, error or type(error).__name__, len(self.objects)
                    )
                self._said = True
            await asyncio.sleep(RETRY_SECONDS)

    async def _list(self) -> str:
        async with self._session.get(self._url) as answer:
            answer.raise_for_status()
            found = await answer.json()
        self.objects = {key_of(each): each for each in found["items"]}
        self.listed = True
        self._changed.set()
        self._said = False
        return str(found["metadata"]["resourceVersion"])

    async def _follow(self, version: str) -> None:
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=READ_SECONDS)
        async with self._session.get(self._url, params=query, timeout=timeout) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return  # the history it asks for is gone: list again
                if event["type"] == "BOOKMARK":
                    continue
                if event["type"] == "DELETED":
                    self.objects.pop(key_of(event["object"]), None)
                else:
                    self.objects[key_of(event["object"])] = event["object"]
                self._changed.set()


def virtual_addresses(services: Iterable[Object]) -> list[tuple[Address, Key, str]]:
    """Address, Service and port name of every port of a Service of type LoadBalancer that was given an address."""
    return [
        ((str(ingress["ip"]), int(port["port"])), key_of(service), str(port.get("name") or ""))
        for service in services
        if service["spec"].get("type") == "LoadBalancer"
        for ingress in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
        if ingress.get("ip")
        for port in service["spec"].get("ports") or []
    ]


def bound_listeners(
    bindings: Iterable[Object], services: Mapping[Key, Object], listeners: Mapping[str, Iterable[Address]]
) -> list[tuple[Address, Key, str]]:
    """The same for every TargetGroupBinding whose target group a listener forwards to."""
    found = []
    for binding in bindings:
        reference = binding["spec"].get("serviceRef") or {}
        key = (namespace_of(binding), str(reference.get("name") or ""))
        port = _port_name(services.get(key), reference.get("port"))
        if port is None:
            continue
        arn = str(binding["spec"].get("targetGroupARN") or "")
        found += [(address, key, port) for address in listeners.get(arn, ())]
    return found


def _port_name(service: Object | None, port: Any) -> str | None:
    for each in ((service or {}).get("spec") or {}).get("ports") or []:
        if port in (each.get("name"), each["port"]) or str(port) == str(each["port"]):
            return str(each.get("name") or "")
    return None


class Edge:
    """The load balancer of one site."""

    def __init__(self, addresses: SiteAddresses, aws_url: str) -> None:
        self._addresses = addresses
        self._changed = asyncio.Event()
        self._forwarders: dict[Address, Forwarder] = {}
        self._groups = TargetGroups(aws_url, addresses)
        self._listeners: dict[str, list[Address]] = {}
        self._reflectors: dict[Kind, Reflector] = {}
        self._links, self._buckets = NOTHING, Buckets()

    async def run(self) -> None:
        """Forward until cancelled; closes every listener then."""
        timeout = aiohttp.ClientTimeout(total=10)
        url = self._addresses.api_url
        try:
            async with aiohttp.ClientSession(timeout=timeout, read_bufsize=LINE_LIMIT) as session:
                kinds = (SERVICE, ENDPOINT_SLICE, TARGET_GROUP_BINDING, *LINK_KINDS)
                self._reflectors = {kind: Reflector(session, url, kind, self._changed) for kind in kinds}
                async with asyncio.TaskGroup() as group:
                    for reflector in self._reflectors.values():
                        group.create_task(reflector.run())
                    group.create_task(self._follow_listeners())
                    group.create_task(self._apply_changes())
        finally:
            for forwarder in self._forwarders.values():
                await forwarder.close()

    async def _follow_listeners(self) -> None:
        while True:
            bindings = self._objects(TARGET_GROUP_BINDING)
            arns = sorted({str(each["spec"].get("targetGroupARN") or "") for each in bindings.values()})
            if arns:
                found = await asyncio.to_thread(self._groups.listeners, arns)
                if found is not None and found != self._listeners:
                    self._listeners = found
                    self._changed.set()
            await asyncio.sleep(LISTENER_POLL_SECONDS if arns else RETRY_SECONDS)

    def _objects(self, kind: Kind) -> dict[Key, Object]:
        return self._reflectors[kind].objects

    async def _apply_changes(self) -> None:
        while True:
            try:
                async with asyncio.timeout(seconds_to(self._links.until)):
                    await self._changed.wait()
            except TimeoutError:  # a fault has ended by itself
                pass
            self._changed.clear()
            if all(each.listed for each in self._reflectors.values()):  # nobody comes in before policies are known
                await self._apply()

    async def _apply(self) -> None:
        self._links = Links.declared(
            policies=self._objects(NETWORK_POLICY).values(),
            namespaces=self._objects(NAMESPACE).values(),
            pods=self._objects(POD).values(),
            chaos=[*self._objects(NETWORK_CHAOS).values(), *self._objects(HTTP_CHAOS).values()],
        )
        wanted = self.wanted()
        for address in set(self._forwarders) - set(wanted):
            log.info("%s:%s: no Service asks for it any more", *address)
            await self._forwarders.pop(address).close()
        for address, backends in wanted.items():
            forwarder = self._forwarders.setdefault(address, Forwarder(address, buckets=self._buckets))
            await forwarder.set_links(self._links)
            if list(forwarder.backends) != backends:
                log.info("%s:%s: ready: %s", *address, ", ".join(f"{host}:{port}" for host, port in backends) or "none")
                await forwarder.set_backends(backends)

    def wanted(self) -> dict[Address, list[Address]]:
        """Every address to listen on, with the pods behind it that are ready."""
        slices: dict[Key, list[Object]] = {}
        for each in self._objects(ENDPOINT_SLICE).values():
            slices.setdefault((namespace_of(each), labels_of(each).get(SERVICE_NAME, "")), []).append(each)
        services = self._objects(SERVICE)
        asked = virtual_addresses(services.values()) + bound_listeners(
            self._objects(TARGET_GROUP_BINDING).values(), services, self._listeners
        )
        return {address: ready_addresses(slices.get(key, []), port) for address, key, port in asked}


async def serve(topology: Topology, site: str) -> None:
    """Run the edge of one site until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    edge = asyncio.create_task(Edge(topology.site(site), topology.aws_url).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, edge.cancel)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    try:
        await edge
    except asyncio.CancelledError:
        log.info("edge of site %s stopped", site)


def main() -> None:
    """Entry of the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", required=True)
    parser.add_argument("--site", required=True)
    arguments = parser.parse_args()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(Topology.load(home_directory(arguments.home)), arguments.site))


if __name__ == "__main__":
    main()
