"""Every key a stack exports, once: what the next stack and the drills may rely on.

Imports no pulumi, so that a drill can read outputs on a machine that has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Self

PROJECT: Final = "tandem"
ORGANIZATION: Final = "organization"
"""The name a self-managed backend gives every organization."""

SITE_LAYERS: Final = ("storage", "pool", "platform", "serving")
"""Layers every site has, in the order they come up."""
TRAFFIC_LAYER: Final = "traffic"
"""The one layer that stands above all sites."""

HEALTH_PATH: Final = "/healthz"
DRAIN_TOKEN: Final = "tandem-drain-mark"  # noqa: S105  no secret, a word the DNS health checks search for
"""Stands in every drain mark: an error page that answers 200 in a store's place drains nobody."""
HEALTH_TOKEN: Final = "tandem-golden-ok"  # noqa: S105  no secret, a word the DNS health checks search for
"""Stands in the first 512 bytes of a healthy gateway's answer and in no other."""


ENVIRONMENT_LABEL: Final = "tandem.io/environment"
"""Label of a site's namespace that says which environment it belongs to."""

STORE_CREDENTIALS: Final = "store-credentials"
"""Secret of a site's namespace with the key to its store, where the settings hold that key."""


def drain_key(site: str, *, shadow: bool = False) -> str:
    """Key of the mark that keeps users away from a site; the shadow's keeps only the synthetic ones away."""
    return f"drain/{site}.shadow" if shadow else f"drain/{site}"


class ContractError(ValueError):
    """Outputs that do not have the keys their layer promises."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Outputs of one stack, read back by name."""

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The exported keys, in declaration order."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def check_keys(cls, exported: Mapping[str, Any]) -> None:
        """Raise ContractError unless `exported` has exactly this layer's keys."""
        missing = sorted(set(cls.keys()) - set(exported))
        unknown = sorted(set(exported) - set(cls.keys()))
        if missing or unknown:
            raise ContractError(
                f"{cls.__name__}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'};"
                " a stack exports exactly its keys of stacks/contract.py: bring that stack up to date with `tandem up`"
            )

    @classmethod
    def read(cls, exported: Mapping[str, Any]) -> Self:
        """The outputs as typed values; `exported` is what `pulumi stack output --json` prints."""
        cls.check_keys(exported)
        return cls(**exported)


@dataclass(frozen=True, kw_only=True)
class StorageOutputs(Outputs):
    """`storage-<site>`: where this site keeps models."""

    site: str
    region: str
    endpoint: str
    """S3 endpoint as a URL; empty where the region's own endpoint is meant."""
    model_bucket: str
    model_key_arn: str
    """Key the models are encrypted under; empty where the store encrypts by itself."""
    signal_bucket: str
    """Bucket of small objects that have to be there when other things are not: drain marks, the lock, snapshots."""
    signal_url: str
    """URL of that bucket; health checkers read drain marks below it without credentials."""
    credentials_profile: str
    """Profile of the AWS configuration whose credentials open this store to people and pipelines; empty for the usual
    chain. Pods never use it."""
    replication_rules: list[dict[str, str]]
    """What S3 copies, each as source and destination (buckets), rule (its id) and region (of the copy)."""


@dataclass(frozen=True, kw_only=True)
class PoolOutputs(Outputs):
    """`pool-<site>`: the cluster, its nodes and the address traffic enters at."""

    site: str
    kind: str
    """private or public."""
    cluster_name: str
    kubeconfig: str
    """JSON, free of long-lived credentials: server, certificate authority and, where needed, an exec plugin."""
    edge_address: str
    """IPv4 address the world reaches the site's edge at; before a NAT where there is one."""
    edge_dns_name: str
    """Name of the edge's load balancer for alias records; empty where the edge is only an address."""
    edge_zone_id: str
    """Hosted zone of `edge_dns_name`; empty with it."""
    edge_target_group_arn: str
    """Target group the gateway is bound to; empty where the edge is a virtual address."""
    edge_annotations: dict[str, str]
    """What the gateway's Service says to get the site's virtual address; empty where nothing hands one out."""
    edge_traffic_policy: str
    """externalTrafficPolicy of that Service: whether only nodes with a gateway take traffic; empty without one."""
    edge_node_port: int
    """Port of every node that somebody else's load balancer sends to; 0 where the edge is none of these."""
    edge_deregistration_seconds: int
    """How long the edge may go on sending to a gateway that leaves; 0 where it hears at once."""
    region: str
    """Region of the cloud the cluster is in; empty on a private site."""
    vpc_id: str
    """Network of that cloud; empty with it."""
    firm_gpus: int
    """GPUs the site can be counted on for: those of on-demand nodes, every pool at its minimum."""
    node_grace_seconds: int
    """How long the control plane waits for a silent node before it counts as lost."""
    machine_namespace: str
    """Namespace of the machines' power switches (BareMetalHost); empty where a cloud keeps the machines."""


