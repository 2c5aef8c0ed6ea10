"""The kinds this API server knows; any other kind is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class Kind:
    """One resource of the API: what it is called and what it can do."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    subresources: frozenset[str] = frozenset()
    short_names: tuple[str, ...] = ()
    custom: bool = False
    """Declared by a CustomResourceDefinition: no schema, no strategic merge."""
    read_only: bool = False
    """Can be read and watched, never written by a client."""
    _key: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", f"{self.plural}.{self.group}" if self.group else self.plural)

    @property
    def api_version(self) -> str:
        """What stands in an object's apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def key(self) -> str:
        """The resource with its group: `deployments.apps`, `pods`."""
        return self._key

    @property
    def singular(self) -> str:
        """The resource's name for one object."""
        return self.kind.lower()

    @property
    def list_kind(self) -> str:
        """The kind of a list of these."""
        return f"{self.kind}List"


class Kinds:
    """The table of installed kinds."""

    def __init__(self) -> None:
        self._by_resource: dict[tuple[str, str, str], Kind] = {}
        self._by_kind: dict[tuple[str, str], Kind] = {}

    def install(self, kind: Kind) -> Kind:
        """Add one kind; returns it."""
        self._by_resource[kind.group, kind.version, kind.plural] = kind
        self._by_kind[kind.api_version, kind.kind] = kind
        return kind

    def by_resource(self, group: str, version: str, plural: str) -> Kind | None:
        """Looked up as a URL names it."""
        return self._by_resource.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """Looked up as an object names it."""
        return self._by_kind.get((api_version, kind))

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_resource.values())


KINDS: Final = Kinds()


def _built_in(
    group_version: str, kind: str, plural: str, short: str = "", sub: str = "", scope: str = "Namespaced"
) -> Kind:
    group, _, version = group_version.rpartition("/")
    namespaced = scope == "Namespaced"
    return KINDS.install(Kind(group, version, kind, plural, namespaced, frozenset(sub.split()), tuple(short.split())))


def _custom(
    group_version: str, kind: str, plural: str, short: str = "", sub: str = "status", scope: str = "Namespaced"
) -> Kind:
    group, _, version = group_version.rpartition("/")
    namespaced = scope == "Namespaced"
    return KINDS.install(
        Kind(group, version, kind, plural, namespaced, frozenset(sub.split()), tuple(short.split()), True)
    )


NAMESPACE: Final = _built_in("v1", "Namespace", "namespaces", "ns", "status", "Cluster")
NODE: Final = _built_in("v1", "Node", "nodes", "no", "status", "Cluster")
POD: Final = _built_in("v1", "Pod", "pods", "po", "status log binding eviction proxy")
SERVICE: Final = _built_in("v1", "Service", "services", "svc", "status")
ENDPOINTS: Final = _built_in("v1", "Endpoints", "endpoints", "ep")
CONFIG_MAP: Final = _built_in("v1", "ConfigMap", "configmaps", "cm")
SECRET: Final = _built_in("v1", "Secret", "secrets")
SERVICE_ACCOUNT: Final = _built_in("v1", "ServiceAccount", "serviceaccounts", "sa")
RESOURCE_QUOTA: Final = _built_in("v1", "ResourceQuota", "resourcequotas", "quota", "status")
PERSISTENT_VOLUME_CLAIM: Final = _built_in("v1", "PersistentVolumeClaim", "persistentvolumeclaims", "pvc", "status")
EVENT: Final = _built_in("v1", "Event", "events", "ev")
LIMIT_RANGE: Final = _built_in("v1", "LimitRange", "limitranges", "limits")

