"""The nodes of a private site: Cluster API's MachineDeployments as Machines and Nodes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import BARE_METAL_HOST, MACHINE, MACHINE_DEPLOYMENT, NODE, Kind
from lab.kubernetes.api.objects import Object, clone, labels_of, name_of, namespace_of, terminating
from lab.kubernetes.api.store import Store
from lab.kubernetes.api.syntax import quantity
from lab.kubernetes.condition import holds, set_condition
from lab.kubernetes.controller import Controller, Key, owned, owned_by, owner_reference
from lab.kubernetes.nodes import Shape, register, retire, taint_of
from lab.kubernetes.power import ensure_host, provider_id
from lab.kubernetes.recorder import Recorder
from lab.topology import SiteAddresses

CAPACITY: Final = "capacity.cluster-autoscaler.kubernetes.io"
"""Annotations that say what one machine brings, as the autoscaler reads them."""
FINALIZER: Final = "machine.cluster.x-k8s.io"
CLUSTER_NAME: Final = "cluster.x-k8s.io/cluster-name"
DEPLOYMENT_NAME: Final = "cluster.x-k8s.io/deployment-name"
SYNCED_PREFIXES: Final = ("node-role.kubernetes.io/", "node-restriction.kubernetes.io/", "node.cluster.x-k8s.io/")
"""Label prefixes Cluster API copies from a Machine to its Node."""
DRAIN_SECONDS: Final = 0.5
NO_NODE_SECONDS: Final = 5.0
"""After this long a machine that could not become a node is tried again."""


def shape_of(deployment: Object) -> Shape:
    """What one machine of the pool brings; ValueError naming the annotation that is missing or wrong."""
    annotations = deployment["metadata"].get("annotations") or {}
    values = {}
    for name in ("cpu", "memory"):
        text = annotations.get(f"{CAPACITY}/{name}", "")
        if not quantity(text):
            raise ValueError(
                f"annotation {CAPACITY}/{name} is {text!r}; it has to be a quantity, the lab makes machines from it"
            )
        values[name] = text
    count = annotations.get(f"{CAPACITY}/gpu-count") or "0"
    if not count.isdigit():
        raise ValueError(f"annotation {CAPACITY}/gpu-count is {count!r}; it has to be a whole number")
    template = deployment["spec"].get("template") or {}
    labels = {
        key: value
        for key, value in ((template.get("metadata") or {}).get("labels") or {}).items()
        if key.startswith(SYNCED_PREFIXES)
    }
    pairs = (pair.partition("=") for pair in (annotations.get(f"{CAPACITY}/labels") or "").split(",") if pair.strip())
    labels |= {key.strip(): value.strip() for key, _, value in pairs}
    taints = [taint_of(text) for text in (annotations.get(f"{CAPACITY}/taints") or "").split(",") if text.strip()]
    taints += [clone(taint) for taint in (template.get("spec") or {}).get("taints") or []]
    return Shape(cpu=values["cpu"], memory=values["memory"], gpu_count=int(count), labels=labels, taints=tuple(taints))


class MachineDeploymentController(Controller):
    """As many Machines as a MachineDeployment asks for."""

    primary = MACHINE_DEPLOYMENT

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """The Machines it owns."""
        return {MACHINE: owned_by(MACHINE_DEPLOYMENT)}

    def reconcile(self, key: Key) -> float | None:
        """Create or delete the difference, then count."""
        try:
            deployment = self.store.get(MACHINE_DEPLOYMENT, *key)
        except NotFound:
            return None
        if terminating(deployment):
            return None
        try:
            shape_of(deployment)
        except ValueError as error:
            Recorder(self.store, "machinedeployment-controller").warning(deployment, "FailedCreate", str(error))
            return None
        machines = [each for each in owned(self.store, MACHINE, deployment) if not terminating(each)]
        wanted = int(deployment["spec"].get("replicas", 1))
        for _ in range(wanted - len(machines)):
            self._create(deployment)
        newest_first = sorted(
            machines, key=lambda each: (each["metadata"]["creationTimestamp"], name_of(each)), reverse=True
        )
        for machine in newest_first[: max(0, len(machines) - wanted)]:
            self.store.delete(MACHINE, namespace_of(machine), name_of(machine))
        self._count(deployment, wanted)
        return None

    def _create(self, deployment: Object) -> None:
        template = deployment["spec"].get("template") or {}
        labels = clone((template.get("metadata") or {}).get("labels") or {})
        labels |= {CLUSTER_NAME: deployment["spec"].get("clusterName", ""), DEPLOYMENT_NAME: name_of(deployment)}
        machine = {
            "metadata": {
                "name": f"{name_of(deployment)}-{secrets.token_hex(3)}",
                "namespace": namespace_of(deployment),
                "labels": labels,
                "finalizers": [FINALIZER],
                "ownerReferences": [owner_reference(MACHINE_DEPLOYMENT, deployment)],
            },
            "spec": {"clusterName": deployment["spec"].get("clusterName", ""), **clone(template.get("spec") or {})},
        }
        self.store.create(MACHINE, machine)

    def _count(self, deployment: Object, wanted: int) -> None:
        machines = [each for each in owned(self.store, MACHINE, deployment) if not terminating(each)]
        ready = sum(holds(each, "Ready") for each in machines)
        selector = (deployment["spec"].get("selector") or {}).get("matchLabels") or {}
        status = deployment.setdefault("status", {})
        status["observedGeneration"] = deployment["metadata"].get("generation", 1)
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
        status["replicas"] = status["updatedReplicas"] = len(machines)
        status["readyReplicas"] = status["availableReplicas"] = ready
        status["unavailableReplicas"] = max(0, wanted - ready)
        status["phase"] = "Running" if ready == wanted == len(machines) else "ScalingUp"
        for name in ("Available", "Ready"):
            set_condition(status, name, ready >= wanted, "" if ready >= wanted else "WaitingForAvailableMachines")
        self.store.update(MACHINE_DEPLOYMENT, deployment, subresource="status")


class MachineController(Controller):
    """One BareMetalHost and one Node per Machine; drained before its Machine goes."""

    primary = MACHINE

    def __init__(self, store: Store, addresses: SiteAddresses) -> None:
        super().__init__(store)
        self._addresses = addresses

    def sources(self) -> Mapping[Kind, Callable[[Object], Iterable[Key]]]:
        """A Node concerns the Machine of its name, a host the one that it is."""
        return {
            NODE: lambda node: [key for key in self._keys() if key[1] == name_of(node)],
            BARE_METAL_HOST: owned_by(MACHINE),
        }

    def _keys(self) -> list[Key]:
        return [(namespace_of(each), name_of(each)) for each in self.store.list(MACHINE)]

    def reconcile(self, key: Key) -> float | None:
        """Register the Node, or take the next step of its end."""
        try:
            machine = self.store.get(MACHINE, *key)
        except NotFound:
            return None
        if terminating(machine):
            if not retire(self.store, name_of(machine)):
                return DRAIN_SECONDS
            machine["metadata"]["finalizers"] = [
                each for each in machine["metadata"].get("finalizers") or [] if each != FINALIZER
            ]
            self.store.update(MACHINE, machine)
            return None
        ensure_host(self.store, machine)
        status = machine.setdefault("status", {})
        if "nodeRef" in status:
            return self._follow_node(machine)
        deployment = self.store.get(MACHINE_DEPLOYMENT, key[0], labels_of(machine).get(DEPLOYMENT_NAME, ""))
        try:
            shape = replace(shape_of(deployment), provider_id=provider_id(machine))
            node = register(self.store, self._addresses, name_of(machine), shape)
        except ValueError as error:
            Recorder(self.store, "machine-controller").warning(machine, "FailedCreate", str(error))
            return NO_NODE_SECONDS
        machine["spec"]["providerID"] = node["spec"]["providerID"]
        machine = self.store.update(MACHINE, machine)
        status = machine.setdefault("status", {})
        status["nodeRef"] = {"apiVersion": "v1", "kind": "Node", "name": name_of(node)}
        status["addresses"] = node["status"]["addresses"]
        status["phase"] = "Running"
        status["bootstrapReady"] = status["infrastructureReady"] = True
        status["observedGeneration"] = machine["metadata"].get("generation", 1)
        for name in ("BootstrapReady", "InfrastructureReady", "NodeHealthy", "Ready"):
            set_condition(status, name, True)
        self.store.update(MACHINE, machine, subresource="status")
        return None

    def _follow_node(self, machine: Object) -> float | None:
        try:
            healthy = holds(self.store.get(NODE, None, machine["status"]["nodeRef"]["name"]), "Ready")
            reason = "" if healthy else "NodeConditionsFailed"
        except NotFound:
            healthy, reason = False, "NodeNotFound"
        for name in ("NodeHealthy", "Ready"):
            set_condition(machine["status"], name, healthy, reason)
        self.store.update(MACHINE, machine, subresource="status")
        return None