@dataclass(frozen=True, kw_only=True)
class PlatformOutputs(Outputs):
    """`platform-<site>`: what a workload of this site may use."""

    site: str
    namespace: str
    priority_class: str
    gpu_resource: str
    """Extended resource a pod requests one GPU with."""
    gpu_quota: int
    """GPUs the namespace may request in all."""
    monitoring_namespace: str
    """Namespace that reads the metrics of the site's pods."""
    environment: str
    """Environment the namespace is labelled with: what a drill compares with the one it was told."""
    lease_account: str
    """Service account a drill's undo runs as inside the site."""
    lease_image: str
    """Image of that undo, repository@sha256:..."""


@dataclass(frozen=True, kw_only=True)
class ServingOutputs(Outputs):
    """`serving-<site>`: the recommender as it is meant to run there."""

    site: str
    namespace: str
    triton_deployment: str
    triton_replicas: int
    gateway_deployment: str
    gateway_replicas: int
    model_name: str
    model_digest: str
    """sha256:<64 hex>; the version this site serves."""
    accepted_digests: list[str]
    """Every version an answer of this site may name: the served one, and during a rollout the one before it."""
    gateway_scheme: str
    """What a gateway speaks at its port: http or https."""
    gateway_policy: str
    """NetworkPolicy that lets traffic in to the gateways."""
    lease_secret_name: str
    """Secret of the namespace with the key a drill's undo takes marks back with; empty where pods have identities."""
    gpus_per_pod: int
    """GPUs one Triton pod requests; 0 where the CPU computes."""
    requests_per_second_per_pod: float
    """What one Triton pod carries within the promised latency, as measured or assumed by the site's settings."""
    requests_per_second_per_gateway: float
    """The same of one gateway pod."""
    concurrency_limit: int
    """Requests one gateway pod has in flight at most; it sheds what comes on top."""
    golden_interval_seconds: int
    hold_down_seconds: int
    """How long the golden answer has to be right again before a site that was ill says it is well."""


@dataclass(frozen=True, kw_only=True)
class SiteEndpoint(Outputs):
    """One site as the traffic stack sees it."""

    name: str
    """Host name that always means this site."""
    address: str
    port: int
    weight: int
    golden_check_id: str
    drain_check_ids: list[str]
    """Inverted checks, one for each of `drain_stores`."""
    shadow_drain_check_ids: list[str]
    """The same for the mark that keeps only synthetic users away; none without a shadow name."""
    drain_stores: list[str]
    """Sites in whose signal bucket a drain mark of this site counts; one mark is enough."""


@dataclass(frozen=True, kw_only=True)
class Objectives(Outputs):
    """What this environment promises its users when a site is lost."""

    recovery_seconds: float
    """From the fault to the end of the last failed request of any user."""
    availability_percent: float
    """Share of right answers outside of a recovery."""
    p99_ms: float
    """Latency of right answers outside of a recovery."""
    wrong_answers: int


