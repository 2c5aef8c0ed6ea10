"""Cases of the rules of clusters, names and sites."""

from __future__ import annotations

from typing import Any

from infra.policies.declared import UNKNOWN, StackDeclared
from infra.policies.pool import CAPACITY, CLUSTER, INSTANCE, LAUNCH_TEMPLATE, MACHINES, NODE, NODE_GROUP
from infra.policies.traffic import ALARM, HEALTH_CHECK, RECORD
from tests.infra.policy_case import cases, changed, joined, made, stack

POOL, TRAFFIC = "pool-public.prod", "traffic.prod"
TEMPLATE: dict[str, Any] = {
    "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 1},
    "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"encrypted": "true"}}],
}
EKS: dict[str, Any] = {
    "vpcConfig": {"endpointPublicAccess": True, "publicAccessCidrs": ["198.51.100.0/24"], "subnetIds": UNKNOWN},
    "enabledClusterLogTypes": ["api", "audit", "authenticator"],
    "encryptionConfig": {"provider": {"keyArn": UNKNOWN}, "resources": ["secrets"]},
}
GROUP: dict[str, Any] = {
    "amiType": "AL2023_x86_64_NVIDIA",
    "instanceTypes": ["g6.xlarge"],
    "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
}


def pool(kind: str, inputs: dict[str, Any], **changes: Any) -> dict[str, StackDeclared]:
    return stack(POOL, made(POOL, kind, "it", changed(inputs, {k.replace("__", "/"): v for k, v in changes.items()})))


def machines(gpus: str, taints: str) -> dict[str, StackDeclared]:
    annotations = {f"{CAPACITY}/gpu-count": gpus, f"{CAPACITY}/taints": taints}
    return pool(MACHINES, {"metadata": {"annotations": annotations}})


POOLS = joined(
    cases(
        "imds-v2",
        (
            "a token is optional",
            pool(LAUNCH_TEMPLATE, TEMPLATE, metadataOptions__httpTokens="optional"),
            "red",
            "tokens",
        ),
        ("two hops", pool(LAUNCH_TEMPLATE, TEMPLATE, metadataOptions__httpPutResponseHopLimit=2), "red", "is 2"),
        ("nothing said", pool(INSTANCE, {}), "red", "httpTokens"),
        ("token and one hop", pool(LAUNCH_TEMPLATE, TEMPLATE), "green"),
        ("not known", pool(LAUNCH_TEMPLATE, {"metadataOptions": UNKNOWN}), "open"),
    ),
    cases(
        "disk-encrypted",
        ("the image's own disk", pool(LAUNCH_TEMPLATE, {}), "red", "image's own"),
        ("in the clear", pool(LAUNCH_TEMPLATE, {"blockDeviceMappings": [{"ebs": {"volumeSize": 50}}]}), "red", "None"),
        ("encrypted", pool(LAUNCH_TEMPLATE, TEMPLATE), "green"),
        ("not known", pool(LAUNCH_TEMPLATE, {"blockDeviceMappings": [{"ebs": {"encrypted": UNKNOWN}}]}), "open"),
    ),
    cases(
        "gpu-taint",
        ("a bare group", pool(NODE_GROUP, GROUP, taints=None), "red", "none"),
        ("a preference", pool(NODE_GROUP, GROUP, taints__0__effect="PREFER_NO_SCHEDULE"), "red", "Prefer"),
        ("a GPU by its type", pool(NODE_GROUP, {"instanceTypes": ["g5.xlarge", "m7i.large"]}), "red", "none"),
        ("machines", machines("1", ""), "red", "none"),
        (
            "an adopted node",
            pool(NODE, {"metadata": {"labels": {"nvidia.com/gpu": "true"}}, "spec": {"taints": []}}),
            "red",
            "none",
        ),
        ("a tainted group", pool(NODE_GROUP, GROUP), "green"),
        (
            "a system group",
            pool(NODE_GROUP, {"amiType": "AL2023_x86_64_STANDARD", "instanceTypes": ["m7i.large"]}),
            "green",
        ),
        ("tainted machines", machines("1", "nvidia.com/gpu=present:NoSchedule"), "green"),
        ("machines without a GPU", machines("0", ""), "green"),
        ("not known", pool(NODE_GROUP, GROUP, taints=UNKNOWN), "open"),
    ),
    cases(
        "api-not-open",
        ("to everybody", pool(CLUSTER, EKS, vpcConfig__publicAccessCidrs=["0.0.0.0/0"]), "red", "0.0.0.0/0"),
        ("by default", pool(CLUSTER, {"vpcConfig": {"subnetIds": UNKNOWN}}), "red", "0.0.0.0/0"),
        ("to a quarter of the world", pool(CLUSTER, EKS, vpcConfig__publicAccessCidrs=["64.0.0.0/2"]), "red", "/2"),
        ("to no network at all", pool(CLUSTER, EKS, vpcConfig__publicAccessCidrs=["anywhere"]), "red", "anywhere"),
        ("to a listed network", pool(CLUSTER, EKS), "green"),
        ("to the widest there may be", pool(CLUSTER, EKS, vpcConfig__publicAccessCidrs=["10.0.0.0/8"]), "green"),
        ("to nobody", pool(CLUSTER, {"vpcConfig": {"endpointPublicAccess": False}}), "green"),
        ("not known", pool(CLUSTER, EKS, vpcConfig__publicAccessCidrs=UNKNOWN), "open"),
    ),
    cases(
        "control-plane-logged",
        ("no audit", pool(CLUSTER, EKS, enabledClusterLogTypes=["api", "authenticator"]), "red", "audit"),
        ("all three", pool(CLUSTER, EKS), "green"),
        ("not known", pool(CLUSTER, EKS, enabledClusterLogTypes=UNKNOWN), "open"),
    ),
    cases(
        "cluster-secrets-encrypted",
        ("not at all", pool(CLUSTER, EKS, encryptionConfig=None), "red", "nothing"),
        ("under a key", pool(CLUSTER, EKS), "green"),
        ("not known", pool(CLUSTER, EKS, encryptionConfig=UNKNOWN), "open"),
    ),
)

