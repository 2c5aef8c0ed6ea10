"""Which connections pods may open and take."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from drills import lease_job
from infra import naming, triton
from infra.flows import Flows, FlowsArgs, port_of
from infra.lease import UNDO
from lab.kubernetes.links import Links, Source
from tests.infra.recording import Graph, run

ARGS = FlowsArgs(
    site="private", namespace="tandem", gateway_port=8080, store_port=9000, monitoring_namespace="monitoring"
)
ANYWHERE = {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def graph(**changes: Any) -> Graph:
    return run(lambda: Flows("flows", replace(ARGS, **changes)).gateway_policy)


def spec(name: str, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = graph(**changes).one("NetworkPolicy", f"flows-{name}")["spec"]
    return found


def pods(name: str) -> dict[str, Any]:
    return {"matchLabels": naming.selector(name)}


def tcp(*ports: int) -> list[dict[str, Any]]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def test_every_pod_of_the_namespace_is_closed_both_ways_before_anything_is_opened() -> None:
    found = spec("default")
    assert found["podSelector"] == {}
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert (found.get("ingress", []), found.get("egress", [])) == ([], [])


def test_each_policy_is_about_one_way_and_has_rules() -> None:
    for name, state in graph().of("NetworkPolicy").items():
        if name != "flows-default":
            [way] = state["spec"]["policyTypes"]
            assert state["spec"][way.lower()], name
            assert {"Ingress": "egress", "Egress": "ingress"}[way] not in state["spec"], name
        assert state["metadata"]["annotations"] == {"pulumi.com/patchForce": "true"}, "what a drill cuts, an up opens"
    assert graph().without_parent() == set()


def test_users_reach_gateways_at_their_port_only() -> None:
    found = spec("gateway")
    assert found["podSelector"] == pods("gateway")
    users = [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"podSelector": pods("heartbeat")}]
    assert found["ingress"] == [{"from": users, "ports": tcp(8080)}]
    assert graph().result == "gateway"


def test_a_site_that_users_are_cut_from_can_still_be_measured() -> None:
    assert spec("gateway-metrics")["ingress"] == [{"from": [MONITORING], "ports": tcp(8080)}]


def test_model_servers_answer_gateways_by_grpc_and_nobody_by_http() -> None:
    found = spec("triton")
    assert found["podSelector"] == pods("triton")
    inference, metrics = found["ingress"]
    assert inference == {"from": [{"podSelector": pods("gateway")}], "ports": tcp(triton.PORTS["grpc"])}
    assert metrics == {"from": [MONITORING], "ports": tcp(triton.PORTS["metrics"])}
    assert triton.PORTS["http"] not in {port["port"] for rule in found["ingress"] for port in rule["ports"]}


def test_names_are_asked_of_the_clusters_own_servers_only() -> None:
    [rule] = spec("dns")["egress"]
    [servers] = rule["to"]
    assert servers["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}
    [rule] = spec("dns", dns_cidrs=("169.254.20.10/32",))["egress"]
    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]


def test_a_gateway_goes_to_model_servers_and_to_the_store() -> None:
    asks, store = spec("gateway-calls")["egress"]
    assert asks == {"to": [{"podSelector": pods("triton")}], "ports": tcp(8001)}
    assert store == {"to": [ANYWHERE], "ports": tcp(9000)}


def test_a_model_server_goes_to_the_store_and_nowhere_else() -> None:
    assert spec("triton-calls", store_cidrs=("192.0.2.0/24",))["egress"] == [
        {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": tcp(9000)}
    ]


def test_anywhere_is_not_the_machine_with_its_credentials() -> None:
    for state in graph(identity_agent=True).of("NetworkPolicy").values():
        for rule in state["spec"].get("egress", []):
            for peer in rule["to"]:
                if peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0":
                    assert peer["ipBlock"]["except"] == ["169.254.0.0/16"]


def test_where_pods_have_an_identity_its_agent_is_reached() -> None:
    agent = {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": tcp(80)}
    for name in ("gateway-calls", "triton-calls", "undo-calls"):
        assert agent in spec(name, identity_agent=True)["egress"]
        assert agent not in spec(name)["egress"]


def test_an_undo_reaches_the_api_and_every_store_its_marks_may_lie_in() -> None:
    found = spec("undo-calls", other_store_ports=(7480,), api_cidrs=("192.0.2.1/32",))
    api, own, others = found["egress"]
    assert api == {"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": tcp(443, 6443)}
    assert own == {"to": [ANYWHERE], "ports": tcp(9000)}
    assert others == {"to": [ANYWHERE], "ports": tcp(443, 7480)}
    labels = lease_job.labels("d1")
    assert found["podSelector"]["matchLabels"].items() <= labels.items(), f"undo pods are not called {UNDO}"


def running(name: str, address: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "tandem", "uid": name, "labels": naming.labels("private", name)}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"podIP": address}}


@pytest.mark.parametrize(
    ("source", "backend", "passes"),
    [
        (Source("127.0.0.1"), ("127.80.64.1", 8080), True),
        (Source("127.0.0.1"), ("127.80.64.2", 8001), False),
        (Source("127.0.0.1", "gateway"), ("127.80.64.2", 8001), True),
        (Source("127.0.0.1", "gateway"), ("127.80.64.2", 8000), False),
        (Source("127.0.0.1", "triton"), ("127.80.64.1", 8080), False),
        (Source("127.0.0.1", "drill"), ("127.80.64.2", 8001), False),
    ],
    ids=[
        "users to gateways",
        "users to models",
        "gateways to models",
        "by http",
        "models to gateways",
        "undo to models",
    ],
)
def test_what_a_site_lives_on_passes_and_the_rest_is_cut(
    source: Source, backend: tuple[str, int], passes: bool
) -> None:
    pods_there = [running("gateway", "127.80.64.1"), running("triton", "127.80.64.2"), running("drill", "127.80.64.3")]
    # The wire makes every number a decimal one; an API makes ports whole again.
    written = json.dumps(list(graph().of("NetworkPolicy").values()))
    policies = json.loads(written, parse_float=lambda number: int(float(number)))
    spaces = [{"metadata": {"name": "tandem"}}]
    found = Links.declared(policies=policies, namespaces=spaces, pods=pods_there, chaos=[])
    assert found.between(source, backend).cut is not passes


@pytest.mark.parametrize(
    ("url", "port"),
    [("", 443), ("https://rgw.example", 443), ("https://rgw.example:7480", 7480), ("http://127.0.0.2:9000", 9000),
     ("http://rgw.example", 80)],
)  # fmt: skip
def test_a_store_is_reached_at_its_endpoints_port(url: str, port: int) -> None:
    assert port_of(url) == port
