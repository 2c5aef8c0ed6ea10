"""As many model servers as the queue in front of them asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming

METRIC: Final = "nv_inference_pending_request_count"
"""Requests that wait for an instance of the model
(https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html)."""
POLLING_SECONDS: Final = 15
FAILURES: Final = 3
"""Failed looks in a row after which Prometheus counts as gone."""


@dataclass(frozen=True, kw_only=True)
class QueueScalerArgs:
    """Which Deployment, between which bounds, by whose numbers."""

    site: str
    namespace: Input[str]
    deployment: Input[str]
    model_name: str
    min_replicas: int
    max_replicas: int
    queue_per_pod: int
    """Waiting requests one pod is to have at most."""
    cooldown_seconds: int
    """How long the queue has to be short before a pod goes."""
    prometheus_url: str


class QueueScaler(pulumi.ComponentResource):
    """More pods when requests wait, fewer when none have waited for a while; without numbers, no fewer than now."""

    def __init__(self, name: str, args: QueueScalerArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:autoscaling:QueueScaler", name, {}, opts)
        query = Output.concat("sum(", METRIC, '{namespace="', args.namespace, '",model="', args.model_name, '"})')
        fewer = {
            "stabilizationWindowSeconds": args.cooldown_seconds,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        }
        CustomResource(
            name,
            api_version="keda.sh/v1alpha1",
            kind="ScaledObject",
            metadata=ObjectMetaArgs(
                name=args.deployment, namespace=args.namespace, labels=naming.labels(args.site, "autoscaling")
            ),
            spec={
                "scaleTargetRef": {"name": args.deployment},
                "minReplicaCount": args.min_replicas,
                "maxReplicaCount": args.max_replicas,
                "pollingInterval": POLLING_SECONDS,
                # KEDA's own counts only on the way to zero, where this never goes; the HPA's window is what holds.
                "cooldownPeriod": args.cooldown_seconds,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": fewer}}},
                "fallback": {
                    "failureThreshold": FAILURES,
                    "replicas": args.min_replicas,
                    "behavior": "currentReplicasIfHigher",
                },
                "triggers": [
                    {
                        "type": "prometheus",
                        "metricType": "AverageValue",
                        "metadata": {
                            "serverAddress": args.prometheus_url,
                            "query": query,
                            "threshold": str(args.queue_per_pod),
                            # No series is no answer, not an empty queue.
                            "ignoreNullValues": "false",
                        },
                    }
                ],
            },
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})
