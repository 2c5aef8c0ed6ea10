"""NetworkPolicies: whom they let in, and what the listener's filter makes of it."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.kubernetes.blackhole import program
from lab.kubernetes.policy import EVERYONE, NOBODY, Admission, Block, admission, may_go

Object = dict[str, Any]

NAMESPACES: dict[str, dict[str, str]] = {"shop": {"team": "a"}, "other": {"team": "b"}}


def pod(name: str, *, app: str = "gateway", namespace: str = "shop", ip: str = "127.80.64.9") -> Object:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 8080, "protocol": "UDP"}]
    metadata = {"name": name, "namespace": namespace, "uid": name, "labels": {"app": app}}
    return {"metadata": metadata, "spec": {"containers": [{"ports": ports}]}, "status": {"podIP": ip}}


def policy(*ingress: Object, selector: Object | None = None, namespace: str = "shop", **spec: Any) -> Object:
    chosen = {"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {**chosen, **spec}}


def block(cidr: str, *excepted: str) -> Object:
    return {"from": [{"ipBlock": {"cidr": cidr, **({"except": list(excepted)} if excepted else {})}}]}


def allows(policies: list[Object], source: str | Object, port: int = 8080) -> bool:
    found = admission(policies, pod("g"), port)
    if isinstance(source, str):
        return found.of_address(source)
    return found.of_pod(source, NAMESPACES[source["metadata"]["namespace"]])


GATEWAY = {"matchLabels": {"app": "gateway"}}
TRITON = {"matchLabels": {"app": "triton"}}
TEAM_B = {"matchLabels": {"team": "b"}}
FRIEND = pod("f", app="friend", ip="127.80.64.7")
STRANGER = pod("s", app="friend", namespace="other", ip="127.80.64.8")
FROM_FRIENDS = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}
FROM_TEAM_B = {"from": [{"namespaceSelector": TEAM_B}]}
BOTH_IN_ONE = {"from": [{"namespaceSelector": TEAM_B, "podSelector": {"matchLabels": {"app": "gateway"}}}]}
EXPRESSION = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["gateway", "x"]}]}


@pytest.mark.parametrize(
    ("policies", "source", "allowed"),
    [
        pytest.param([], "127.0.0.1", True, id="no policy, everybody"),
        pytest.param([policy()], "127.0.0.1", False, id="no rule, nobody"),
        pytest.param([policy()], FRIEND, False, id="no rule, no pod either"),
        pytest.param([policy({})], "127.0.0.1", True, id="an empty rule, everybody"),
        pytest.param([policy({"from": []})], "127.0.0.1", True, id="an empty list of sources, everybody"),
        pytest.param([policy(selector=TRITON)], "127.0.0.1", True, id="of other pods"),
        pytest.param([policy(selector=EXPRESSION)], "127.0.0.1", False, id="selected by an expression"),
        pytest.param([policy(namespace="other")], "127.0.0.1", True, id="of another namespace"),
        pytest.param([policy(policyTypes=["Egress"])], "127.0.0.1", True, id="about what goes out only"),
        pytest.param([policy(policyTypes=None)], "127.0.0.1", False, id="about what comes in unless it says"),
        pytest.param([policy(), policy({})], "127.0.0.1", True, id="an added deny does nothing beside an allow"),
        pytest.param([policy(block("127.30.1.0/24"))], "127.30.1.20", True, id="inside of the block"),
        pytest.param([policy(block("127.30.1.0/24"))], "127.30.2.20", False, id="outside of the block"),
        pytest.param([policy(block("127.30.1.0/24", "127.30.1.16/29"))], "127.30.1.20", False, id="excepted"),
        pytest.param([policy(block("127.30.1.0/24", "127.30.1.16/29"))], "127.30.1.24", True, id="beside the except"),
        pytest.param(
            [policy(block("0.0.0.0/0", "127.30.1.16/29"), block("127.30.1.17/32"))],
            "127.30.1.17",
            True,
            id="excepted by one rule, let in by another",
        ),
        pytest.param([policy(block("::/0"))], "127.0.0.1", False, id="another family's block"),
        pytest.param([policy(FROM_FRIENDS)], FRIEND, True, id="a pod with the labels"),
        pytest.param([policy(FROM_FRIENDS)], pod("x", app="foe"), False, id="a pod without them"),
        pytest.param([policy(FROM_FRIENDS)], STRANGER, False, id="the labels in another namespace"),
        pytest.param([policy(FROM_FRIENDS)], "127.80.64.7", False, id="no pod at all"),
        pytest.param([policy({"from": [{"podSelector": {}}]})], FRIEND, True, id="every pod of the namespace"),
        pytest.param([policy(FROM_TEAM_B)], STRANGER, True, id="any pod of a namespace with the labels"),
        pytest.param([policy(FROM_TEAM_B)], FRIEND, False, id="a pod of a namespace without them"),
        pytest.param([policy(BOTH_IN_ONE)], STRANGER, False, id="namespace and pod in one entry: both must match"),
        pytest.param([policy({"from": [*FROM_TEAM_B["from"], *FROM_FRIENDS["from"]]})], FRIEND, True, id="two entries"),
        pytest.param([policy(block("127.80.64.0/24"))], FRIEND, True, id="a pod by its own address"),
    ],
)
def test_who_may_come_in(policies: list[Object], source: str | Object, allowed: bool) -> None:
    assert allows(policies, source) is allowed


@pytest.mark.parametrize(
    ("ports", "port", "allowed"),
    [
        pytest.param([{"port": 8080}], 8080, True, id="the number"),
        pytest.param([{"port": 8081}], 8080, False, id="another number"),
        pytest.param([{"port": 8000, "endPort": 8100}], 8080, True, id="within a range"),
        pytest.param([{"port": "http"}], 8080, True, id="the pod's name for it"),
        pytest.param([{"port": "http"}], 8082, False, id="the name of another port"),
        pytest.param([{"port": "dns"}], 8080, False, id="the name of another protocol's port"),
        pytest.param([{"port": 8080, "protocol": "UDP"}], 8080, False, id="another protocol"),
        pytest.param([{"protocol": "TCP"}], 8080, True, id="every port of the protocol"),
        pytest.param([], 8080, True, id="no list, every port"),
        pytest.param([{"port": 1}, {"port": 8080}], 8080, True, id="one of several"),
    ],
)
def test_which_ports_a_rule_opens(ports: list[Object], port: int, allowed: bool) -> None:
    assert allows([policy({"ports": ports})], "127.0.0.1", port) is allowed


def test_nobody_is_known_as_such_before_anybody_comes() -> None:
    assert admission([policy()], pod("g"), 8080).nobody
    assert not admission([policy(FROM_FRIENDS)], pod("g"), 8080).nobody
    assert not EVERYONE.nobody


def passes(code: list[tuple[int, int, int, int]], source: int) -> bool:
    """Runs the filter as the kernel does."""
    accumulator, at = 0, 0
    for _ in range(len(code) + 1):
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            accumulator = source
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x15:
            at += yes if accumulator == value else no
        elif operation == 0x05:
            at += value
        else:
            return value > 0
    raise AssertionError("the filter does not end")


NETWORKS = st.builds(
    lambda address, bits: ipaddress.IPv4Network((address, bits), strict=False),
    st.integers(0x7F000000, 0x7F0000FF),
    st.integers(22, 32),
)
BLOCKS = st.builds(Block, NETWORKS, st.lists(NETWORKS, max_size=3).map(tuple))


@given(st.lists(BLOCKS, max_size=4), st.integers(0x7F000000, 0x7F0000FF))
def test_the_filter_lets_the_same_addresses_in_as_the_rules(blocks: list[Block], source: int) -> None:
    admitted = Admission(blocks=tuple(blocks))
    assert passes(program(admitted), source) is admitted.of_address(str(ipaddress.IPv4Address(source)))


def test_the_filter_of_nobody_lets_nobody_in() -> None:
    assert not passes(program(NOBODY), 0x7F000001)


def going(*egress: Object, selector: Object | None = None) -> Object:
    chosen = {"podSelector": selector or {}, "policyTypes": ["Egress"], "egress": list(egress)}
    return {"metadata": {"name": "p", "namespace": "shop"}, "spec": chosen}


TO_TRITON: Object = {"to": [{"podSelector": TRITON}], "ports": [{"protocol": "TCP", "port": 8001}]}
TO_TEAM_B: Object = {"to": [{"namespaceSelector": TEAM_B}]}


@pytest.mark.parametrize(
    ("policies", "target", "port", "allowed"),
    [
        pytest.param([], pod("t", app="triton"), 8001, True, id="no policy, anywhere"),
        pytest.param([policy()], pod("t", app="triton"), 8001, True, id="about what comes in only"),
        pytest.param([going()], pod("t", app="triton"), 8001, False, id="no rule, nowhere"),
        pytest.param([going({})], pod("t", app="triton"), 8001, True, id="an empty rule, anywhere"),
        pytest.param([going(), going(TO_TRITON)], pod("t", app="triton"), 8001, True, id="allows add up"),
        pytest.param([going(TO_TRITON)], pod("t", app="triton"), 8000, False, id="another port"),
        pytest.param([going(TO_TRITON)], pod("o", app="other"), 8001, False, id="another pod"),
        pytest.param([going(TO_TRITON)], pod("t", app="triton", namespace="other"), 8001, False, id="elsewhere"),
        pytest.param([going(TO_TEAM_B)], pod("o", namespace="other"), 8001, True, id="a namespace"),
        pytest.param([going(selector=TRITON)], pod("t", app="triton"), 8001, True, id="about other callers"),
        pytest.param(
            [going({"to": [{"ipBlock": {"cidr": "127.80.64.9/32"}}]})], pod("t"), 8001, True, id="by its address"
        ),
        pytest.param(
            [going({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["127.0.0.0/8"]}}]})],
            pod("t"),
            8001,
            False,
            id="anywhere but there",
        ),
    ],
)
def test_a_pod_goes_where_what_rules_it_lets_it(
    policies: list[Object], target: Object, port: int, allowed: bool
) -> None:
    labels = NAMESPACES[target["metadata"]["namespace"]]
    assert may_go(policies, pod("g"), target, labels, port) is allowed