WEIGHTED: dict[str, Any] = {
    "name": "recommend.tandem.example",
    "type": "A",
    "ttl": 30,
    "setIdentifier": "private",
    "healthCheckId": UNKNOWN,
    "weightedRoutingPolicies": [{"weight": 70}],
}
OTHER = {**WEIGHTED, "setIdentifier": "public", "weightedRoutingPolicies": [{"weight": 30}]}
GOLDEN: dict[str, Any] = {"type": "HTTPS_STR_MATCH", "searchString": "golden"}
HEARD = {"type": "CLOUDWATCH_METRIC", "insufficientDataHealthStatus": "Unhealthy"}


def records(*inputs: dict[str, Any]) -> dict[str, StackDeclared]:
    return stack(TRAFFIC, *(made(TRAFFIC, RECORD, f"record-{number}", each) for number, each in enumerate(inputs)))


def weights(*values: Any) -> dict[str, StackDeclared]:
    sites = [
        {"setIdentifier": str(n), "weightedRoutingPolicies": [{"weight": value}]} for n, value in enumerate(values)
    ]
    return records(*({**WEIGHTED, **site} for site in sites))


def check(inputs: dict[str, Any]) -> dict[str, StackDeclared]:
    return stack(TRAFFIC, made(TRAFFIC, HEALTH_CHECK, "check", inputs))


NAMES = joined(
    cases(
        "weighted-record-checked",
        ("no check", records(changed(WEIGHTED, {"healthCheckId": None})), "red", "healthCheckId"),
        ("a check", records(WEIGHTED), "green"),
        ("a name of one site", records({"name": "private.x", "type": "A", "ttl": 30}), "green"),
    ),
    cases(
        "ttl-short",
        ("five minutes", records(changed(WEIGHTED, {"ttl": 300})), "red", "ttl is 300"),
        ("none", records(changed(WEIGHTED, {"ttl": None})), "red", "ttl is None"),
        ("half a minute", records(WEIGHTED), "green"),
        ("an alias", records(changed({**WEIGHTED, "aliases": [{"name": UNKNOWN}]}, {"ttl": None})), "green"),
        ("a delegation", records({"name": "x", "type": "NS", "ttl": 172800}), "green"),
        ("a validation", records({"name": "_x.tandem.example", "type": "CNAME", "ttl": 3600}), "green"),
        ("not known", records(changed(WEIGHTED, {"ttl": UNKNOWN})), "open"),
    ),
    cases(
        "weights-sane",
        ("all 0", weights(0, 0), "red", "every weight 0"),
        ("too large", weights(256, 1), "red", "weight is 256"),
        ("a fraction", weights(0.5, 1), "red", "whole number"),
        ("one identifier twice", records(WEIGHTED, WEIGHTED), "red", "its own"),
        ("70 and 30", records(WEIGHTED, OTHER), "green"),
        ("one held back", weights(255, 0), "green"),
        ("as the wire has them", weights(70.0, 30.0), "green"),
        ("not known", weights(UNKNOWN, 0), "open"),
    ),
    cases(
        "check-means-something",
        ("any page will do", check({"type": "HTTPS"}), "red", "wrong answer"),
        ("no word", check({"type": "HTTPS_STR_MATCH"}), "red", "wrong answer"),
        ("silence is fine", check({**HEARD, "insufficientDataHealthStatus": "LastKnownStatus"}), "red", "nobody hears"),
        (
            "one child is enough",
            check({"type": "CALCULATED", "childHealthchecks": [UNKNOWN, UNKNOWN], "childHealthThreshold": 1}),
            "red",
            "of 2 children",
        ),
        ("switched off", check({**GOLDEN, "disabled": True}), "red", "disabled"),
        ("a word", check(GOLDEN), "green"),
        ("an alarm", check(HEARD), "green"),
        (
            "every child",
            check({"type": "CALCULATED", "childHealthchecks": [UNKNOWN, UNKNOWN], "childHealthThreshold": 2}),
            "green",
        ),
        ("a mark's, whose URL is not known yet", check({"type": UNKNOWN, "searchString": "mark"}), "green"),
        ("not known", check({"type": UNKNOWN}), "open"),
    ),
)