DEPLOYMENT: Final = _built_in("apps/v1", "Deployment", "deployments", "deploy", "status scale")
REPLICA_SET: Final = _built_in("apps/v1", "ReplicaSet", "replicasets", "rs", "status scale")
DAEMON_SET: Final = _built_in("apps/v1", "DaemonSet", "daemonsets", "ds", "status")
JOB: Final = _built_in("batch/v1", "Job", "jobs", "", "status")
CRON_JOB: Final = _built_in("batch/v1", "CronJob", "cronjobs", "cj", "status")
POD_DISRUPTION_BUDGET: Final = _built_in("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", "status")
NETWORK_POLICY: Final = _built_in("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", "netpol")
PRIORITY_CLASS: Final = _built_in("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses", "pc", "", "Cluster")
ENDPOINT_SLICE: Final = _built_in("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
LEASE: Final = _built_in("coordination.k8s.io/v1", "Lease", "leases")
ROLE: Final = _built_in("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING: Final = _built_in("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE: Final = _built_in("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", scope="Cluster")
CLUSTER_ROLE_BINDING: Final = _built_in(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", scope="Cluster"
)
HORIZONTAL_POD_AUTOSCALER: Final = _built_in(
    "autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", "hpa", "status"
)
CUSTOM_RESOURCE_DEFINITION: Final = KINDS.install(
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short_names=("crd", "crds"),
        read_only=True,
    )
)

CLUSTER: Final = _custom("cluster.x-k8s.io/v1beta1", "Cluster", "clusters", "cl")
MACHINE: Final = _custom("cluster.x-k8s.io/v1beta1", "Machine", "machines", "ma")
MACHINE_SET: Final = _custom("cluster.x-k8s.io/v1beta1", "MachineSet", "machinesets", "ms", "status scale")
MACHINE_DEPLOYMENT: Final = _custom(
    "cluster.x-k8s.io/v1beta1", "MachineDeployment", "machinedeployments", "md", "status scale"
)
MACHINE_HEALTH_CHECK: Final = _custom("cluster.x-k8s.io/v1beta1", "MachineHealthCheck", "machinehealthchecks", "mhc")
METAL3_MACHINE_TEMPLATE: Final = _custom(
    "infrastructure.cluster.x-k8s.io/v1beta1", "Metal3MachineTemplate", "metal3machinetemplates", "m3mt"
)
KUBEADM_CONFIG_TEMPLATE: Final = _custom(
    "bootstrap.cluster.x-k8s.io/v1beta1", "KubeadmConfigTemplate", "kubeadmconfigtemplates"
)
TARGET_GROUP_BINDING: Final = _custom("elbv2.k8s.aws/v1beta1", "TargetGroupBinding", "targetgroupbindings", "tgb")
IP_ADDRESS_POOL: Final = _custom("metallb.io/v1beta1", "IPAddressPool", "ipaddresspools")
L2_ADVERTISEMENT: Final = _custom("metallb.io/v1beta1", "L2Advertisement", "l2advertisements")
SERVICE_MONITOR: Final = _custom("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors", "smon")
POD_MONITOR: Final = _custom("monitoring.coreos.com/v1", "PodMonitor", "podmonitors", "pmon")
PROMETHEUS_RULE: Final = _custom("monitoring.coreos.com/v1", "PrometheusRule", "prometheusrules", "promrule")
SCALED_OBJECT: Final = _custom("keda.sh/v1alpha1", "ScaledObject", "scaledobjects", "so")
CERTIFICATE: Final = _custom("cert-manager.io/v1", "Certificate", "certificates", "cert certs")
ISSUER: Final = _custom("cert-manager.io/v1", "Issuer", "issuers")
CLUSTER_ISSUER: Final = _custom("cert-manager.io/v1", "ClusterIssuer", "clusterissuers", scope="Cluster")
BARE_METAL_HOST: Final = _custom("metal3.io/v1alpha1", "BareMetalHost", "baremetalhosts", "bmh")
NETWORK_CHAOS: Final = _custom("chaos-mesh.org/v1alpha1", "NetworkChaos", "networkchaos")
HTTP_CHAOS: Final = _custom("chaos-mesh.org/v1alpha1", "HTTPChaos", "httpchaos")
