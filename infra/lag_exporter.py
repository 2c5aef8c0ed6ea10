"""How far S3's copies lag, fetched from CloudWatch for Prometheus by YACE: which rules, where and as whom. Pure.

S3 publishes ReplicationLatency in the region of the copy, also while there is nothing to copy
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/repl-metrics.html). A job of YACE's kind `static` asks for one
metric under one set of dimensions: it discovers nothing, and calls GetMetricStatistics alone
(https://github.com/prometheus-community/yet-another-cloudwatch-exporter/blob/v0.67.0/docs/configuration.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from infra.checks import SettingError

NAME: Final = "cloudwatch-exporter"
"""Its namespace, its service account and the label of its Service."""
PORT: Final = "http"
"""What the port of its Service is called."""
METRIC: Final = "aws_s3_replication_latency_maximum"
"""What YACE makes of namespace, metric and statistic."""
SCRAPE_INTERVAL: Final = "60s"
"""What it shows changes every five minutes, YACE's own `scraping-interval`."""
PERIOD_SECONDS: Final = 300
LENGTH_SECONDS: Final = 900
"""How far back it looks for the newest value: CloudWatch publishes on a best effort, and late."""
NOBODY: Final = 65534
"""The image names its user, and a kubelet that is to see that it is not root needs the number."""

Rules = Sequence[Mapping[str, str]]
"""Replication rules as a storage stack exports them: source, destination, rule and region of the copy."""


def check(rules: Rules) -> Rules:
    """Raise SettingError where there is no rule whose lag could be read."""
    if not rules:
        raise SettingError(
            "copies_watched is true and S3 copies nothing of this site; no lag is told of: set replication or backup of"
            " its storage stack to aws, or copies_watched to false in its pool, platform and serving stacks"
        )
    return rules


def regions(rules: Rules) -> list[str]:
    """Where the copies are, and so what is told of them."""
    return sorted({rule["region"] for rule in check(rules)})


def configuration(rules: Rules) -> str:
    """YACE's configuration: one static job for each rule. JSON, which is YAML too."""
    jobs = [_job(rule) for rule in sorted(check(rules), key=lambda rule: (rule["source"], rule["rule"]))]
    return json.dumps({"apiVersion": "v1alpha1", "static": jobs}, indent=2, sort_keys=True)


def _job(rule: Mapping[str, str]) -> dict[str, Any]:
    dimensions = {"SourceBucket": rule["source"], "DestinationBucket": rule["destination"], "RuleId": rule["rule"]}
    metric = {
        "name": "ReplicationLatency",
        "statistics": ["Maximum"],
        "period": PERIOD_SECONDS,
        "length": LENGTH_SECONDS,
    }
    return {
        "name": f"{rule['source']}/{rule['rule']}",
        "namespace": "AWS/S3",
        "regions": [rule["region"]],
        "dimensions": [{"name": name, "value": value} for name, value in dimensions.items()],
        "metrics": [metric],
    }


def values() -> dict[str, Any]:
    """What is set in its chart beside the configuration: a pod that may do nothing but ask."""
    return {
        "fullnameOverride": NAME,
        "nameOverride": NAME,
        "portName": PORT,
        # It asks no Kubernetes API; its identity comes in a token that EKS mounts by itself.
        "serviceAccount": {"create": True, "name": NAME, "automountServiceAccountToken": False},
        "podSecurityContext": {
            "runAsNonRoot": True,
            "runAsUser": NOBODY,
            "runAsGroup": NOBODY,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # Its own identity or none: never its node's.
        "extraEnv": [{"name": "AWS_EC2_METADATA_DISABLED", "value": "true"}],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "testConnection": False,
    }
