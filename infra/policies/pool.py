"""Rules of clusters and their nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared
from infra.policies.inputs import at, many, number, truth
from infra.policies.rule import Finding, resource_rule, unsure, wrong

LAUNCH_TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
INSTANCE: Final = "aws:ec2/instance:Instance"
CLUSTER: Final = "aws:eks/cluster:Cluster"
NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
MACHINES: Final = "kubernetes:cluster.x-k8s.io/v1beta1:MachineDeployment"
MACHINES_NEXT: Final = "kubernetes:cluster.x-k8s.io/v1beta2:MachineDeployment"
NODE: Final = "kubernetes:core/v1:NodePatch"
CAPACITY: Final = "capacity.cluster-autoscaler.kubernetes.io"
GPU_TAINT: Final = "nvidia.com/gpu"
GPU_FAMILIES: Final = ("g", "p")
"""First letters of EC2's families with NVIDIA GPUs."""
LOGS: Final = ("api", "audit", "authenticator")
WIDEST_API_PREFIX: Final = 8


@resource_rule(
    "imds-v2",
    "Every machine's metadata service asks for a token and answers one hop away only.",
    LAUNCH_TEMPLATE,
    INSTANCE,
)
def imds_v2(machine: Declared) -> Iterator[Finding]:
    """Without a token a forged request reads the node's credentials; with more than one hop every pod does."""
    options = at(machine.inputs, "metadataOptions")
    if options == UNKNOWN:
        yield unsure(machine, "metadataOptions")
        return
    tokens = at(options, "httpTokens")
    if tokens != "required" and at(options, "httpEndpoint") != "disabled":
        yield wrong(
            machine,
            f"metadataOptions.httpTokens is {tokens}; a forged request without a token reads credentials: set"
            " http_tokens='required' in metadata_options",
        )
    hops = number(at(options, "httpPutResponseHopLimit"))
    if hops is None or hops > 1:
        yield wrong(
            machine,
            f"metadataOptions.httpPutResponseHopLimit is {hops and f'{hops:g}'}; a pod is a second hop and has an"
            " identity of its own: set http_put_response_hop_limit=1",
        )


@resource_rule("disk-encrypted", "Every disk a node starts with is encrypted.", LAUNCH_TEMPLATE)
def disk_encrypted(template: Declared) -> Iterator[Finding]:
    """Each mapped disk says so; none mapped means the image's own, which is not."""
    disks = [at(mapping, "ebs") for mapping in many(at(template.inputs, "blockDeviceMappings"))]
    if not disks:
        yield wrong(
            template,
            "blockDeviceMappings is empty; the image's own disk is not encrypted: map it with encrypted='true'",
        )
    for disk in disks:
        encrypted = at(disk, "encrypted")
        if encrypted == UNKNOWN:
            yield unsure(template, "ebs.encrypted")
        elif not truth(encrypted):
            yield wrong(
                template,
                f"ebs.encrypted is {encrypted}; models and logs lie on a node's disk: set encrypted='true'",
            )


@resource_rule(
    "gpu-taint",
    f"Every pool of GPU nodes carries the taint {GPU_TAINT} with effect NoSchedule, so that only GPU work lands on it.",
    NODE_GROUP,
    MACHINES,
    MACHINES_NEXT,
    NODE,
)
def gpu_taint(pool: Declared) -> Iterator[Finding]:
    """Other work on a GPU node keeps a GPU from being used, and from being scaled away."""
    if pool.type == NODE_GROUP:
        gpu, taints = _has_gpus(pool), _taints(at(pool.inputs, "taints"))
    elif pool.type == NODE:
        labels = at(pool.inputs, "metadata", "labels")
        gpu = any("gpu" in str(key) for key in labels or ()) or within_adopted(pool)
        taints = _taints(at(pool.inputs, "spec", "taints"))
    else:
        annotations = at(pool.inputs, "metadata", "annotations")
        gpu = bool(number(at(annotations, f"{CAPACITY}/gpu-count")))
        taints = _written(str(at(annotations, f"{CAPACITY}/taints") or ""))
    if UNKNOWN in taints:
        yield unsure(pool, "its taints")
    elif gpu and (GPU_TAINT, "NoSchedule") not in taints:
        yield wrong(
            pool,
            f"its taints are {sorted(taints) or 'none'}; a GPU node takes GPU work only: add {GPU_TAINT} with effect"
            " NoSchedule (NO_SCHEDULE at EKS), also for machines that the autoscaler counts on",
        )


