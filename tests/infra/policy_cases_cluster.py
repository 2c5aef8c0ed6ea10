"""Cases of the rules of what runs in a cluster."""

from __future__ import annotations

from typing import Any

from infra.policies.cluster import BUDGET, CHART, ENFORCED, NAMESPACE, NETWORK_POLICY
from infra.policies.declared import UNKNOWN, StackDeclared
from infra.policies.pods import DAEMON_SET, DEPLOYMENT, JOB
from infra.policies.rollout import SCALED_OBJECT
from tests.infra.policy_case import cases, changed, joined, made, stack

SERVING = "serving-private.prod"
DIGEST = "sha256:" + "a" * 64
LABELS = {"app.kubernetes.io/name": "triton", "tandem.io/site": "private"}
SELECTOR = {"matchLabels": {"app.kubernetes.io/name": "triton"}}
SECURE = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
RESOURCES = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi", "nvidia.com/gpu": "1"}}
IMAGE = f"ghcr.io/tandem-recommender/serving@{DIGEST}"


def probe(path: str = "/v2/models/recommender/ready") -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}}


TRITON: dict[str, Any] = {
    "name": "triton",
    "image": IMAGE,
    "command": ["tritonserver"],
    "args": ["--model-control-mode=none", "--exit-timeout-secs=10"],
    "ports": [{"containerPort": 8001}],
    "resources": RESOURCES,
    "securityContext": SECURE,
    "startupProbe": probe(),
    "readinessProbe": probe(),
    "livenessProbe": probe("/v2/health/live"),
    "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
}
FETCH: dict[str, Any] = {
    "name": "fetch",
    "image": IMAGE,
    "command": ["python", "-m", "serving.fetch"],
    "args": ["--digest", DIGEST],
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "securityContext": SECURE,
}
SPREAD = [
    {"topologyKey": key, "maxSkew": 1, "labelSelector": SELECTOR}
    for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
]
SERVER: dict[str, Any] = {
    "metadata": {"name": "triton", "namespace": UNKNOWN, "labels": LABELS},
    "spec": {
        "replicas": 4,
        "selector": SELECTOR,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
        "template": {
            "metadata": {"labels": LABELS, "annotations": {"tandem.io/model-digest": DIGEST}},
            "spec": {
                "terminationGracePeriodSeconds": 20,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "topologySpreadConstraints": SPREAD,
                "initContainers": [FETCH],
                "containers": [TRITON],
                "volumes": [{"name": "models", "emptyDir": {}}],
            },
        },
    },
}
GATEWAY = {
    "name": "gateway",
    "command": ["python", "-m", "serving.gateway"],
    "ports": [{"containerPort": 8080}],
    "env": [{"name": "REQUEST_TIMEOUT_SECONDS", "value": "1.5"}],
    "lifecycle": {"preStop": {"exec": {"command": ["/bin/sh", "-c", "sleep 3"]}}},
}
POD = "spec/template/spec"
FIRST = f"{POD}/containers/0"


def server(kind: str = DEPLOYMENT, where: str = SERVING, /, **changes: Any) -> dict[str, StackDeclared]:
    """The server with what stands at these paths changed; `pod` and `first` stand for the way to them."""
    return stack(where, made(where, kind, "triton-deployment", changed(SERVER, paths(changes))))


def paths(changes: dict[str, Any]) -> dict[str, Any]:
    ways = {"pod": POD, "first": FIRST}
    return {
        "/".join([ways.get(path.partition("__")[0], path.partition("__")[0]), *path.split("__")[1:]]): value
        for path, value in changes.items()
    }


def gateway(grace: Any) -> dict[str, StackDeclared]:
    return server(pod__containers=[GATEWAY], pod__terminationGracePeriodSeconds=grace)


