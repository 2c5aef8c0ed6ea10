"""A state without its dead cluster holds exactly what lived elsewhere, and names nothing that is gone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stacks.checkpoint import Checkpoint, CheckpointError, name
from stacks.secret_marks import KEY, SECRET

STACK = "urn:pulumi:pool-public.prod::tandem::"


def urn(kind: str, called: str) -> str:
    return f"{STACK}{kind}::{called}"


ROOT = urn("pulumi:pulumi:Stack", "tandem-pool-public.prod")
AWS = urn("pulumi:providers:aws", "aws")
CLUSTER = urn("pulumi:providers:kubernetes", "workload")
MANAGEMENT = urn("pulumi:providers:kubernetes", "management")
POOL = urn("tandem:public_pool:PublicPool", "public")
MANIFESTS = urn("tandem:platform:Platform", "public")


def record(kind: str, called: str, *, on: str = "", **more: Any) -> dict[str, Any]:
    provider = {"provider": f"{on}::id"} if on else {}
    return {
        "urn": urn(kind, called),
        "type": kind,
        "custom": bool(on),
        "id": called,
        "parent": ROOT,
        **provider,
        **more,
    }


RECORDS = [
    {"urn": ROOT, "type": "pulumi:pulumi:Stack", "custom": False, "outputs": {"site": "public"}},
    {"urn": AWS, "type": "pulumi:providers:aws", "custom": True, "id": "id"},
    {"urn": CLUSTER, "type": "pulumi:providers:kubernetes", "custom": True, "id": "id"},
    {"urn": MANAGEMENT, "type": "pulumi:providers:kubernetes", "custom": True, "id": "id"},
    record("tandem:public_pool:PublicPool", "public"),
    record("tandem:platform:Platform", "public"),
    record("aws:ec2/vpc:Vpc", "vpc", on=AWS, protect=True),
    record("aws:eks/cluster:Cluster", "cluster", on=AWS, parent=POOL, protect=True),
    record("kubernetes:core/v1:Namespace", "tandem", on=CLUSTER, parent=MANIFESTS, protect=True),
    record("kubernetes:cluster.x-k8s.io/v1beta1:MachineDeployment", "gpu", on=MANAGEMENT, parent=POOL),
    record(
        "aws:iam/role:Role", "pods", on=AWS, parent=urn("aws:eks/cluster:Cluster", "cluster"),
        dependencies=[urn("aws:eks/cluster:Cluster", "cluster"), urn("aws:ec2/vpc:Vpc", "vpc")],
        propertyDependencies={"name": [urn("kubernetes:core/v1:Namespace", "tandem")], "path": None},
    ),
    record("aws:ec2/tag:Tag", "of-the-cluster", on=AWS, deletedWith=urn("aws:eks/cluster:Cluster", "cluster")),
]  # fmt: skip


def checkpoint(*pending: dict[str, Any]) -> Checkpoint:
    deployment: dict[str, Any] = {"manifest": {"magic": "m"}, "resources": RECORDS}
    if pending:
        deployment["pending_operations"] = [{"type": "creating", "resource": each} for each in pending]
    return Checkpoint.parse(json.dumps({"version": 3, "deployment": deployment}), "the test's")


def names(records: list[dict[str, Any]]) -> set[str]:
    return {name(each).rpartition("::")[2] for each in records}


def test_what_lived_in_the_cluster_goes_and_the_rest_stays() -> None:
    left, gone = checkpoint().without_cluster(pool=False, management="management")
    assert names(gone) == {"tandem"}
    assert names(left.resources) == {"vpc", "cluster", "gpu", "pods", "of-the-cluster"}
    kept = {each["urn"] for each in left.records}
    assert CLUSTER not in kept, "its provider goes with it"
    assert MANIFESTS not in kept, "a component that held only that goes too"
    assert {ROOT, AWS, MANAGEMENT, POOL} <= kept
    assert left.records[0]["outputs"] == {"site": "public"}, "others read its outputs on"


def test_of_a_pool_the_cluster_itself_goes_and_the_network_stays() -> None:
    left, gone = checkpoint().without_cluster(pool=True, management="management")
    assert names(gone) == {"tandem", "cluster", "of-the-cluster"}
    assert names(left.resources) == {"vpc", "gpu", "pods"}


def test_a_dead_management_cluster_takes_its_machines_along() -> None:
    left, gone = checkpoint().without_cluster(pool=True, management=None)
    assert "gpu" in names(gone)
    assert POOL not in {each["urn"] for each in left.records}


def test_nothing_that_is_kept_names_anything_that_is_gone() -> None:
    left, _ = checkpoint(RECORDS[8], RECORDS[6]).without_cluster(pool=True, management="management")
    pods = next(each for each in left.records if each["id" if "id" in each else "urn"] == "pods")
    assert pods["dependencies"] == [urn("aws:ec2/vpc:Vpc", "vpc")]
    assert pods["propertyDependencies"] == {"name": [], "path": []}
    assert pods["parent"] == ROOT
    pending = left.document["deployment"]["pending_operations"]
    assert [each["resource"]["id"] for each in pending] == ["vpc"], "what was begun in the cluster is forgotten too"
    assert left.document["deployment"]["manifest"] == {"magic": "m"}
    assert checkpoint().records == RECORDS, "the state it was taken from is as it was"


def test_protected_resources_are_named() -> None:
    assert checkpoint().protected == [
        "aws:ec2/vpc:Vpc::vpc", "aws:eks/cluster:Cluster::cluster", "kubernetes:core/v1:Namespace::tandem"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("beside", "plain"),
    [({"ciphertext": "v1:abc"}, False), ({"plaintext": '"hush"'}, True), ({"value": "hush"}, True)],
)
def test_a_secret_anybody_can_read_is_noticed(beside: dict[str, str], plain: bool) -> None:
    key, mark = KEY, SECRET
    deep = {"inputs": {"list": [{"deeper": {key: mark, **beside}}]}}
    document = {"version": 3, "deployment": {"resources": [{**RECORDS[6], **deep}]}}
    assert Checkpoint(document).has_plain_secrets is plain
    assert not checkpoint().has_plain_secrets


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"deployment": {"resources": [{}]}}', '{"deployment": 3}'])
def test_what_is_no_state_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="somewhere holds no state"):
        Checkpoint.parse(text, "somewhere")
