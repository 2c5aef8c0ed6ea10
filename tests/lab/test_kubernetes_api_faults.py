"""Machines with a switch and declared faults: what of them is stored, and what the lab would not act on."""

from __future__ import annotations

from typing import Any

import pytest

from lab.kubernetes.api import kinds
from lab.kubernetes.api.errors import Invalid
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.store import Store

Object = dict[str, Any]

CHOSEN: Object = {"mode": "all", "selector": {"labelSelectors": {"app": "gateway"}}}
DELAY: Object = {**CHOSEN, "action": "delay", "delay": {"latency": "200ms", "jitter": "1.5ms"}, "duration": "1m30s"}
BANDWIDTH: Object = {
    **CHOSEN,
    "action": "bandwidth",
    "bandwidth": {"rate": "1mbps", "limit": 20971520, "buffer": 10000},
}
PARTITION: Object = {**CHOSEN, "action": "partition", "direction": "both", "target": CHOSEN}
ABORT: Object = {**CHOSEN, "target": "Request", "port": 8080, "path": "*", "abort": True}


def store(kind: Kind, spec: Object) -> Object:
    made = Store().create(kind, {"metadata": {"name": "f", "namespace": "default"}, "spec": spec})
    found: Object = made["spec"]
    return found


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (kinds.NETWORK_CHAOS, DELAY),
        (kinds.NETWORK_CHAOS, BANDWIDTH),
        (kinds.NETWORK_CHAOS, PARTITION),
        (kinds.HTTP_CHAOS, ABORT),
        (kinds.BARE_METAL_HOST, {"online": False, "bmc": {"address": "ipmi://192.0.2.1"}}),
    ],
    ids=["delay", "bandwidth", "partition", "abort", "host"],
)
def test_what_the_lab_acts_on_is_stored_with_a_status_of_its_own(kind: Kind, spec: Object) -> None:
    assert {**spec, **store(kind, spec)} == store(kind, spec)
    assert "status" in kind.subresources


def test_pods_are_looked_for_in_the_namespace_of_the_fault_and_on_their_way_out() -> None:
    spec = store(kinds.NETWORK_CHAOS, DELAY)
    assert (spec["selector"]["namespaces"], spec["direction"]) == (["default"], "to")
    assert store(kinds.NETWORK_CHAOS, PARTITION)["target"]["selector"]["namespaces"] == ["default"]
    assert store(kinds.HTTP_CHAOS, ABORT)["selector"]["namespaces"] == ["default"]


@pytest.mark.parametrize(
    ("kind", "spec", "field"),
    [
        (kinds.NETWORK_CHAOS, {**DELAY, "action": "loss"}, "spec.action"),
        (kinds.NETWORK_CHAOS, {**DELAY, "loss": {"loss": "50"}}, "spec.loss"),
        (kinds.NETWORK_CHAOS, {**DELAY, "mode": "one"}, "spec.mode"),
        (kinds.NETWORK_CHAOS, {**DELAY, "selector": None}, "spec.selector"),
        (kinds.NETWORK_CHAOS, {**DELAY, "selector": {"pods": {}}}, "spec.selector.pods"),
        (kinds.NETWORK_CHAOS, {**DELAY, "duration": "soon"}, "spec.duration"),
        (kinds.NETWORK_CHAOS, {**DELAY, "delay": {}}, "spec.delay.latency"),
        (kinds.NETWORK_CHAOS, {**DELAY, "delay": {"latency": 200}}, "spec.delay.latency"),
        (kinds.NETWORK_CHAOS, {**DELAY, "direction": "away"}, "spec.direction"),
        (kinds.NETWORK_CHAOS, {**DELAY, "direction": "from"}, "spec.target"),
        (kinds.NETWORK_CHAOS, {**DELAY, "externalTargets": ["192.0.2.1"]}, "spec.externalTargets"),
        (kinds.NETWORK_CHAOS, {**PARTITION, "target": {**CHOSEN, "mode": "one"}}, "spec.target.mode"),
        (
            kinds.NETWORK_CHAOS,
            {**BANDWIDTH, "bandwidth": {"rate": "fast", "limit": 1, "buffer": 1}},
            "spec.bandwidth.rate",
        ),
        (kinds.NETWORK_CHAOS, {**BANDWIDTH, "bandwidth": {"rate": "1mbps", "limit": 1}}, "spec.bandwidth.buffer"),
        (kinds.HTTP_CHAOS, {**ABORT, "abort": False}, "spec.abort"),
        (kinds.HTTP_CHAOS, {**ABORT, "target": "Both"}, "spec.target"),
        (kinds.HTTP_CHAOS, {**ABORT, "port": 0}, "spec.port"),
        (kinds.HTTP_CHAOS, {**ABORT, "path": "/v1"}, "spec.path"),
        (kinds.HTTP_CHAOS, {**ABORT, "delay": "1s"}, "spec.delay"),
        (kinds.BARE_METAL_HOST, {}, "spec.online"),
        (kinds.BARE_METAL_HOST, {"online": "yes"}, "spec.online"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_lab_would_not_act_on_is_refused_with_its_field(kind: Kind, spec: Object, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        store(kind, spec)
    assert field in {cause.field for cause in refused.value.causes}
