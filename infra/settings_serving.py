"""The settings of `serving-<site>`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from infra import alerts, checks, naming, rolling, termination
from infra.checks import SettingError
from infra.settings_base import KINDS, PRIVATE, Settings
from infra.settings_heartbeat import HeartbeatSettings

ANYWHERE: Final = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class ServingSettings(Settings):
    """`serving-<site>`."""

    layer: ClassVar[str] = "serving"

    site: str
    kind: str
    triton_image: str
    serving_image: str
    model_name: str = "recommender"
    model_digest: str
    accepted_digests: tuple[str, ...] = ()
    """Versions an answer may name; none means the served one. During a rollout both stand here."""
    backend: str = "gpu"
    """Which configuration of the model package Triton takes."""
    gpus_per_pod: int = 1
    requests_per_second_per_pod: float
    """What one Triton pod carries within the promised latency: measured, or assumed until it is."""
    requests_per_second_per_gateway: float
    """The same of one gateway pod."""
    triton_replicas: int = 2
    triton_cpu: str = "2"
    triton_memory: str = "8Gi"
    gateway_replicas: int = 2
    gateway_cpu: str = "500m"
    gateway_memory: str = "512Mi"
    gateway_port: int = 8080
    edge_port: int = 443
    """Port users reach the site at."""
    concurrency_limit: int = 64
    """Requests one gateway pod has in flight at most; what comes on top is shed."""
    golden_interval_seconds: int = 2
    hold_down_seconds: int = 30
    """How long golden answers have to be right again before a site that was ill is well."""
    inference_timeout_seconds: float = 1.0
    """How long the gateway waits for Triton."""
    tls_issuer: str = ""
    """ClusterIssuer of cert-manager for the certificate the gateways show; empty where the edge ends TLS."""
    tls_names: tuple[str, ...] = ()
    """Names it is for: every one users and health checks ask this site by."""
    tls_secret: str = ""
    """Secret with a certificate that something else keeps fresh."""
    triton_rollout: str = rolling.AUTO
    """Whether a successor comes before a Triton pod goes: surge, replace, or auto for what the GPUs allow."""
    triton_pause_seconds: int = 0
    """How long a Triton pod that has to go serves on; 0 for as long as it takes, as with all of these."""
    triton_exit_seconds: int = 10
    """How long Triton lets requests in flight end after that."""
    triton_grace_seconds: int = 0
    gateway_pause_seconds: int = 0
    """The same of a gateway; not shorter than the edge may go on sending to it."""
    gateway_grace_seconds: int = 0
    autoscaling_max_replicas: int = 0
    """Most Triton pods a scaler may make of triton_replicas, its least; 0 for no scaler."""
    autoscaling_queue_per_pod: int = 8
    autoscaling_cooldown_seconds: int = 300
    prometheus_url: str = "http://kube-prometheus-prometheus.monitoring.svc:9090"
    store_cidrs: tuple[str, ...] = (ANYWHERE,)
    """Networks the site's store is reached in."""
    api_cidrs: tuple[str, ...] = (ANYWHERE,)
    """Networks the Kubernetes API is reached in, from inside."""
    dns_cidrs: tuple[str, ...] = ()
    """Name servers beside the cluster's own pods."""
    other_store_ports: tuple[str, ...] = ()
    """Ports of other sites' stores other than 443."""
    monitoring: bool = True
    """Whether what Prometheus reads and judges is declared; false where a cluster has no Prometheus operator."""
    objective_availability_percent: float = 99.9
    """The promise of the traffic stack, whose error budget an alert watches."""
    replication_lag_seconds: int = 900
    """How far copies of what this site stores may lag; 0 where nothing is copied."""
    replication_lag_metric: str = alerts.S3_LAG
    """Metric that tells it in seconds, of whatever watches the copies."""
    copies_watched: bool = False
    """Whether Prometheus reads it from the exporter that the platform stack has put into the cluster."""
    rollout_timeout_seconds: int = 600
    """How long an `up` waits for new pods before it fails and says what keeps them."""
    heartbeat: tuple[HeartbeatSettings, ...] = ()
    """How the site says that it is golden, where traffic goes by an alarm; at most one."""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    store_secret: str = ""
    """Secret of the namespace, made by somebody else, with the key pods open their store with."""
    lease_secret: str = ""
    """The same for the undo of a drill, which writes marks; empty for the pods' own."""

    def __post_init__(self) -> None:
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.one_of("kind", self.kind, KINDS)
        checks.image("triton_image", self.triton_image)
        checks.image("serving_image", self.serving_image)
        checks.label("model_name", self.model_name)
        self._check_digests()
        checks.one_of("backend", self.backend, ("cpu", "gpu"))
        checks.between("gpus_per_pod", self.gpus_per_pod, 1 if self.backend == "gpu" else 0, 16)
        checks.between("requests_per_second_per_pod", self.requests_per_second_per_pod, 0.1, 1_000_000)
        checks.between("requests_per_second_per_gateway", self.requests_per_second_per_gateway, 0.1, 1_000_000)
        checks.between("triton_replicas", self.triton_replicas, 1, 1000)
        checks.between("gateway_replicas", self.gateway_replicas, 1, 1000)
        checks.quantities("triton", self.triton_cpu, self.triton_memory)
        checks.quantities("gateway", self.gateway_cpu, self.gateway_memory)
        checks.between("gateway_port", self.gateway_port, 1024, 65535)
        checks.between("edge_port", self.edge_port, 1, 65535)
        checks.between("concurrency_limit", self.concurrency_limit, 1, 10_000)
        checks.between("golden_interval_seconds", self.golden_interval_seconds, 1, 60)
        checks.between("hold_down_seconds", self.hold_down_seconds, 0, 600)
        checks.between("inference_timeout_seconds", self.inference_timeout_seconds, 0.05, 60)
        checks.between("rollout_timeout_seconds", self.rollout_timeout_seconds, 10, 3600)
        self._check_credentials()
        self._check_endings()
        self._check_autoscaling()
        self._check_flows()
        self._check_tls()
        self._check_monitoring()
        if len(self.heartbeat) > 1:
            raise SettingError(f"heartbeat has {len(self.heartbeat)} entries; a site says it one way: keep one")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every version an answer may name: the served one, then the others in order."""
        return (self.model_digest, *sorted(set(self.accepted_digests) - {self.model_digest}))

    @property
    def triton_ending(self) -> termination.Ending:
        """How a Triton pod ends; raises SettingError where its times do not add up."""
        return termination.ending(
            termination.TRITON,
            pause_seconds=self.triton_pause_seconds,
            exit_seconds=self.triton_exit_seconds,
            rest_seconds=termination.TRITON_REST_SECONDS,
            grace_seconds=self.triton_grace_seconds,
        )

    def gateway_ending(self, deregistration_seconds: int = 0) -> termination.Ending:
        """How a gateway ends behind an edge that may send to it for so long; raises SettingError as well."""
        return termination.ending(
            termination.GATEWAY,
            pause_seconds=self.gateway_pause_seconds,
            exit_seconds=termination.gateway_exit_seconds(self.inference_timeout_seconds),
            rest_seconds=termination.GATEWAY_REST_SECONDS,
            grace_seconds=self.gateway_grace_seconds,
            deregistration_seconds=deregistration_seconds,
        )

    def triton_rolling(self, gpu_quota: int, firm_gpus: int) -> rolling.Rolling:
        """How Triton pods are replaced on these GPUs; raises SettingError where no rollout would come to an end."""
        return rolling.rolling(
            self.triton_rollout,
            replicas=self.triton_replicas,
            most_replicas=self.autoscaling_max_replicas,
            gpus_per_pod=self.gpus_per_pod,
            gpu_quota=gpu_quota,
            firm_gpus=firm_gpus,
        )

    @property
    def gateway_scheme(self) -> str:
        """What a gateway speaks at its port."""
        return "https" if self.tls_issuer or self.tls_secret else "http"

    def _check_credentials(self) -> None:
        checks.credentials(self.access_key, self.secret_key)
        for key in ("store_secret", "lease_secret"):
            if getattr(self, key):
                checks.label(key, getattr(self, key))
        if self.store_secret and self.access_key:
            raise SettingError(
                f"store_secret is {self.store_secret} and access_key is set; pods open their store with one key: remove"
                " access_key and secret_key where somebody else makes the Secret"
            )
        if self.kind == PRIVATE and not self.store_secret and not self.access_key:
            raise SettingError(
                "kind is private and neither store_secret nor access_key is set; pods of a private site have no"
                " identity that its store knows, so they could fetch no model: make a Secret with the keys access_key"
                " and secret_key in the site's namespace and name it in store_secret"
            )

    def _check_endings(self) -> None:
        for who in (termination.TRITON, termination.GATEWAY):
            checks.between(f"{who}_pause_seconds", getattr(self, f"{who}_pause_seconds"), 0, 3600)
            checks.between(f"{who}_grace_seconds", getattr(self, f"{who}_grace_seconds"), 0, 7200)
        checks.between("triton_exit_seconds", self.triton_exit_seconds, 1, 600)
        least = math.ceil(self.inference_timeout_seconds)
        if self.triton_exit_seconds < least:
            raise SettingError(
                f"triton_exit_seconds is {self.triton_exit_seconds}; a gateway waits up to inference_timeout_seconds"
                f" {self.inference_timeout_seconds:g} for an answer that Triton would not finish: set it to at least"
                f" {least}"
            )
        _ = self.triton_ending, self.gateway_ending()

    def _check_autoscaling(self) -> None:
        checks.one_of("triton_rollout", self.triton_rollout, rolling.WAYS)
        checks.between("autoscaling_max_replicas", self.autoscaling_max_replicas, 0, 1000)
        checks.between("autoscaling_queue_per_pod", self.autoscaling_queue_per_pod, 1, 10_000)
        checks.between("autoscaling_cooldown_seconds", self.autoscaling_cooldown_seconds, 0, 3600)
        checks.url("prometheus_url", self.prometheus_url)
        if 0 < self.autoscaling_max_replicas <= self.triton_replicas:
            raise SettingError(
                f"autoscaling_max_replicas is {self.autoscaling_max_replicas}; with triton_replicas"
                f" {self.triton_replicas} as the least there is nothing to scale between: raise it above"
                f" {self.triton_replicas}, or set it to 0 for no scaler"
            )

    def _check_monitoring(self) -> None:
        checks.between("objective_availability_percent", self.objective_availability_percent, 0, 99.999)
        checks.between("replication_lag_seconds", self.replication_lag_seconds, 0, 86_400)
        if not alerts.METRIC_NAME.fullmatch(self.replication_lag_metric):
            raise SettingError(
                f"replication_lag_metric is {self.replication_lag_metric!r}; it is the name of a Prometheus metric:"
                f" write it like {alerts.S3_LAG}"
            )
        if not self.copies_watched:
            return
        if not self.monitoring or self.kind == PRIVATE:
            raise SettingError(
                f"copies_watched is true with kind {self.kind} and monitoring {str(self.monitoring).lower()}; the"
                " exporter runs on a public site, and nothing is read of it without monitoring: remove it"
            )
        if self.replication_lag_metric != alerts.S3_LAG:
            raise SettingError(
                f"copies_watched is true and replication_lag_metric is {self.replication_lag_metric}; what the exporter"
                f" tells is {alerts.S3_LAG}: remove one of the two"
            )

    def _check_flows(self) -> None:
        for key in ("store_cidrs", "api_cidrs", "dns_cidrs"):
            for entry in getattr(self, key):
                checks.network(f"network in {key}", entry, 0, 32)
        for key in ("store_cidrs", "api_cidrs"):
            if not getattr(self, key):
                raise SettingError(f"{key} is empty; pods have to get there: name a network, {ANYWHERE} for any")
        for port in self.other_store_ports:
            if not port.isdecimal() or not 0 < int(port) < 65536:
                raise SettingError(f"other_store_ports names {port!r}; a port is a number up to 65535: correct it")

    def _check_tls(self) -> None:
        if self.tls_issuer and self.tls_secret:
            raise SettingError(
                f"tls_issuer is {self.tls_issuer} and tls_secret is {self.tls_secret}; a certificate is issued here or"
                " kept elsewhere: remove one of them"
            )
        for key in ("tls_issuer", "tls_secret"):
            if getattr(self, key):
                checks.label(key, getattr(self, key))
        for name in self.tls_names:
            checks.dns_name("name in tls_names", name)
        if bool(self.tls_issuer) != bool(self.tls_names):
            raise SettingError(
                f"tls_issuer is {self.tls_issuer!r} and tls_names is {list(self.tls_names)}; an issuer is asked for"
                " names: set both or neither"
            )

    def _check_digests(self) -> None:
        checks.digest("model_digest", self.model_digest)
        for digest in self.accepted_digests:
            checks.digest("digest in accepted_digests", digest)
        if self.accepted_digests and self.model_digest not in self.accepted_digests:
            raise SettingError(
                f"accepted_digests is {list(self.accepted_digests)}; without the served version, model_digest"
                f" {self.model_digest}, every answer would count as wrong: add it"
            )
