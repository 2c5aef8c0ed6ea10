"""The power switches of a private site's machines: Metal3's BareMetalHosts, one per Machine."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Protocol

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import BARE_METAL_HOST, MACHINE, NODE
from lab.kubernetes.api.objects import Object, name_of, namespace_of, timestamp
from lab.kubernetes.api.store import Store
from lab.kubernetes.controller import Controller, Key, owner_reference
from lab.kubernetes.recorder import Recorder

SCHEME: Final = "metal3"


def host_name(machine: Object) -> str:
    """The host a Machine stands on, as long as there is the Machine."""
    return f"{name_of(machine)}-host"


def provider_id(machine: Object) -> str:
    """How a Node names its machine: `metal3://<namespace>/<host>/<machine>`."""
    return f"{SCHEME}://{namespace_of(machine)}/{host_name(machine)}/{name_of(machine)}"


def ensure_host(store: Store, machine: Object) -> None:
    """The host of a Machine, switched on when it is new; it goes with the Machine."""
    with suppress(NotFound):
        store.current(BARE_METAL_HOST, namespace_of(machine), host_name(machine))
        return
    consumer = {
        "apiVersion": MACHINE.api_version,
        "kind": MACHINE.kind,
        "name": name_of(machine),
        "namespace": namespace_of(machine),
    }
    metadata = {
        "name": host_name(machine),
        "namespace": namespace_of(machine),
        "ownerReferences": [owner_reference(MACHINE, machine)],
    }
    store.create(BARE_METAL_HOST, {"metadata": metadata, "spec": {"online": True, "consumerRef": consumer}})


class Switches(Protocol):
    """What turns the machine of a node off and on; asked again, each does nothing."""

    def power_off(self, node: str) -> None:
        """At once, whatever runs there."""

    def power_on(self, node: str) -> None:
        """It boots."""


class PowerController(Controller):
    """Switches machines as their hosts' `spec.online` says."""

    primary = BARE_METAL_HOST

    def __init__(self, store: Store, switches: Switches) -> None:
        super().__init__(store)
        self._switches = switches
        self._nodes: dict[Key, str] = {}

    def reconcile(self, key: Key) -> float | None:
        """Switch, then say so in the status; a machine whose host is gone leaves nothing that stands still."""
        try:
            host = self.store.get(BARE_METAL_HOST, *key)
        except NotFound:
            if node := self._nodes.pop(key, ""):
                self._switches.power_on(node)
            return None
        online = host["spec"]["online"] is not False
        node = self._nodes[key] = str((host["spec"].get("consumerRef") or {}).get("name") or "")
        if node and online:
            self._switches.power_on(node)
        elif node:
            self._switches.power_off(node)
        status = host.setdefault("status", {})
        if online and status.get("poweredOn") is False:
            self._register_again(key[0], node)
        if status.get("poweredOn") is not online:
            status |= {
                "poweredOn": online,
                "operationalStatus": "OK",
                "provisioning": {"state": "provisioned" if node else "available"},
                "lastUpdated": timestamp(),
            }
            self.store.update(BARE_METAL_HOST, host, subresource="status")
            which = "on" if online else "off"
            Recorder(self.store, "metal3-baremetal-controller").normal(
                host, f"Power{which.capitalize()}", f"Host powered {which}"
            )
        return None

    def _register_again(self, namespace: str, name: str) -> None:
        """A machine that boots registers its Node anew when it has been deleted meanwhile."""
        with suppress(NotFound):
            machine = self.store.get(MACHINE, namespace, name)
            with suppress(NotFound):
                self.store.current(NODE, None, name)
                return
            if (machine.get("status") or {}).pop("nodeRef", None):
                self.store.update(MACHINE, machine, subresource="status")
