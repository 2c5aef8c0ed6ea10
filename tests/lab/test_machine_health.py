"""Ill machines are replaced one by one; many at once are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lab.kubernetes.api.kinds import EVENT, MACHINE, MACHINE_DEPLOYMENT, MACHINE_HEALTH_CHECK, NODE
from lab.kubernetes.api.objects import Object, name_of, timestamp
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import condition, set_condition
from lab.kubernetes.machine_health import MachineHealthController, allowed, seconds_of
from lab.kubernetes.machines import CAPACITY, MachineController, MachineDeploymentController
from lab.topology import SiteAddresses

SITE = SiteAddresses(name="private", kind="private", block="127.79")


def pool(store: Store, name: str, replicas: int, *, gpus: int = 1, limit: int | str = 1, **check: Any) -> None:
    """A MachineDeployment, its nodes, and the check over them; reconciled by hand, no clock runs."""
    labels = {"cluster.x-k8s.io/deployment-name": name}
    annotations = {f"{CAPACITY}/cpu": "4", f"{CAPACITY}/memory": "16Gi", f"{CAPACITY}/gpu-count": str(gpus)}
    annotations[f"{CAPACITY}/labels"] = f"node.cluster.x-k8s.io/pool={name}"
    machine = {"clusterName": "private", "bootstrap": {}, "infrastructureRef": {}}
    spec = {
        "clusterName": "private",
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": machine},
    }
    metadata = {"name": name, "namespace": "default"}
    store.create(MACHINE_DEPLOYMENT, {"metadata": {**metadata, "annotations": annotations}, "spec": spec})
    given = {
        "clusterName": "private",
        "selector": {"matchLabels": labels},
        "maxUnhealthy": limit,
        "nodeStartupTimeout": "20m",
        "unhealthyConditions": [{"type": "Ready", "status": each, "timeout": "300s"} for each in ("False", "Unknown")],
        **check,
    }
    store.create(MACHINE_HEALTH_CHECK, {"metadata": metadata, "spec": given})
    settle(store, name)


def settle(store: Store, name: str) -> None:
    MachineDeploymentController(store).reconcile(("default", name))
    for machine in store.list(MACHINE):
        MachineController(store, SITE).reconcile(("default", name_of(machine)))


def of(store: Store, name: str) -> list[Object]:
    return [each for each in store.list(MACHINE) if each["metadata"]["name"].startswith(name)]


def silence(store: Store, machine: Object, minutes: float) -> None:
    node = store.get(NODE, None, name_of(machine))
    set_condition(node["status"], "Ready", None, "NodeStatusUnknown")
    since = timestamp(datetime.now(UTC) - timedelta(minutes=minutes))
    next(each for each in node["status"]["conditions"] if each["type"] == "Ready")["lastTransitionTime"] = since
    store.update(NODE, node, subresource="status")


def look(store: Store, name: str) -> float | None:
    return MachineHealthController(store).reconcile(("default", name))


def ended(store: Store, name: str) -> set[str]:
    return {name_of(each) for each in of(store, name) if each["metadata"].get("deletionTimestamp")}


def reasons(store: Store) -> set[str]:
    return {str(event["reason"]) for event in store.list(EVENT)}


@pytest.fixture
def store() -> Store:
    return Store()


def test_several_pools_make_nodes_each_of_its_own_shape(store: Store) -> None:
    pool(store, "a100", 2, gpus=4)
    pool(store, "l4", 1, gpus=1)
    nodes = store.list(NODE)
    shapes = sorted(
        (each["metadata"]["labels"]["node.cluster.x-k8s.io/pool"], each["metadata"]["annotations"]) for each in nodes
    )
    assert [name for name, _ in shapes] == ["a100", "a100", "l4"]
    assert [annotations["lab.tandem.io/gpu-count"] for _, annotations in shapes] == ["4", "4", "1"]
    assert len({each["status"]["addresses"][0]["address"] for each in nodes}) == 3


def test_a_machine_that_was_silent_for_long_enough_is_replaced(store: Store) -> None:
    pool(store, "gpu", 3)
    lost = of(store, "gpu")[0]
    silence(store, lost, minutes=6)
    assert look(store, "gpu") is None
    assert ended(store, "gpu") == {name_of(lost)}
    assert "MachineMarkedUnhealthy" in reasons(store)


def test_a_machine_is_waited_for_until_its_time_is_over(store: Store) -> None:
    pool(store, "gpu", 3)
    silence(store, of(store, "gpu")[0], minutes=4)
    again = look(store, "gpu")
    assert again is not None
    assert 55 < again <= 60
    assert ended(store, "gpu") == set()


def test_a_cut_that_silences_every_machine_replaces_none(store: Store) -> None:
    pool(store, "gpu", 5, limit=2)
    for machine in of(store, "gpu")[:4]:
        silence(store, machine, minutes=30)
    look(store, "gpu")
    assert ended(store, "gpu") == set()
    assert "RemediationRestricted" in reasons(store)
    check = store.get(MACHINE_HEALTH_CHECK, "default", "gpu")
    assert (check["status"]["expectedMachines"], check["status"]["currentHealthy"]) == (5, 1)
    assert (condition(check, "RemediationAllowed") or {})["reason"] == "TooManyUnhealthy"


def test_machines_that_have_just_fallen_silent_count_against_the_guard(store: Store) -> None:
    pool(store, "gpu", 3)
    first, second, _ = of(store, "gpu")
    silence(store, first, minutes=6)
    silence(store, second, minutes=1)
    look(store, "gpu")
    assert ended(store, "gpu") == set(), "a cut comes machine by machine"


def test_a_cut_in_one_pool_says_nothing_of_another(store: Store) -> None:
    pool(store, "a100", 2)
    pool(store, "l4", 2)
    for machine in of(store, "a100"):
        silence(store, machine, minutes=6)
    silence(store, of(store, "l4")[0], minutes=6)
    look(store, "a100")
    look(store, "l4")
    assert ended(store, "a100") == set()
    assert len(ended(store, "l4")) == 1


def test_a_machine_whose_node_is_gone_is_replaced(store: Store) -> None:
    pool(store, "gpu", 2)
    store.delete(NODE, None, name_of(of(store, "gpu")[0]))
    look(store, "gpu")
    assert len(ended(store, "gpu")) == 1


@pytest.mark.parametrize(("patience", "lost"), [("0s", 1), ("20m", 0)])
def test_a_machine_without_a_node_is_waited_for_as_long_as_the_check_says(
    store: Store, patience: str, lost: int
) -> None:
    pool(store, "gpu", 2, nodeStartupTimeout=patience)
    starting = of(store, "gpu")[0]
    del starting["status"]["nodeRef"]
    store.update(MACHINE, starting, subresource="status")
    look(store, "gpu")
    assert len(ended(store, "gpu")) == lost


def test_a_remediation_template_is_not_acted_on_and_says_so(store: Store) -> None:
    pool(store, "gpu", 3, remediationTemplate={"kind": "Metal3RemediationTemplate", "name": "cycle"})
    silence(store, of(store, "gpu")[0], minutes=6)
    look(store, "gpu")
    assert ended(store, "gpu") == set()
    assert "NotActedOn" in reasons(store)


@pytest.mark.parametrize(
    ("spec", "ill", "machines", "may"),
    [
        ({"maxUnhealthy": 0}, 0, 1, True),
        ({"maxUnhealthy": 0}, 1, 1, False),
        ({"maxUnhealthy": "40%"}, 1, 2, False),
        ({"maxUnhealthy": "40%"}, 2, 5, True),
        ({"maxUnhealthy": "40%"}, 3, 5, False),
        ({"maxUnhealthy": "40%", "unhealthyRange": "[3-5]"}, 3, 5, True),
        ({"unhealthyRange": "[3-5]"}, 2, 5, False),
        ({}, 5, 5, True),
    ],
)
def test_the_guard_counts_as_cluster_api_does(spec: Object, ill: int, machines: int, may: bool) -> None:
    assert allowed({"spec": spec}, ill, machines) is may


@pytest.mark.parametrize(("text", "seconds"), [("300s", 300), ("20m", 1200), ("1h30m", 5400), ("0s", 0)])
def test_durations_are_read_as_they_are_written(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "5 minutes", "5d"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="300s"):
        seconds_of(text)
