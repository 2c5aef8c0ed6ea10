"""What every serving pod has: no privilege, a verified model, room to write, and an end that loses no request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pulumi import CustomTimeouts, Input, Output
from pulumi_kubernetes.core.v1 import (
    CapabilitiesArgs,
    ContainerArgs,
    EmptyDirVolumeSourceArgs,
    EnvVarArgs,
    EnvVarSourceArgs,
    HTTPGetActionArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    ObjectFieldSelectorArgs,
    PodSecurityContextArgs,
    ProbeArgs,
    ResourceRequirementsArgs,
    SeccompProfileArgs,
    SecretKeySelectorArgs,
    SecurityContextArgs,
    SleepActionArgs,
    TolerationArgs,
    TopologySpreadConstraintArgs,
    VolumeArgs,
    VolumeMountArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs

from infra import naming

MODELS: Final = "/models"
SCRATCH: Final = "/scratch"
USER: Final = 1000
"""Neither image needs root; Triton's own image has this user."""
LOST_NODE_SECONDS: Final = 10
"""How long a pod waits on a node that has gone silent before another takes its place; Kubernetes' own default is 300
(https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions)."""
FETCH_REQUESTS: Final = {"cpu": "100m", "memory": "128Mi"}


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a pod's init container fetches its model."""

    image: str
    endpoint: Input[str]
    """S3 endpoint; empty for the region's own."""
    region: Input[str]
    bucket: Input[str]
    model_name: str
    credentials_secret: Input[str] | None = None
    """Secret with access_key and secret_key; none where the pod has an identity of its own."""


def hardened() -> SecurityContextArgs:
    """A container that can gain nothing and change nothing but its volumes."""
    return SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=CapabilitiesArgs(drop=["ALL"]),
    )


def unprivileged() -> PodSecurityContextArgs:
    """A pod that the `restricted` pod security standard admits."""
    return PodSecurityContextArgs(
        run_as_non_root=True,
        run_as_user=USER,
        run_as_group=USER,
        fs_group=USER,
        seccomp_profile=SeccompProfileArgs(type="RuntimeDefault"),
    )


def variables(values: dict[str, Input[str]]) -> list[EnvVarArgs]:
    """Environment variables in the order given; a later one may use an earlier one as $(NAME)."""
    return [EnvVarArgs(name=name, value=value) for name, value in values.items()]


def field_variable(name: str, path: str) -> EnvVarArgs:
    """An environment variable that holds a field of the pod itself."""
    return EnvVarArgs(name=name, value_from=EnvVarSourceArgs(field_ref=ObjectFieldSelectorArgs(field_path=path)))


def credentials(source: ModelSource) -> list[EnvVarArgs]:
    """The key to the store as the SDK looks for it; nothing where the pod has an identity of its own."""
    if source.credentials_secret is None:
        return []
    return [
        EnvVarArgs(
            name=variable,
            value_from=EnvVarSourceArgs(secret_key_ref=SecretKeySelectorArgs(name=source.credentials_secret, key=key)),
        )
        for variable, key in (("AWS_ACCESS_KEY_ID", "access_key"), ("AWS_SECRET_ACCESS_KEY", "secret_key"))
    ]


def resources(cpu: str, memory: str, gpus: int = 0, gpu_resource: Input[str] = "") -> ResourceRequirementsArgs:
    """Requests with memory and GPUs as limits too; no CPU limit, which would only add latency."""
    if not gpus:
        return ResourceRequirementsArgs(requests={"cpu": cpu, "memory": memory}, limits={"memory": memory})
    # Kubernetes refuses a GPU limit that differs from its request.
    bound = Output.from_input(gpu_resource).apply(lambda resource: {"memory": memory, resource: str(gpus)})
    return ResourceRequirementsArgs(requests=bound.apply(lambda known: {"cpu": cpu, **known}), limits=bound)


def fetch(source: ModelSource, digests: Sequence[str], part: str) -> ContainerArgs:
    """The init container that leaves `part` of each version under /models, every byte verified, or fails."""
    environment = [*variables({"TMPDIR": SCRATCH}), *credentials(source)]
    where: list[Input[str]] = ["--endpoint", source.endpoint, "--region", source.region, "--bucket", source.bucket]
    versions: list[Input[str]] = [word for digest in digests for word in ("--digest", digest)]
    what: list[Input[str]] = [*versions, "--model", source.model_name, "--part", part]
    return ContainerArgs(
        name="fetch",
        image=source.image,
        command=["python", "-m", "serving.fetch"],
        args=[*where, *what, "--into", MODELS],
        env=environment,
        resources=ResourceRequirementsArgs(requests=FETCH_REQUESTS, limits={"memory": "512Mi"}),
        security_context=hardened(),
        volume_mounts=mounts(writable=True),
    )


def mounts(*, writable: bool = False) -> list[VolumeMountArgs]:
    """The model, read-only except for the container that fetches it, and a place for temporary files."""
    return [
        VolumeMountArgs(name="models", mount_path=MODELS, read_only=not writable),
        VolumeMountArgs(name="scratch", mount_path=SCRATCH),
    ]


def volumes() -> list[VolumeArgs]:
    """Folders that live and die with the pod."""
    return [
        VolumeArgs(name=name, empty_dir=EmptyDirVolumeSourceArgs(size_limit=limit))
        for name, limit in (("models", "8Gi"), ("scratch", "1Gi"))
    ]


def probe(path: str, port: str, *, period_seconds: int, failures: int, timeout_seconds: int = 2) -> ProbeArgs:
    """Ask `path` at the port of that name, in its protocol: http or https; nobody looks at the certificate."""
    return ProbeArgs(
        http_get=HTTPGetActionArgs(path=path, port=port, scheme="HTTPS" if port == "https" else None),
        period_seconds=period_seconds,
        failure_threshold=failures,
        timeout_seconds=timeout_seconds,
    )


def stop_late(pause_seconds: Input[int]) -> LifecycleArgs:
    """Go on serving while the pod is taken out of every list of endpoints."""
    return LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=pause_seconds)))


def tolerations(gpu_resource: Input[str]) -> list[TolerationArgs]:
    """A pod may stand on a GPU node, and does not wait for a lost one to come back.

    Without the latter two, Kubernetes adds its own, and for five minutes a lost node's pods hold their places in the
    Deployment while nothing replaces them.
    """
    lost = [
        TolerationArgs(
            key=f"node.kubernetes.io/{state}",
            operator="Exists",
            effect="NoExecute",
            toleration_seconds=LOST_NODE_SECONDS,
        )
        for state in ("not-ready", "unreachable")
    ]
    return [TolerationArgs(key=gpu_resource, operator="Exists", effect="NoSchedule"), *lost]


def rollout_deadline(seconds: int) -> CustomTimeouts:
    """How long creating or changing a Deployment may take, its pods' readiness included."""
    return CustomTimeouts(create=f"{seconds}s", update=f"{seconds}s")


def spread(name: str) -> list[TopologySpreadConstraintArgs]:
    """Prefer other zones and other nodes; a lost node must not be a reason to leave a pod unscheduled."""
    return [
        TopologySpreadConstraintArgs(
            max_skew=1,
            topology_key=key,
            when_unsatisfiable="ScheduleAnyway",
            label_selector=LabelSelectorArgs(match_labels=naming.selector(name)),
        )
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