NAMES += cases(
    "alarm-explains-silence",
    ("nothing said", stack(TRAFFIC, made(TRAFFIC, ALARM, "alarm", {"threshold": 1})), "red", "treatMissingData"),
    ("loud", stack(TRAFFIC, made(TRAFFIC, ALARM, "alarm", {"treatMissingData": "breaching"})), "green"),
)

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def site(
    name: str, digest: str = A, accepted: tuple[str, ...] = (A,), *, env: str = "prod", gpus: Any = 4, **more: Any
) -> dict[str, StackDeclared]:
    outputs = {
        "model_digest": digest,
        "accepted_digests": list(accepted),
        "gpus_per_pod": 1,
        "triton_replicas": 4,
        "requests_per_second_per_pod": 100.0,
        "gateway_replicas": 4,
        "requests_per_second_per_gateway": 200.0,
        **more,
    }
    return {**stack(f"serving-{name}.{env}", **outputs), **stack(f"pool-{name}.{env}", firm_gpus=gpus)}


def traffic(peak: Any, *names: str, env: str = "prod") -> dict[str, StackDeclared]:
    ends = {name: {"weight": 50} for name in names}
    return stack(f"traffic.{env}", peak_requests_per_second=peak, sites=ends)


SITES = joined(
    cases(
        "digests-within-one-rollout",
        ("a label", site("private", "latest", ("latest",)), "red", "sha256: and 64"),
        ("not its own", site("private", A, (B,)), "red", "every answer"),
        ("strangers", {**site("private", A, (A,)), **site("public", B, (B,))}, "red", "one rollout apart"),
        (
            "three at once",
            {**site("a", A, (A, B, C)), **site("b", B, (A, B, C)), **site("c", C, (A, B, C))},
            "red",
            "two versions",
        ),
        ("alike", {**site("private"), **site("public")}, "green"),
        ("one ahead", {**site("private", B, (A, B)), **site("public", A, (A,))}, "green"),
        ("of two environments", {**site("a", A, (A,)), **site("a", B, (B,), env="lab")}, "green"),
        ("not known", site("private", UNKNOWN, (A,)), "open"),
    ),
    cases(
        "capacity-minus-one",
        (
            "one is too small",
            {**traffic(300.0, "a", "b"), **site("a"), **site("b", gpus=2)},
            "red",
            "without a, b gets",
        ),
        ("nothing declared", {**traffic(0, "a", "b"), **site("a"), **site("b")}, "red", "busiest"),
        ("one site", {**traffic(10.0, "a"), **site("a")}, "red", "add a site"),
        ("either carries it", {**traffic(400.0, "a", "b"), **site("a"), **site("b")}, "green"),
        ("nothing declared in the lab", traffic(0, "a", "b", env="lab"), "green"),
        ("GPUs not known", {**traffic(400.0, "a", "b"), **site("a"), **site("b", gpus=UNKNOWN)}, "open"),
        ("a stack not seen", traffic(400.0, "a", "b"), "open"),
    ),
)
CASES = [*POOLS, *NAMES, *SITES]
