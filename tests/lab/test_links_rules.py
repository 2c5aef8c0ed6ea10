"""What declared faults and policies make of a connection, before any socket is involved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from test_policy_rules import policy

from lab.kubernetes import faults
from lab.kubernetes.links import CLEAR, CLEAR_SHAPE, CUT, NOTHING, Link, Links, Source

Object = dict[str, Any]

CREATED = datetime(2030, 1, 1, tzinfo=UTC)
GATEWAY, TRITON = ("127.80.64.1", 8080), ("127.80.64.2", 8001)
USER, FROM_GATEWAY, FROM_TRITON = Source("127.0.0.1"), Source("127.0.0.1", "gateway"), Source("127.0.0.1", "triton")


def pod(name: str, address: str, **status: str) -> Object:
    metadata = {"name": name, "namespace": "shop", "uid": name, "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"containers": []}, "status": {"podIP": address, **status}}


def chosen(app: str) -> Object:
    return {"mode": "all", "selector": {"namespaces": ["shop"], "labelSelectors": {"app": app}}}


def chaos(kind: str = "NetworkChaos", app: str = "triton", **spec: Any) -> Object:
    metadata = {"name": "c", "namespace": "shop", "uid": "1", "creationTimestamp": "2030-01-01T00:00:00Z"}
    return {"kind": kind, "metadata": metadata, "spec": {**chosen(app), **spec}}


def links(*objects: Object, policies: tuple[Object, ...] = (), now: datetime = CREATED) -> Links:
    pods = [pod("gateway", GATEWAY[0]), pod("triton", TRITON[0]), pod("over", "127.80.64.3", phase="Failed")]
    spaces = [{"metadata": {"name": "shop"}}]
    return Links.declared(policies=policies, namespaces=spaces, pods=pods, chaos=objects, now=now)


DELAY = {"action": "delay", "delay": {"latency": "200ms", "jitter": "20ms", "correlation": "50"}}


def delays(link: Link) -> tuple[float, float]:
    return link.upstream.delay_seconds, link.downstream.delay_seconds


@pytest.mark.parametrize(
    ("spec", "source", "backend", "expected"),
    [
        pytest.param({}, FROM_GATEWAY, TRITON, (0, 0.2), id="what the selected pods send"),
        pytest.param({}, FROM_TRITON, GATEWAY, (0.2, 0), id="what they send as callers"),
        pytest.param({}, USER, TRITON, (0, 0.2), id="to whomever"),
        pytest.param({}, USER, GATEWAY, (0, 0), id="not between others"),
        pytest.param({"target": chosen("gateway")}, FROM_GATEWAY, TRITON, (0, 0.2), id="to the target"),
        pytest.param({"target": chosen("gateway")}, USER, TRITON, (0, 0), id="not to others than the target"),
        pytest.param(
            {"target": chosen("gateway"), "direction": "from"}, FROM_GATEWAY, TRITON, (0.2, 0), id="from the target"
        ),
        pytest.param(
            {"target": chosen("gateway"), "direction": "both"}, FROM_GATEWAY, TRITON, (0.2, 0.2), id="both ways"
        ),
        pytest.param(
            {"target": chosen("gateway"), "direction": "both"}, FROM_TRITON, GATEWAY, (0.2, 0.2), id="who calls whom"
        ),
    ],
)
def test_a_delay_hits_the_packets_it_names(
    spec: Object, source: Source, backend: tuple[str, int], expected: tuple[float, float]
) -> None:
    assert delays(links(chaos(**DELAY, **spec)).between(source, backend)) == expected


def test_a_partition_cuts_connections_that_lose_either_direction() -> None:
    found = links(chaos(action="partition", direction="to", target=chosen("gateway")))
    assert found.between(FROM_GATEWAY, TRITON) == CUT
    assert found.between(FROM_TRITON, GATEWAY) == CUT
    assert found.between(USER, TRITON) == CLEAR
    assert not found.gate([TRITON]).nobody
    assert links(chaos(action="partition", direction="both")).gate([TRITON]).nobody
    assert not links(chaos(action="partition", direction="both")).gate([TRITON, GATEWAY]).nobody


def test_a_rate_is_shared_by_what_a_pod_sends_and_delays_add_up() -> None:
    rate = chaos(action="bandwidth", bandwidth={"rate": "1mbps"})
    shape = links(rate, chaos(**DELAY), chaos(**DELAY)).between(USER, TRITON).downstream
    assert [each.bytes_per_second for each in shape.limits] == [1024 * 1024]
    assert (shape.delay_seconds, shape.jitter_seconds) == (0.4, 0.04)
    same = links(rate).between(FROM_GATEWAY, TRITON).downstream
    assert same.limits == shape.limits


@pytest.mark.parametrize("side", ["Request", "Response"])
def test_an_abort_hits_one_port_of_the_selected_pods(side: str) -> None:
    found = links(chaos("HTTPChaos", target=side, port=8001, abort=True, path="*"))
    link = found.between(USER, TRITON)
    assert (link.upstream.resets, link.downstream.resets) == (side == "Request", side == "Response")
    assert found.between(USER, (TRITON[0], 8000)) == CLEAR
    assert found.between(USER, (GATEWAY[0], 8001)) == CLEAR


def test_policies_cut_and_a_pod_always_reaches_itself() -> None:
    found = links(policies=(policy(selector={"matchLabels": {"app": "triton"}}),))
    assert found.between(FROM_GATEWAY, TRITON) == CUT
    assert found.between(FROM_TRITON, TRITON) == CLEAR
    assert found.between(USER, GATEWAY) == CLEAR
    assert (found.concerns(TRITON), found.concerns(GATEWAY)) == (True, False)


def test_a_caller_that_may_not_go_out_is_cut_whoever_lets_it_in() -> None:
    closed = policy(selector={"matchLabels": {"app": "gateway"}}, policyTypes=["Egress"], egress=[])
    found = links(policies=(closed,))
    assert found.between(FROM_GATEWAY, TRITON) == CUT
    assert found.between(FROM_GATEWAY, GATEWAY) == CLEAR, "itself"
    assert found.between(FROM_TRITON, GATEWAY) == CLEAR, "about other callers"
    assert found.between(USER, GATEWAY) == CLEAR, "who is outside of the cluster is ruled by nothing in it"
    assert found.concerns(TRITON)


def test_a_duration_ends_a_fault_by_itself() -> None:
    fault = chaos(action="partition", duration="1m30s")
    running = links(fault, now=CREATED + timedelta(seconds=89))
    assert running.until == CREATED + timedelta(seconds=90)
    assert running.between(USER, TRITON) == CUT
    assert links(fault, now=CREATED + timedelta(seconds=90)) == NOTHING


def test_a_pause_or_a_deletion_lifts_a_fault() -> None:
    fault = chaos(action="partition")
    for mark in ({"annotations": {faults.PAUSED: "true"}}, {"deletionTimestamp": "2030-01-01T00:00:01Z"}):
        assert links({**fault, "metadata": {**fault["metadata"], **mark}}) == NOTHING


def test_what_changes_no_link_leaves_the_links_equal() -> None:
    fault = chaos(action="partition")
    written = {**fault, "status": {"conditions": []}}
    assert links(fault) == links(written)
    assert links(fault) != links(chaos(**DELAY))
    assert links() is NOTHING


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"action": "loss"}, "action 'loss'", id="another action"),
        pytest.param({"action": "partition", "mode": "one"}, "mode 'one'", id="some of the pods"),
        pytest.param({**DELAY, "delay": {"latency": "soon"}}, "'soon' is not a duration", id="no duration"),
        pytest.param({**DELAY, "direction": "from"}, "needs a target", id="as the real webhook: a delay from nobody"),
        pytest.param({"action": "bandwidth", "bandwidth": {"rate": "fast"}}, "'fast' is not a rate", id="no rate"),
        pytest.param({"action": "partition", "externalTargets": ["1.1.1.1"]}, "externalTargets", id="outside"),
    ],
)
def test_a_fault_the_lab_cannot_act_out_says_so_and_does_nothing(spec: Object, said: str) -> None:
    with pytest.raises(faults.FaultError, match=said):
        faults.fault_of(chaos(**spec))
    assert links(chaos(**spec)) == NOTHING


def test_requests_cannot_be_told_apart_by_path() -> None:
    with pytest.raises(faults.FaultError, match="/v1"):
        faults.fault_of(chaos("HTTPChaos", port=80, abort=True, path="/v1"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("200ms", 0.2), ("1m30s", 90), ("1.5h", 5400), ("10us", 1e-5)],
)
def test_durations_are_gos(text: str, expected: float) -> None:
    assert faults.seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize(("text", "expected"), [("1mbps", 2**20), ("10 kbps", 10240), ("8mbit", 1e6), ("5bps", 5)])
def test_rates_are_tcs(text: str, expected: float) -> None:
    assert faults.bytes_per_second(text) == expected


def test_nothing_declared_is_nothing_shaped() -> None:
    assert NOTHING.between(USER, TRITON).upstream == CLEAR_SHAPE
    assert not NOTHING.concerns(TRITON)
