"""What a cluster gets from elsewhere, as releases of Helm charts."""

from __future__ import annotations

from typing import Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import Namespace
from pulumi_kubernetes.helm.v3 import Release, RepositoryOptsArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming
from infra.chart import Chart

TIMEOUT_SECONDS: Final = 600


class Charts(pulumi.ComponentResource):
    """Releases of charts at one version each; a failed one is rolled back, and no up goes on without it."""

    def __init__(self, name: str, site: str, charts: tuple[Chart, ...], opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:charts:Charts", name, {}, opts)
        self.releases = {chart.name: self._release(name, site, chart) for chart in charts}
        self.register_outputs({})

    def _release(self, name: str, site: str, chart: Chart) -> Release:
        child = ResourceOptions(parent=self)
        namespace: Input[str] = chart.namespace
        if chart.pod_security:
            namespace = Namespace(
                f"{name}-{chart.name}-namespace",
                metadata=ObjectMetaArgs(
                    name=chart.namespace,
                    labels={
                        **naming.labels(site, chart.name),
                        "pod-security.kubernetes.io/enforce": chart.pod_security,
                    },
                ),
                opts=child,
            ).metadata.name
        return Release(
            f"{name}-{chart.name}",
            name=chart.name,
            chart=chart.name,
            version=chart.version,
            repository_opts=RepositoryOptsArgs(repo=chart.repository),
            namespace=namespace,
            values=chart.values,
            atomic=True,
            timeout=TIMEOUT_SECONDS,
            opts=child,
        )