@dataclass(frozen=True, kw_only=True)
class TrafficOutputs(Outputs):
    """`traffic`: the name users ask for, and how the sites behind it are judged."""

    zone_id: str
    zone_name: str
    name_servers: list[str]
    service_name: str
    shadow_name: str
    """A second name with the same weights and checks, for synthetic users; empty where there is none."""
    resolver: str
    """host:port of the name server to ask; empty means the system's resolver."""
    dns_api: str
    """Endpoint of the DNS service's API; empty means the provider's own."""
    scheme: str
    ttl_seconds: int
    health_path: str
    health_token: str
    health_interval_seconds: int
    health_threshold: int
    probe_timeout_seconds: int
    """Longest one probe of a dead endpoint can take: connect plus answer."""
    request_timeout_seconds: float
    """What a client waits for one answer."""
    checker_cidrs: list[str]
    """Networks the DNS service's health checkers ask from."""
    objectives: Objectives
    peak_requests_per_second: float
    """Load the sites are declared to carry when any one of them is lost; 0 where none is promised."""
    bake_seconds: int
    """How long a changed site is watched before the next one may change."""
    burn_rate_limit: float
    """Largest share of failed requests meanwhile, as a multiple of what the availability objective allows."""
    sites: dict[str, SiteEndpoint]

    @classmethod
    def read(cls, exported: Mapping[str, Any]) -> Self:
        cls.check_keys(exported)
        sites = {site: SiteEndpoint.read(endpoint) for site, endpoint in exported["sites"].items()}
        return cls(**{**exported, "objectives": Objectives.read(exported["objectives"]), "sites": sites})


LAYERS: Final[dict[str, type[Outputs]]] = {
    "storage": StorageOutputs,
    "pool": PoolOutputs,
    "platform": PlatformOutputs,
    "serving": ServingOutputs,
    "traffic": TrafficOutputs,
}


@dataclass(frozen=True)
class StackName:
    """`<layer>[-<site>].<env>`, parsed."""

    layer: str
    site: str | None
    env: str

    @classmethod
    def parse(cls, name: str) -> StackName:
        """Raise ValueError for a name no stack of this project can have."""
        head, dot, env = name.partition(".")
        layer, dash, site = head.partition("-")
        if not dot or not env or layer not in LAYERS or bool(dash and site) != (layer in SITE_LAYERS):
            raise ValueError(
                f"{name!r} is no stack of this project; stacks are named <layer>-<site>.<env> for the layers"
                f" {', '.join(SITE_LAYERS)}, and {TRAFFIC_LAYER}.<env>, for example storage-private.prod"
            )
        return cls(layer, site or None, env)

    def __str__(self) -> str:
        return f"{self.layer}-{self.site}.{self.env}" if self.site else f"{self.layer}.{self.env}"

    @property
    def qualified(self) -> str:
        """The name a StackReference takes."""
        return f"{ORGANIZATION}/{PROJECT}/{self}"

    def sibling(self, layer: str, site: str | None = None) -> StackName:
        """The stack of another layer: of the same site, or of `site`."""
        return StackName(layer, None if layer == TRAFFIC_LAYER else (site or self.site), self.env)


@dataclass(frozen=True)
class Deployment:
    """All outputs of one environment, as drills read them."""

    env: str
    storage: dict[str, StorageOutputs]
    pool: dict[str, PoolOutputs]
    platform: dict[str, PlatformOutputs]
    serving: dict[str, ServingOutputs]
    traffic: TrafficOutputs

    @classmethod
    def read(cls, env: str, outputs: Mapping[str, Mapping[str, Any]]) -> Deployment:
        """From a map of stack name to its outputs; ContractError when a stack or a key is missing."""
        by_layer: dict[str, dict[str, Any]] = {layer: {} for layer in LAYERS}
        for name, exported in outputs.items():
            stack = StackName.parse(name)
            if stack.env == env:
                by_layer[stack.layer][stack.site or ""] = LAYERS[stack.layer].read(exported)
        if "" not in by_layer[TRAFFIC_LAYER]:
            raise ContractError(f"no outputs of traffic.{env}; bring the stacks up first: tandem up --env {env}")
        traffic: TrafficOutputs = by_layer[TRAFFIC_LAYER][""]
        for layer in SITE_LAYERS:
            absent = sorted(set(traffic.sites) - set(by_layer[layer]))
            if absent:
                raise ContractError(
                    f"no outputs of {layer}-{absent[0]}.{env}, a site traffic.{env} names;"
                    f" bring it up: tandem up --env {env}"
                )
        return cls(env, by_layer["storage"], by_layer["pool"], by_layer["platform"], by_layer["serving"], traffic)
