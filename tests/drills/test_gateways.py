"""Counters of gateways that come and go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from drills import gateways
from drills.gateways import AGAIN, SilentGatewaysError
from drills.probes import PodSilent, pods
from tests.drills.worlds import a_deployment


def pod(*, leaving: bool = False, ready: bool = True) -> Any:
    return SimpleNamespace(
        metadata=SimpleNamespace(name="gateway-0", deletion_timestamp=datetime.now(UTC) if leaving else None),
        spec=SimpleNamespace(containers=[SimpleNamespace(ports=[SimpleNamespace(container_port=8080)])]),
        status=SimpleNamespace(
            phase="Running",
            container_statuses=[SimpleNamespace(state=SimpleNamespace(running=True))],
            conditions=[SimpleNamespace(type="Ready", status="True" if ready else "False")],
        ),
    )


class Core:
    """A cluster's API: a gateway that is silent for some asks, and what it says of the pod after each."""

    def __init__(self, silent: int, then: Any) -> None:
        self.silent, self.then, self.asked, self.way = silent, then, 0, ""

    def list_namespaced_pod(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(items=[pod()])

    def connect_get_namespaced_pod_proxy_with_path(self, way: str, *_: Any, **__: Any) -> Any:
        self.asked += 1
        self.way = way
        if self.asked <= self.silent:
            raise ApiException(status=503, reason="Service Unavailable")
        return SimpleNamespace(data=b"tandem_connections 7\n")

    def read_namespaced_pod(self, *_: Any, **__: Any) -> Any:
        if isinstance(self.then, Exception):
            raise self.then
        return self.then


def reading(monkeypatch: pytest.MonkeyPatch, core: Core, scheme: str = "http") -> gateways.Reading:
    monkeypatch.setattr(gateways, "cluster", lambda *_: SimpleNamespace(core=core))
    monkeypatch.setattr(gateways, "AGAIN_SECONDS", 0.0)
    deployment = a_deployment()
    serving = {site: replace(each, gateway_scheme=scheme) for site, each in deployment.serving.items()}
    return gateways.read(replace(deployment, serving=serving), "private")


@pytest.mark.parametrize(
    "then", [pod(leaving=True), pod(ready=False), ApiException(status=404)], ids=["leaving", "not ready", "gone"]
)
def test_a_gateway_that_went_while_it_was_asked_is_silent_and_no_trouble(
    monkeypatch: pytest.MonkeyPatch, then: Any
) -> None:
    found = reading(monkeypatch, Core(silent=9, then=then))
    assert found.silent == ["gateway-0"]
    assert found.pods == {}


@pytest.mark.parametrize(("scheme", "way"), [("http", "gateway-0:8080"), ("https", "https:gateway-0:8080")])
def test_a_gateway_is_asked_in_the_protocol_it_is_declared_to_speak(
    monkeypatch: pytest.MonkeyPatch, scheme: str, way: str
) -> None:
    core = Core(silent=0, then=pod())
    reading(monkeypatch, core, scheme)
    assert core.way == way


async def test_a_pod_is_not_called_silent_because_it_was_asked_in_the_wrong_protocol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core, deployment = Core(silent=0, then=pod()), a_deployment()
    monkeypatch.setattr(pods, "cluster", lambda *_: SimpleNamespace(core=core))
    serving = {site: replace(each, gateway_scheme="https") for site, each in deployment.serving.items()}
    found = await PodSilent(replace(deployment, serving=serving), "private", "gateway-0", 8080).ask()
    assert (found.held, core.way) == (False, "https:gateway-0:8080")


def test_a_ready_gateway_that_stays_silent_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(silent=9, then=pod())
    with pytest.raises(SilentGatewaysError, match="gateway gateway-0 of private: 503"):
        reading(monkeypatch, core)
    assert core.asked == AGAIN + 1


def test_a_gateway_that_answers_when_asked_again_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading(monkeypatch, Core(silent=1, then=pod())).connections == 7


def test_a_cluster_that_cannot_say_whether_the_pod_is_still_there_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SilentGatewaysError, match="500"):
        reading(monkeypatch, Core(silent=9, then=ApiException(status=500, reason="down")))