def within_adopted(node: Declared) -> bool:
    """Whether an adopted node is one of the GPU pools; the others are not touched."""
    return "AdoptedNodes" in node.urn


def _has_gpus(group: Declared) -> bool:
    types = [str(kind) for kind in many(at(group.inputs, "instanceTypes"))]
    families = any(kind[:1] in GPU_FAMILIES and kind[1:2].isdigit() for kind in types)
    return "NVIDIA" in str(at(group.inputs, "amiType") or "") or families


def _taints(declared: Any) -> set[Any]:
    """Key and effect of each taint, the effect as Kubernetes writes it."""
    if declared == UNKNOWN:
        return {UNKNOWN}
    effects = {"NO_SCHEDULE": "NoSchedule", "NO_EXECUTE": "NoExecute", "PREFER_NO_SCHEDULE": "PreferNoSchedule"}
    return {
        (str(at(taint, "key")), effects.get(str(at(taint, "effect")), str(at(taint, "effect"))))
        for taint in many(declared)
    }


def _written(text: str) -> set[Any]:
    """The same of the autoscaler's notation, key=value:effect with commas between."""
    if text == UNKNOWN:
        return {UNKNOWN}
    return {(part.partition(":")[0].partition("=")[0], part.partition(":")[2]) for part in text.split(",") if part}


@resource_rule(
    "api-not-open",
    f"A cluster's API is reached from inside of its network, or from listed ones no wider than /{WIDEST_API_PREFIX}.",
    CLUSTER,
)
def api_not_open(cluster: Declared) -> Iterator[Finding]:
    """What AWS does where nothing is said is to open it to everybody."""
    network = at(cluster.inputs, "vpcConfig")
    public, allowed = at(network, "endpointPublicAccess"), at(network, "publicAccessCidrs")
    if public is False or public == "false":
        return
    if public == UNKNOWN or allowed == UNKNOWN:
        yield unsure(cluster, "who reaches its API")
    elif not many(allowed) or any(_wide(entry) for entry in many(allowed)):
        yield wrong(
            cluster,
            f"its API is open to {many(allowed) or ['0.0.0.0/0']}; it is closed to the world: list networks in"
            " api_allowed_cidrs, or none to keep it inside of the VPC",
        )


def _wide(entry: Any) -> bool:
    if entry == UNKNOWN:
        return False
    try:
        return ipaddress.ip_network(str(entry), strict=False).prefixlen < WIDEST_API_PREFIX
    except ValueError:
        return True


@resource_rule("control-plane-logged", f"A cluster's control plane logs {', '.join(LOGS)} at least.", CLUSTER)
def control_plane_logged(cluster: Declared) -> Iterator[Finding]:
    """Who did what is readable afterwards."""
    logs = at(cluster.inputs, "enabledClusterLogTypes")
    missing = [kind for kind in LOGS if kind not in many(logs)]
    if UNKNOWN in many(logs):
        yield unsure(cluster, "enabledClusterLogTypes")
    elif missing:
        yield wrong(
            cluster,
            f"enabledClusterLogTypes lacks {', '.join(missing)}; without them nobody can tell afterwards who changed"
            " what: add them",
        )


@resource_rule("cluster-secrets-encrypted", "A cluster's secrets are encrypted under a KMS key of ours.", CLUSTER)
def cluster_secrets_encrypted(cluster: Declared) -> Iterator[Finding]:
    """Envelope encryption names a key and covers secrets."""
    config = at(cluster.inputs, "encryptionConfig")
    if config == UNKNOWN:
        yield unsure(cluster, "encryptionConfig")
    elif not at(config, "provider", "keyArn") or "secrets" not in many(at(config, "resources")):
        yield wrong(
            cluster,
            f"encryptionConfig covers {many(at(config, 'resources')) or 'nothing'}; Kubernetes' secrets are encrypted"
            " under a key of ours: name provider.key_arn and resources=['secrets'] (it cannot be taken back)",
        )


RULES: Final = (
    imds_v2,
    disk_encrypted,
    gpu_taint,
    api_not_open,
    control_plane_logged,
    cluster_secrets_encrypted,
)