ALONE = joined(
    cases(
        "probes-present",
        ("no startup", server(first__startupProbe=None), "red", "startupProbe"),
        ("all three", server(), "green"),
        ("a job answers nobody", server(JOB, first__startupProbe=None), "green"),
    ),
    cases(
        "probe-asks-the-model",
        ("the server's readiness", server(first__readinessProbe=probe("/v2/health/ready")), "red", "readinessProbe"),
        (
            "by a command",
            server(first__livenessProbe={"exec": {"command": ["curl", "localhost:8000/v2/health/ready"]}}),
            "red",
            "livenessProbe",
        ),
        ("the model's", server(), "green"),
    ),
    cases(
        "grace-adds-up",
        ("one second short", server(pod__terminationGracePeriodSeconds=18), "red", "needs 19"),
        ("no pause", server(first__lifecycle=None), "red", "preStop"),
        ("Triton's own 30 s", server(first__args=["--model-control-mode=none"]), "red", "needs 39"),
        ("the gateway's request and its end", gateway(12), "red", "needs 13"),
        (
            "a second one without a pause",
            server(pod__containers=[TRITON, {"name": "side", "ports": [{"containerPort": 1}]}]),
            "red",
            "container side",
        ),
        ("a second one that answers nobody", server(pod__containers=[TRITON, {"name": "side"}]), "green"),
        ("just enough", server(pod__terminationGracePeriodSeconds=19), "green"),
        ("just enough for a gateway", gateway(13), "green"),
        ("not known", server(pod__terminationGracePeriodSeconds=UNKNOWN), "open"),
        ("a pause not known", server(first__lifecycle__preStop=UNKNOWN), "open"),
    ),
    cases(
        "images-by-digest",
        ("latest", server(first__image="nvcr.io/nvidia/tritonserver:latest"), "red", "latest"),
        ("a tag alone", server(first__image="tritonserver:24.08"), "red", "24.08"),
        ("tag and digest", server(first__image=f"a/b:1@{DIGEST}"), "red", "a/b:1"),
        ("of an init container", server(pod__initContainers__0__image="serving"), "red", "fetch"),
        ("by digest", server(), "green"),
        ("at a registry with a port", server(first__image=f"registry:5000/a@{DIGEST}"), "green"),
        ("not known", server(first__image=UNKNOWN), "open"),
    ),
    cases(
        "pod-hardened",
        ("as root", server(pod__securityContext__runAsNonRoot=False), "red", "runAsNonRoot"),
        ("by number", server(pod__securityContext={"runAsNonRoot": True, "runAsUser": 0}), "red", "runAsNonRoot"),
        ("no seccomp", server(pod__securityContext__seccompProfile=None), "red", "seccompProfile None"),
        ("privileged", server(first__securityContext={**SECURE, "privileged": True}), "red", "privileged"),
        (
            "one more right",
            server(first__securityContext={**SECURE, "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
            "red",
            "SYS_ADMIN",
        ),
        ("nothing said", server(first__securityContext=None), "red", "readOnlyRootFilesystem"),
        ("the host's network", server(pod__hostNetwork=True), "red", "hostNetwork"),
        ("the host's folder", server(pod__volumes=[{"name": "x", "hostPath": {"path": "/"}}]), "red", "volume x"),
        ("an open init container", server(pod__initContainers__0__securityContext={}), "red", "container fetch"),
        ("nobody in particular", server(), "green"),
        (
            "what a node needs",
            server(DAEMON_SET, pod__securityContext=None, pod__volumes=[{"name": "x", "hostPath": {"path": "/p"}}]),
            "green",
        ),
        ("not known", server(spec__template__spec=UNKNOWN), "open"),
    ),
    cases(
        "resources-declared",
        ("no memory limit", server(first__resources__limits={"nvidia.com/gpu": "1"}), "red", "limits.memory"),
        ("nothing at all", server(pod__initContainers__0__resources=None), "red", "container fetch"),
        ("requests and limit", server(), "green"),
        ("not known", server(first__resources__limits=UNKNOWN), "open"),
    ),
    cases(
        "models-verified",
        ("nobody fetches", server(pod__initContainers=[]), "red", "nothing"),
        ("by a label", server(pod__initContainers__0__args=["--digest", "latest"]), "red", "latest"),
        (
            "another than it says",
            server(spec__template__metadata__annotations={"tandem.io/model-digest": "sha256:" + "b" * 64}),
            "red",
            "same digest",
        ),
        ("the declared one", server(), "green"),
        ("a pod that serves none", server(pod__initContainers=[], first__command=["sleep"]), "green"),
        ("not known", server(pod__initContainers__0__args=["--digest", UNKNOWN]), "open"),
    ),
    cases(
        "model-control-closed",
        ("explicit", server(first__args=["--model-control-mode=explicit"]), "red", "explicit"),
        ("not given", server(first__args=[]), "red", "not given"),
        ("none", server(), "green"),
    ),
    cases(
        "topology-spread",
        ("over nodes only", server(pod__topologySpreadConstraints=SPREAD[1:]), "red", "zone"),
        (
            "of other pods",
            server(
                pod__topologySpreadConstraints=[{**one, "labelSelector": {"matchLabels": {"a": "b"}}} for one in SPREAD]
            ),
            "red",
            "hostname",
        ),
        ("both", server(), "green"),
        ("not known", server(pod__topologySpreadConstraints=UNKNOWN), "open"),
    ),
    cases(
        "labelled-with-site",
        ("no label", server(metadata__labels={}), "red", "metadata.labels"),
        ("another site's pods", server(spec__template__metadata__labels={"tandem.io/site": "public"}), "red", "public"),
        ("its site", server(), "green"),
        ("not known", server(metadata__labels=UNKNOWN), "open"),
    ),
)


def beside(kind: str, *specs: Any, **changes: Any) -> dict[str, StackDeclared]:
    """The server and objects of its namespace."""
    others = [
        made(SERVING, kind, f"other-{number}", {"metadata": {"namespace": UNKNOWN}, "spec": spec})
        for number, spec in enumerate(specs)
    ]
    return stack(SERVING, *server(**changes)[SERVING].resources, *others)


def rolling(unavailable: Any, *, gpus: Any = None, replicas: Any = 4) -> dict[str, StackDeclared]:
    found = server(
        spec__strategy__rollingUpdate={"maxUnavailable": unavailable, "maxSurge": 1}, spec__replicas=replicas
    )
    return found if gpus is None else {**found, **stack("pool-private.prod", firm_gpus=gpus)}


def namespace(enforced: str | None) -> dict[str, StackDeclared]:
    where, labels = "platform-private.prod", {"tandem.io/environment": "prod", **LABELS}
    given = labels if enforced is None else {**labels, ENFORCED: enforced}
    return stack(where, made(where, NAMESPACE, "namespace", {"metadata": {"labels": given}}))


def chart(version: Any) -> dict[str, StackDeclared]:
    return stack(
        "platform-private.prod", made("platform-private.prod", CHART, "c", {"chart": "keda", "version": version})
    )


DENY = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": []}
ONE = {"selector": SELECTOR, "maxUnavailable": 1}
SCALED = {"scaleTargetRef": {"name": "triton"}, "minReplicaCount": 2}
TOGETHER = joined(
    cases(
        "default-deny",
        ("none", server(), "red", "Ingress"),
        ("inwards only", beside(NETWORK_POLICY, {**DENY, "policyTypes": ["Ingress"]}), "red", "Egress"),
        ("for some pods", beside(NETWORK_POLICY, {**DENY, "podSelector": SELECTOR}), "red", "Ingress"),
        ("one that allows", beside(NETWORK_POLICY, {**DENY, "ingress": [{}]}), "red", "Ingress"),
        ("both ways", beside(NETWORK_POLICY, DENY), "green"),
        ("a policy not known", beside(NETWORK_POLICY, UNKNOWN), "open"),
        ("perhaps of another namespace", beside(NETWORK_POLICY, DENY, metadata__namespace="tandem"), "open"),
    ),
    cases(
        "disruption-budget",
        ("none", server(), "red", "0 disruption budgets"),
        ("two", beside(BUDGET, ONE, ONE), "red", "2 disruption budgets"),
        ("of other pods", beside(BUDGET, {**ONE, "selector": {"matchLabels": {"a": "b"}}}), "red", "0 disruption"),
        (
            "of half its labels",
            beside(BUDGET, {**ONE, "selector": {"matchLabels": {**SELECTOR["matchLabels"], "a": "b"}}}),
            "red",
            "0 disruption",
        ),
        ("none may go", beside(BUDGET, {"selector": SELECTOR, "maxUnavailable": 0}), "red", "maxUnavailable is 0"),
        ("all are kept", beside(BUDGET, {"selector": SELECTOR, "minAvailable": 4}), "red", "minAvailable 4"),
        ("all may go", beside(BUDGET, {"selector": SELECTOR, "maxUnavailable": 4}), "red", "maxUnavailable is 4"),
        ("one may go", beside(BUDGET, ONE), "green"),
        ("three are kept", beside(BUDGET, {"selector": SELECTOR, "minAvailable": 3}), "green"),
        ("perhaps of another namespace", beside(BUDGET, ONE, metadata__namespace="tandem"), "open"),
        ("not known", beside(BUDGET, {**ONE, "maxUnavailable": UNKNOWN}), "open"),
    ),
    cases(
        "rollout-headroom",
        ("full GPUs", rolling(0, gpus=4), "red", "for ever"),
        ("a share that rounds to none", rolling("20%", gpus=4), "red", "for ever"),
        ("not said, of three", rolling(None, gpus=3, replicas=3), "red", "for ever"),
        ("one goes first", rolling(1, gpus=4), "green"),
        ("a GPU to spare", rolling(0, gpus=5), "green"),
        ("without GPUs", server(first__resources__limits={"memory": "1Gi"}, spec__strategy={}), "green"),
        ("the pool is not seen", rolling(0), "open"),
        ("not known", rolling(UNKNOWN, gpus=4), "open"),
    ),
    cases(
        "never-alone",
        ("one", server(spec__replicas=1), "red", "replicas is 1"),
        ("all at once", server(spec__strategy={"type": "Recreate"}), "red", "4 may be missing"),
        ("scaled to one", beside(SCALED_OBJECT, {**SCALED, "minReplicaCount": 1}), "red", "minReplicaCount is 1"),
        ("four", server(), "green"),
        ("a number KEDA gives", beside(SCALED_OBJECT, SCALED, spec__replicas=1), "green"),
        ("one in the lab", server(DEPLOYMENT, "serving-private.lab", spec__replicas=1), "green"),
        ("not known", server(spec__replicas=UNKNOWN), "open"),
    ),
    cases(
        "namespace-restricted",
        ("baseline", namespace("baseline"), "red", "baseline"),
        ("nothing", namespace(None), "red", "None"),
        ("restricted", namespace("restricted"), "green"),
    ),
    cases(
        "charts-pinned",
        ("a range", chart("~2.16"), "red", "~2.16"),
        ("whatever is newest", chart(None), "red", "None"),
        ("any patch of it", chart("2.16.x"), "red", "2.16.x"),
        ("one version", chart("2.16.1"), "green"),
        ("with a v", chart("v1.16.1"), "green"),
        ("not known", chart(UNKNOWN), "open"),
    ),
)
CASES = [*ALONE, *TOGETHER]
