"""Charts a site gets: pinned, and none that somebody else keeps."""

from __future__ import annotations

from typing import Any

import pytest

from infra import chart
from infra.autoscaling import QueueScaler, QueueScalerArgs
from infra.chart import Chart
from infra.charts import Charts
from infra.checks import SettingError
from tests.infra.recording import Graph, run


def needed(**changes: Any) -> tuple[Chart, ...]:
    known: dict[str, Any] = {
        "public": True,
        "gpu_operator": True,
        "driver": False,
        "monitoring_namespace": "monitoring",
        "cluster_name": "public",
        "region": "eu-central-1",
        "vpc_id": "vpc-1",
        "lag_configuration": "{}",
    }
    return chart.needed(**{**known, **changes})


def declared(*charts: Chart) -> Graph:
    return run(lambda: Charts("charts", "public", charts) and None)


@pytest.mark.parametrize(
    ("public", "watched"), [(True, True), (True, False), (False, False)], ids=["watched", "public", "private"]
)
@pytest.mark.parametrize("operator", [True, False], ids=["operator", "plugin"])
def test_what_a_site_needs_is_what_its_settings_may_name(public: bool, watched: bool, operator: bool) -> None:
    charts = needed(public=public, gpu_operator=operator, lag_configuration="{}" if watched else None)
    known = chart.names(public=public, gpu_operator=operator, copies_watched=watched)
    assert tuple(each.name for each in charts) == known
    assert ("aws-load-balancer-controller" in {each.name for each in charts}) is public


def test_every_chart_is_pinned_to_one_version_of_its_makers_repository() -> None:
    for name, release in declared(*needed()).of("Release").items():
        chart.check_version(name, release["version"])
        assert release["repositoryOpts"]["repo"].startswith("https://")
        assert release["atomic"] is True, "a failed one is rolled back"
        assert release["name"] == release["chart"]


def test_the_operator_brings_the_driver_where_the_image_does_not() -> None:
    for driver in (True, False):
        release = declared(*needed(driver=driver)).one("Release", "charts-gpu-operator")
        assert release["values"]["driver"] == release["values"]["toolkit"] == {"enabled": driver}


def test_the_balancers_controller_is_told_what_pods_cannot_ask_the_instance() -> None:
    values = declared(*needed()).one("Release", "charts-aws-load-balancer-controller")["values"]
    assert (values["clusterName"], values["region"], values["vpcId"]) == ("public", "eu-central-1", "vpc-1")


def test_a_namespace_is_made_for_each_with_the_least_it_can_live_with() -> None:
    graph = declared(*needed())
    levels = {
        state["metadata"]["name"]: state["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for state in graph.of("Namespace").values()
    }
    assert levels == {
        "cert-manager": "restricted",
        "keda": "restricted",
        "monitoring": "privileged",
        "gpu-operator": "privileged",
        "cloudwatch-exporter": "restricted",
    }
    assert graph.without_parent() == set()


def test_what_somebody_else_keeps_is_not_installed_and_a_version_may_be_another() -> None:
    chosen = chart.chosen(needed(), ("cert-manager", "keda"), {"gpu-operator": "v25.10.0"})
    assert {each.name: each.version for each in chosen if each.name != "kube-prometheus-stack"} == {
        "gpu-operator": "v25.10.0",
        "aws-load-balancer-controller": "1.16.0",
        "prometheus-yet-another-cloudwatch-exporter": "0.47.0",
    }


def test_a_chart_nobody_needs_and_a_version_that_moves_are_refused() -> None:
    with pytest.raises(SettingError, match="charts_elsewhere names 'ingress-nginx'"):
        chart.check_names("charts_elsewhere", ["ingress-nginx"], chart.names(public=True, gpu_operator=True))
    for version in ("2", "2.20", "^2.20.2", "latest", ">=2.20.2"):
        with pytest.raises(SettingError, match="pinned to one version"):
            chart.check_version("chart_versions.keda", version)


def scaler() -> dict[str, Any]:
    args = QueueScalerArgs(
        site="private",
        namespace="tandem",
        deployment="triton",
        model_name="recommender",
        min_replicas=2,
        max_replicas=6,
        queue_per_pod=8,
        cooldown_seconds=300,
        prometheus_url="http://prometheus.example:9090",
    )
    return run(lambda: QueueScaler("autoscaling", args) and None).one("ScaledObject")


def test_servers_follow_the_queue_between_their_bounds() -> None:
    spec = scaler()["spec"]
    assert spec["scaleTargetRef"] == {"name": "triton"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 6)
    [trigger] = spec["triggers"]
    assert trigger["metadata"]["query"] == (
        'sum(nv_inference_pending_request_count{namespace="tandem",model="recommender"})'
    )
    assert (trigger["metricType"], trigger["metadata"]["threshold"]) == ("AverageValue", "8")


def test_without_numbers_no_server_is_taken_away() -> None:
    spec = scaler()["spec"]
    assert spec["fallback"] == {"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"}
    assert spec["triggers"][0]["metadata"]["ignoreNullValues"] == "false", "no series is no empty queue"
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["stabilizationWindowSeconds"] == 300
