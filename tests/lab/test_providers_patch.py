"""Patches of nodes that exist, against the lab's own API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from test_providers_kubernetes import Site
from test_providers_protocol import Session, port, refusal

pytestmark = pytest.mark.live

__all__ = ["port"]

PATCH = "kubernetes:core/v1:NodePatch"
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture
def session(port: int, site: Site) -> Iterator[Session]:
    session = Session(port, "kubernetes", {"kubeconfig": site.kubeconfig})
    yield session
    session.close()


def node(site: Site, name: str, **spec: Any) -> str:
    site.post("/api/v1/nodes", {"metadata": {"name": name, "labels": {"rack": "b"}}, "spec": spec})
    return name


def live(site: Site, name: str) -> dict[str, Any]:
    found = site.get(f"/api/v1/nodes/{name}")
    assert found is not None
    return found


def given(name: str, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [TAINT]},
    }


def test_a_node_gets_labels_and_taint_and_loses_them_again_and_stays(session: Session, site: Site) -> None:
    name = node(site, "gpu-1")
    made = session.up(PATCH, "one", **given(name, pool="gpu", site="edge"))
    assert made.identity == name
    found = live(site, name)
    assert found["metadata"]["labels"] == {"rack": "b", "pool": "gpu", "site": "edge"}
    assert found["spec"]["taints"] == [TAINT]
    session.update(made, **given(name, pool="big"))
    assert live(site, name)["metadata"]["labels"] == {"rack": "b", "pool": "big"}
    session.delete(made)
    found = live(site, name)
    assert found["metadata"]["labels"] == {"rack": "b"}
    assert not found["spec"].get("taints")


def test_two_patches_of_one_node_keep_out_of_each_others_way(session: Session, site: Site) -> None:
    name = node(site, "gpu-2")
    first = session.up(PATCH, "first", apiVersion="v1", kind="Node", metadata={"name": name, "labels": {"a": "1"}})
    session.up(PATCH, "second", apiVersion="v1", kind="Node", metadata={"name": name, "labels": {"b": "2"}})
    session.delete(first)
    assert live(site, name)["metadata"]["labels"] == {"rack": "b", "b": "2"}


def test_taints_that_something_else_has_set_are_not_overwritten(session: Session, site: Site) -> None:
    name = node(site, "gpu-3", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}])
    with pytest.raises(grpc.RpcError) as caught:
        session.up(PATCH, "three", **given(name))
    assert "taints" in refusal(caught)
    assert [taint["key"] for taint in live(site, name)["spec"]["taints"]] == ["node.kubernetes.io/unreachable"]


def test_a_node_that_is_not_there_is_not_made(session: Session, site: Site) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        session.up(PATCH, "four", **given("gpu-4"))
    assert "Node gpu-4 is not there" in refusal(caught)
    assert site.get("/api/v1/nodes/gpu-4") is None


def test_a_patch_without_a_name_is_refused_before_anything_is_asked(session: Session) -> None:
    _, failures = session.check(PATCH, "five", {"metadata": {"labels": {"a": "1"}}})
    assert [failure.property for failure in failures] == ["metadata.name"]


def test_a_preview_says_what_the_node_would_be_and_changes_nothing(session: Session, site: Site) -> None:
    name = node(site, "gpu-6")
    planned = session.preview(PATCH, "six", **given(name, pool="gpu"))
    assert planned["metadata"]["labels"] == {"rack": "b", "pool": "gpu"}
    assert live(site, name)["metadata"]["labels"] == {"rack": "b"}
