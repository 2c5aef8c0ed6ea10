"""What a site's Prometheus is asked to read, and that a program declares it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from infra import gateway, lag_exporter, naming, triton
from infra.monitoring import Monitoring, MonitoringArgs
from lab.kubernetes.api.kinds import KINDS
from tests.infra.recording import Graph, run
from tests.infra.watched import WATCHED

ARGS = MonitoringArgs(site="private", namespace="tandem", protocol="https", watched=WATCHED, own_certificate=True)


def graph(**changes: Any) -> Graph:
    return run(lambda: Monitoring("monitoring", replace(ARGS, **changes)).urn)


def test_gateways_are_asked_at_the_port_of_their_service_and_model_servers_pod_by_pod() -> None:
    found = graph()
    service = found.one("ServiceMonitor")["spec"]
    assert service["selector"]["matchLabels"] == naming.selector(gateway.NAME)
    assert service["endpoints"][0]["port"] == "https"
    pods = found.one("PodMonitor", "monitoring-triton")["spec"]
    assert pods["selector"]["matchLabels"] == naming.selector(triton.NAME)
    [asked] = pods["podMetricsEndpoints"]
    assert asked["port"] in triton.PORTS
    assert {"targetLabel": "site", "replacement": "private"} in asked["relabelings"]


def test_a_gateway_that_ends_tls_is_asked_over_tls_and_one_that_does_not_is_not() -> None:
    [asked] = graph().one("ServiceMonitor")["spec"]["endpoints"]
    assert asked["scheme"] == "https"
    [asked] = graph(protocol="http").one("ServiceMonitor")["spec"]["endpoints"]
    assert asked["port"] == "http"
    assert "scheme" not in asked


def test_cert_manager_is_asked_only_where_it_keeps_the_certificate() -> None:
    [asked] = graph().one("PodMonitor", "monitoring-certificates")["spec"]["podMetricsEndpoints"]
    assert asked["honorLabels"] is True
    assert set(graph(own_certificate=False).of("PodMonitor")) == {"monitoring-triton"}


def test_the_exporter_of_the_copies_lag_is_asked_in_its_own_namespace_and_only_where_there_is_one() -> None:
    assert set(graph().of("ServiceMonitor")) == {"monitoring-gateway"}
    asked = graph(copies_watched=True).one("ServiceMonitor", "monitoring-copies")["spec"]
    assert asked["namespaceSelector"] == {"matchNames": [lag_exporter.NAME]}
    exporter = lag_exporter.values()
    assert asked["selector"]["matchLabels"] == {naming.NAME_KEY: exporter["nameOverride"]}
    [endpoint] = asked["endpoints"]
    assert endpoint["port"] == exporter["portName"]


def test_rules_and_dashboard_are_the_site_s_own() -> None:
    found = graph()
    groups = found.one("PrometheusRule")["spec"]["groups"]
    assert {rule["labels"]["site"] for group in groups for rule in group["rules"]} == {"private"}
    shown = found.one("ConfigMap")
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    board = json.loads(shown["data"]["tandem-private.json"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]) == 9
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "PrometheusRule"])
def test_the_lab_knows_what_is_declared(kind: str) -> None:
    assert graph().of(kind)
    known = KINDS.by_kind("monitoring.coreos.com/v1", kind)
    assert known is not None
    assert known.custom
