"""Nodes from what the pools declare, on both kinds of site; GPUs once a plugin reports them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from kubelet_bench import BLOCK, PLUGIN, Bench, Object, bench_site, deployment, machines, pod, until
from moto import mock_aws

from lab.kubernetes import eks as eks_module
from lab.kubernetes.api.kinds import (
    DAEMON_SET,
    DEPLOYMENT,
    MACHINE,
    MACHINE_DEPLOYMENT,
    NAMESPACE,
    NODE,
    POD,
    POD_DISRUPTION_BUDGET,
    REPLICA_SET,
    SERVICE_ACCOUNT,
)
from lab.kubernetes.api.store import Store
from lab.kubernetes.condition import set_condition
from lab.kubernetes.controller import owner_reference
from lab.kubernetes.eks import Group, InstanceTypeError, NodeGroupPoller, capacity_of, groups_of
from lab.kubernetes.machines import shape_of
from lab.kubernetes.nodes import GPU_RESOURCE, retire, taint_of
from lab.topology import SiteAddresses

live = pytest.mark.live


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_site(tmp_path, 0) as bench:
        yield bench


def nodes(bench: Bench) -> list[Object]:
    return bench.store.list(NODE)


async def test_a_machine_deployment_becomes_machines_and_nodes_of_its_capacity(bench: Bench) -> None:
    bench.store.create(MACHINE_DEPLOYMENT, machines(2, gpus=1, taints="nvidia.com/gpu=present:NoSchedule"))
    await until(lambda: len(nodes(bench)) == 2)
    one = nodes(bench)[0]
    assert one["metadata"]["labels"]["pool"] == "bench"
    assert one["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert (one["status"]["allocatable"]["cpu"], one["status"]["allocatable"]["memory"]) == ("8", "32Gi")
    assert GPU_RESOURCE not in one["status"]["allocatable"], "no plugin has reported it"
    addresses = {each["status"]["addresses"][0]["address"] for each in nodes(bench)}
    assert addresses == {f"{BLOCK}.1.1", f"{BLOCK}.1.2"}
    found = await until(
        lambda: (bench.store.get(MACHINE_DEPLOYMENT, "default", "bench").get("status") or {}).get("readyReplicas")
    )
    assert found == 2
    running = [each["status"]["phase"] for each in bench.store.list(MACHINE)]
    assert running == ["Running", "Running"]


@live
async def test_gpus_are_offered_while_a_device_plugin_runs_on_the_node(bench: Bench) -> None:
    bench.store.create(MACHINE_DEPLOYMENT, machines(2, gpus=4, taints="nvidia.com/gpu=present:NoSchedule"))
    template = {
        "metadata": {"labels": {"app": "plugin"}},
        "spec": {
            "containers": [{"name": "plugin", "image": PLUGIN}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        },
    }
    spec = {"selector": {"matchLabels": {"app": "plugin"}}, "template": template}
    bench.store.create(DAEMON_SET, {"metadata": {"name": "plugin", "namespace": "kube-system"}, "spec": spec})

    def offered() -> list[str | None]:
        return [each["status"]["allocatable"].get(GPU_RESOURCE) for each in nodes(bench)]

    await until(lambda: offered() == ["4", "4"])
    pods = bench.store.list(POD, "kube-system")
    assert sorted(each["spec"]["nodeName"] for each in pods) == [each["metadata"]["name"] for each in nodes(bench)]

    def counted() -> bool:
        daemon = bench.store.get(DAEMON_SET, "kube-system", "plugin").get("status") or {}
        return (daemon.get("desiredNumberScheduled"), daemon.get("numberReady")) == (2, 2)

    await until(counted)
    old = {each["metadata"]["uid"] for each in pods}
    daemon_set = bench.store.get(DAEMON_SET, "kube-system", "plugin")
    daemon_set["spec"]["template"]["metadata"]["annotations"] = {"version": "2"}
    bench.store.update(DAEMON_SET, daemon_set)
    await until(
        lambda: (
            len(bench.store.list(POD, "kube-system", "", "status.phase=Running")) == 2
            and not old & {each["metadata"]["uid"] for each in bench.store.list(POD, "kube-system")}
        )
    )
    bench.store.delete(DAEMON_SET, "kube-system", "plugin")
    await until(lambda: offered() == ["0", "0"])


@live
async def test_a_smaller_pool_drains_a_node_before_it_goes(bench: Bench) -> None:
    bench.store.create(MACHINE_DEPLOYMENT, machines(2))
    await until(lambda: len(nodes(bench)) == 2)
    bench.store.create(DEPLOYMENT, deployment("d", 2))
    selector = {"matchLabels": {"app": "d"}}
    budget = {"metadata": {"name": "d", "namespace": "default"}, "spec": {"maxUnavailable": 1, "selector": selector}}
    bench.store.create(POD_DISRUPTION_BUDGET, budget)
    await until(lambda: bench.settled("d"))
    assert len({each["spec"]["nodeName"] for each in bench.pods("d")}) == 2, "spread"
    bench.change(MACHINE_DEPLOYMENT, "bench", lambda spec: spec.update(replicas=1))
    await until(lambda: len(nodes(bench)) == 1 and len(bench.store.list(MACHINE)) == 1)
    await until(lambda: bench.settled("d"))
    assert {each["spec"]["nodeName"] for each in bench.pods("d")} == {nodes(bench)[0]["metadata"]["name"]}
    bench.store.delete(MACHINE_DEPLOYMENT, "default", "bench")
    await until(lambda: any(not each["spec"].get("nodeName") for each in bench.pods("d")), what="no node for a new one")
    assert nodes(bench), "the last node waits for the budget"
    bench.store.delete(POD_DISRUPTION_BUDGET, "default", "d")
    await until(lambda: not nodes(bench) and not bench.store.list(MACHINE))


def test_a_drain_keeps_a_budget_while_its_pods_are_ending() -> None:
    store = Store()
    made = store.create(DEPLOYMENT, deployment("d", 2))
    template = made["spec"]["template"]
    labels = template["metadata"]["labels"]
    replica_set = store.create(
        REPLICA_SET,
        {
            "metadata": {
                "name": "d-1",
                "namespace": "default",
                "ownerReferences": [owner_reference(DEPLOYMENT, made)],
            },
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        },
    )
    store.create(NODE, {"metadata": {"name": "n"}, "spec": {}})
    for name in ("d-1-a", "d-1-b"):
        manifest = pod(name, labels=labels, nodeName="n")
        manifest["metadata"]["ownerReferences"] = [owner_reference(REPLICA_SET, replica_set)]
        one = store.create(POD, manifest)
        set_condition(one["status"], "Ready", True)
        store.update(POD, one, subresource="status")
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    store.create(POD_DISRUPTION_BUDGET, {"metadata": {"name": "d", "namespace": "default"}, "spec": budget})
    for _ in range(3):
        assert not retire(store, "n")
    ending = [each["metadata"]["name"] for each in store.list(POD) if each["metadata"].get("deletionTimestamp")]
    assert len(ending) == 1, "the other one stays until a new pod is ready"


async def test_a_site_without_an_address_for_another_machine_says_so(bench: Bench) -> None:
    for number in range(1, 255):
        node = {"metadata": {"name": f"n{number}"}, "status": {"addresses": [{"address": f"{BLOCK}.1.{number}"}]}}
        bench.store.create(NODE, node)
    bench.store.create(MACHINE_DEPLOYMENT, machines(1))
    message = (await until(lambda: bench.events("FailedCreate")))[0]
    assert "site bench has addresses for 254 nodes and all are taken; ask for fewer" in message


async def test_every_namespace_has_its_default_service_account(bench: Bench) -> None:
    bench.store.create(NAMESPACE, {"metadata": {"name": "recommender"}})
    await until(lambda: len(bench.store.list(SERVICE_ACCOUNT)) == 3)


@pytest.mark.parametrize(
    ("annotation", "value", "rule"),
    [
        ("cpu", "", "annotation .*/cpu is ''"),
        ("memory", "lots", "memory is 'lots'"),
        ("gpu-count", "x", "gpu-count is 'x'"),
    ],
)
def test_a_pool_that_does_not_say_its_capacity_is_told_which_annotation(annotation: str, value: str, rule: str) -> None:
    broken = machines(1)
    broken["metadata"]["annotations"][f"capacity.cluster-autoscaler.kubernetes.io/{annotation}"] = value
    with pytest.raises(ValueError, match=rule):
        shape_of(broken)


def test_a_taint_is_key_value_and_effect() -> None:
    assert taint_of("a/b=c:NoExecute") == {"key": "a/b", "value": "c", "effect": "NoExecute"}
    assert taint_of("a:NoSchedule") == {"key": "a", "effect": "NoSchedule"}
    with pytest.raises(ValueError, match="is not key=value:Effect"):
        taint_of("a=b")


@pytest.mark.parametrize(
    ("instance_type", "capacity"),
    [("g6.xlarge", (4, 16, 1)), ("g5.12xlarge", (48, 192, 4)), ("g4dn.2xlarge", (8, 32, 1)), ("m7i.large", (2, 8, 0))],
)
def test_an_instance_type_has_a_known_size(instance_type: str, capacity: tuple[int, int, int]) -> None:
    assert capacity_of(instance_type) == capacity


@pytest.mark.parametrize("instance_type", ["p5.48xlarge", "g6.huge", "nonsense"])
def test_an_instance_type_outside_the_table_is_refused(instance_type: str) -> None:
    with pytest.raises(InstanceTypeError, match=instance_type):
        capacity_of(instance_type)


@pytest.fixture
def eks() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("eks", region_name="eu-central-1", aws_access_key_id="lab", aws_secret_access_key="lab")
        for name, site in (("here", "public"), ("there", "other")):
            role = "arn:aws:iam::123456789012:role/r"
            client.create_cluster(
                name=name, roleArn=role, resourcesVpcConfig={"subnetIds": []}, tags={"tandem.io/site": site}
            )
            client.create_nodegroup(
                clusterName=name,
                nodegroupName="gpu",
                nodeRole=role,
                subnets=["subnet-1"],
                scalingConfig={"minSize": 0, "desiredSize": 2, "maxSize": 3},
                instanceTypes=["g6.xlarge", "g5.xlarge"],
                labels={"pool": "gpu"},
                taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
            )
        yield client


async def test_node_groups_of_the_sites_own_cluster_become_nodes_and_go_with_it(eks: Any) -> None:
    store = Store()
    poller = NodeGroupPoller(store, SiteAddresses(name="public", kind="public", block=BLOCK), "")
    groups = groups_of(eks, "public")
    poller.apply(groups)
    assert [each["metadata"]["name"] for each in store.list(NODE)] == ["here-gpu-1", "here-gpu-2"]
    one = store.list(NODE)[0]
    assert one["metadata"]["labels"]["pool"] == "gpu"
    assert one["metadata"]["labels"]["eks.amazonaws.com/nodegroup"] == "gpu"
    assert one["spec"]["taints"] == [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]
    assert (one["status"]["capacity"]["cpu"], one["metadata"]["annotations"]["lab.tandem.io/gpu-count"]) == ("4", "1")
    eks.update_nodegroup_config(clusterName="here", nodegroupName="gpu", scalingConfig={"desiredSize": 1})
    poller.apply(groups_of(eks, "public"))
    assert [each["metadata"]["name"] for each in store.list(NODE)] == ["here-gpu-1"]
    assert groups_of(eks, "nowhere") == []


def group(name: str, wanted: int, instance_type: str = "m7i.large") -> Group:
    return Group("c", name, wanted, instance_type, {}, (), ())


def test_a_node_group_that_cannot_be_had_is_told_and_holds_no_other_back(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    poller = NodeGroupPoller(store, SiteAddresses(name="public", kind="public", block=BLOCK), "")
    groups = [group("odd", 1, "p5.48xlarge"), group("good", 2), group("large", 300)]
    poller.apply(groups)
    poller.apply(groups)
    names = [each["metadata"]["name"] for each in store.list(NODE)]
    assert {"c-good-1", "c-good-2"} < set(names)
    assert len(names) == 254
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2, "once for each group"
    assert "c/odd: instance type 'p5.48xlarge' is not in the lab's table" in told[0]
    assert "c/large: site public has addresses for 254 nodes and all are taken" in told[1]


class Written(BaseHTTPRequestHandler):
    """Answers /tandem/version, and nothing of AWS."""

    version = "1"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/tandem/version" else 500)
        self.end_headers()
        self.wfile.write(self.version.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def written() -> Iterator[str]:
    with ThreadingHTTPServer((f"{BLOCK}.0.31", 0), Written) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield "http://{}:{}".format(*server.server_address)
        server.shutdown()


def test_regions_are_looked_through_only_when_something_was_written(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def found(client: Any, _site: str) -> list[Group]:
        asked.append(client.meta.region_name)
        return [group("gpu", 1)] if Written.version == "3" and asked[-1] == "eu-central-1" else []

    monkeypatch.setattr(eks_module, "groups_of", found)
    poller = NodeGroupPoller(Store(), SiteAddresses(name="public", kind="public", block=BLOCK), written)
    assert poller.look() == poller.look() == []
    regions = len(asked)
    assert len(set(asked)) == regions > 1, "every region, once"
    monkeypatch.setattr(Written, "version", "2")
    assert poller.look() == []
    assert len(asked) == 2 * regions
    monkeypatch.setattr(Written, "version", "3")
    assert poller.look() == poller.look() == [group("gpu", 1)]
