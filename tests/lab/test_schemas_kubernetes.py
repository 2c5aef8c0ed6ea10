"""Manifests against published schemas: what the programs declare fits, and what does not is told by its place."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pulumi
import pulumi_kubernetes
import pytest
from google.protobuf.json_format import MessageToDict

from drills.actions.network_chaos import NetworkChaos, delay
from drills.lease_job import job
from infra import chart
from infra.adopted_pool import AdoptedNodes, AdoptedNodesArgs
from infra.private_edge import PrivateEdge, PrivateEdgeArgs
from infra.settings_pool import CILIUM, AdoptedPool
from lab.providers.values import UNKNOWN_TEXT as UNKNOWN
from lab.schemas import custom, kubernetes
from lab.schemas.kubernetes import errors, known, properties
from stacks.workspace import Workspace
from tests.drills.worlds import a_deployment
from tests.infra.declaring import plain
from tests.infra.recording import Graph, run
from tests.previewed import as_previewed
from tests.stacks.test_third_site import program, workspace

__all__ = ["workspace"]

Change = Callable[[dict[str, Any]], object]
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "registry.example/web:1", "ports": []}]},
        },
    },
}
SECRET: dict[str, Any] = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}
SCALED: dict[str, Any] = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "web"},
    "spec": {
        "scaleTargetRef": {"name": "web"},
        "minReplicaCount": 1,
        "triggers": [{"type": "prometheus", "metricType": "AverageValue", "metadata": {"threshold": "2"}}],
    },
}
CERTIFICATE: dict[str, Any] = {
    "apiVersion": "cert-manager.io/v1",
    "kind": "Certificate",
    "metadata": {"name": "web"},
    "spec": {"secretName": "web", "issuerRef": {"name": "site"}, "privateKey": {"algorithm": "ECDSA"}},
}
MONITOR: dict[str, Any] = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "web"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}, "endpoints": [{"port": "http", "interval": "15s"}]},
}
APP_VERSIONS: Mapping[str, str] = {
    "kube-prometheus-stack 79.7.1": "0.86.2",
    "aws-load-balancer-controller 1.16.0": "2.16.0",
}
"""What charts that have a version of their own install: appVersion in their Chart.yaml
(https://github.com/prometheus-community/helm-charts, https://github.com/aws/eks-charts)."""

NOT_DECLARED = {
    "MachineHealthCheck spec.unhealthyRange",
    "NetworkChaos spec.bandwidth.buffer",
    "NetworkChaos spec.bandwidth.limit",
    "NetworkChaos spec.bandwidth.rate",
    "NetworkChaos spec.delay.jitter",
    "NetworkChaos spec.duration",
    "NetworkChaos spec.externalTargets[]",
    "NetworkChaos spec.loss.loss",
    "NetworkChaos spec.selector.pods.*[]",
}
"""Noted for what the lab acts on, or refuses with a reason of its own, beyond what the programs declare."""


def recorded(graph: Graph) -> list[dict[str, Any]]:
    """Inputs of everything of Kubernetes that was registered."""
    return [
        plain(MessageToDict(request.object), "", set())
        for request in graph._monitor.requests.values()
        if is_manifest(request.type)
    ]


def is_manifest(token: str) -> bool:
    return token.startswith("kubernetes:") and not token.startswith("kubernetes:helm.sh/")


def of_previews(env: str) -> list[Mapping[str, Any]]:
    stacks = as_previewed(env).stacks.values()
    return [each.inputs for stack in stacks for each in stack.resources if is_manifest(each.type)]


def wrong(manifests: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    titles = ((f"{each['kind']} {each['metadata'].get('name')}", errors(each)) for each in manifests)
    return {title: found for title, found in titles if found}


@pytest.mark.parametrize("env", ["lab", "prod"])
def test_every_manifest_of_every_stack_fits(env: str) -> None:
    assert wrong(of_previews(env)) == {}
    assert len(of_previews(env)) > 50


def test_every_manifest_of_a_third_site_fits_and_the_package_of_the_schemas_agrees(workspace: Workspace) -> None:
    """By the recording engine, which answers everything: nothing is left unknown.

    The package's own validation reads every schema anew each time, so one manifest of a kind has to do.
    """
    stacks = [str(stack) for layer in workspace.order() for stack in layer if stack.site == "edge"]
    found = [each for stack in stacks for each in recorded(program(workspace.home, stack))]
    assert wrong(found) == {}
    assert len(found) > 20
    built_in = {each["kind"]: each for each in found if known(each["apiVersion"], each["kind"]) == "Kubernetes 1.34"}
    for manifest in built_in.values():
        kubernetes_validate.validate(manifest, kubernetes.VERSION, strict=True)
    assert len(built_in) > 10


def other_settings() -> list[dict[str, Any]]:
    """What no tracked file asks for: an address from Cilium, nodes that are adopted."""

    def declare() -> None:
        opts = pulumi.ResourceOptions(provider=pulumi_kubernetes.Provider("workload", kubeconfig="{}"))
        address: dict[str, Any] = {"address": "192.0.2.1", "public_address": "192.0.2.1"}
        edge = PrivateEdgeArgs(mode=CILIUM, service_labels={"app": "web"}, interfaces=("^eth[0-9]+",), **address)
        PrivateEdge("edge", edge, opts)
        pools = (AdoptedPool(name="gpu", nodes=("gpu-1",), labels={"rack": "b"}),)
        AdoptedNodes("nodes", AdoptedNodesArgs(cluster_name="edge", pools=pools), opts)

    return recorded(run(declare))


def of_drills() -> list[dict[str, Any]]:
    """What a drill puts into a site for a while."""
    deployment = a_deployment()
    faults = [NetworkChaos.between(deployment, "private", spec).spec for spec in (delay(10.0), {"action": "partition"})]
    head = {"apiVersion": "chaos-mesh.org/v1alpha1", "kind": "NetworkChaos", "metadata": {"name": "drill"}}
    lease = job(deployment, "private", "1", "lease", "registry.example/drills:1", ["node-1"])
    return [{"apiVersion": "batch/v1", "kind": "Job", **lease}, *({**head, "spec": spec} for spec in faults)]


def test_what_other_settings_and_drills_make_fits() -> None:
    found = [*other_settings(), *of_drills()]
    assert wrong(found) == {}
    assert len(found) == 6


def test_facts_are_kept_of_what_is_declared_and_of_nothing_else() -> None:
    made = [*of_previews("lab"), *of_previews("prod"), *other_settings(), *of_drills()]
    declared = {(each["apiVersion"], each["kind"]) for each in made}
    built_in = {pair for pair in declared if known(*pair) == "Kubernetes 1.34"}
    assert declared - built_in == set(custom.definitions())


def test_facts_are_of_the_versions_the_pinned_charts_install() -> None:
    pins = chart.needed(
        public=True,
        gpu_operator=True,
        driver=False,
        monitoring_namespace="monitoring",
        cluster_name="c",
        region="r",
        vpc_id="v",
    )
    installed = {
        each.name: APP_VERSIONS.get(f"{each.name} {each.version}", each.version.removeprefix("v")) for each in pins
    }
    projects = {each.project for each in custom.definitions().values()}
    assert {
        f"KEDA {installed[chart.KEDA]}",
        f"cert-manager {installed[chart.CERT_MANAGER]}",
        f"Prometheus Operator {installed[chart.PROMETHEUS]}",
        f"AWS Load Balancer Controller {installed[chart.BALANCER]}",
    } <= projects


BROKEN: list[tuple[str, dict[str, Any], Change, str]] = [
    (
        "a misspelled field",
        DEPLOYMENT,
        lambda each: each["spec"].update(replica=2),
        "spec.replica: unknown field",
    ),
    (
        "a misspelled field of a container",
        DEPLOYMENT,
        lambda each: container(each).update(imagePullPolice="Always"),
        "spec.template.spec.containers[0].imagePullPolice: unknown field",
    ),
    (
        "a text for a number",
        DEPLOYMENT,
        lambda each: each["spec"].update(replicas="2"),
        "spec.replicas: '2' is not of type 'integer'",
    ),
    (
        "a required field that is not there",
        DEPLOYMENT,
        lambda each: each["spec"].pop("selector"),
        "spec: 'selector' is a required property",
    ),
    (
        "a label that is no text",
        DEPLOYMENT,
        lambda each: each["metadata"]["labels"].update(app=1),
        "metadata.labels.app: 1 is not of type 'string'",
    ),
    (
        "a wrong value of a Secret is not shown",
        SECRET,
        lambda each: each["stringData"].update(a=4711),
        "stringData.a: <value omitted> is not what a Secret holds there: text",
    ),
    (
        "a kind nobody has a schema of",
        DEPLOYMENT,
        lambda each: each.update(kind="Deploiment"),
        "kind: 'Deploiment' of 'apps/v1' is in no schema here",
    ),
    (
        "an unknown field of a custom resource",
        SCALED,
        lambda each: each["spec"].update(cooldown=30),
        'spec.cooldown: unknown field "spec.cooldown"',
    ),
    (
        "a text for a number of a custom resource",
        SCALED,
        lambda each: each["spec"].update(minReplicaCount="1"),
        'spec.minReplicaCount in body must be of type integer: "string"',
    ),
    (
        "a number for a text of a custom resource",
        SCALED,
        lambda each: each["spec"]["triggers"][0]["metadata"].update(threshold=2),
        'spec.triggers[0].metadata.threshold in body must be of type string: "integer"',
    ),
    (
        "a value that is none of those there are",
        SCALED,
        lambda each: each["spec"].update(fallback={"failureThreshold": 3, "replicas": 1, "behavior": "lowest"}),
        'spec.fallback.behavior: Unsupported value: "lowest": supported values: "static", "currentReplicas"',
    ),
    (
        "another such value",
        CERTIFICATE,
        lambda each: each["spec"]["privateKey"].update(algorithm="ECSDA"),
        'Unsupported value: "ECSDA": supported values: "RSA", "ECDSA", "Ed25519"',
    ),
    (
        "a required field of a custom resource that is not there",
        CERTIFICATE,
        lambda each: each["spec"].pop("issuerRef"),
        "spec.issuerRef: Required value",
    ),
    (
        "a value of the wrong form",
        MONITOR,
        lambda each: each["spec"]["endpoints"][0].update(interval="15 seconds"),
        "spec.endpoints[0].interval in body should match",
    ),
    (
        "wrong metadata of a custom resource",
        SCALED,
        lambda each: each["metadata"].update(lables={}),
        "metadata.lables: unknown field",
    ),
    (
        "a misspelled field beside an unknown value",
        SCALED,
        lambda each: each["spec"].update(scaleTargetRef=UNKNOWN, maxReplicas=3),
        'spec.maxReplicas: unknown field "spec.maxReplicas"',
    ),
]


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.mark.parametrize(("manifest", "change", "said"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_does_not_fit_is_told_by_its_place(manifest: dict[str, Any], change: Change, said: str) -> None:
    assert errors(manifest) == []
    spoiled = copy.deepcopy(manifest)
    change(spoiled)
    [found] = errors(spoiled)
    assert said in found


@pytest.mark.parametrize("manifest", [DEPLOYMENT, SCALED], ids=["built in", "custom"])
def test_a_value_that_is_not_known_yet_fits_where_it_stands(manifest: dict[str, Any]) -> None:
    for name in manifest["spec"]:
        assert errors({**manifest, "spec": {**manifest["spec"], name: UNKNOWN}}) == []
    assert errors({**manifest, "metadata": {"name": UNKNOWN}}) == []
    assert errors({**manifest, "spec": {**manifest["spec"], "replicsa": UNKNOWN}}) != []


def test_paths_name_what_a_manifest_says() -> None:
    assert list(properties(DEPLOYMENT)) == [
        "metadata.name",
        "metadata.labels.*",
        "spec.replicas",
        "spec.selector.matchLabels.*",
        "spec.template.metadata.labels.*",
        "spec.template.spec.containers[].name",
        "spec.template.spec.containers[].image",
        "spec.template.spec.containers[].ports",
    ]
    assert list(properties(SCALED)) == [
        "metadata.name",
        "spec.scaleTargetRef.name",
        "spec.minReplicaCount",
        "spec.triggers[].type",
        "spec.triggers[].metricType",
        "spec.triggers[].metadata.*",
    ]
    assert list(properties({**SECRET, "stringData": UNKNOWN})) == ["metadata.name", "stringData.*"]


TABLE = """
[forms.word]
pattern = '^[a-z]+$'
most = 3

[kinds."example.org/v1 Thing"]
project = "Things 1.0"
source = "https://example.org/thing"
required = ["spec", "spec.size", "spec.parts[].name"]

[kinds."example.org/v1 Thing".fields]
"spec.size" = { is = "int32", least = 1, most = 9 }
"spec.count" = "int32"
"spec.port" = "text or integer"
"spec.kind" = ["large", "small"]
"spec.names" = { least = 1, most = 2 }
"spec.names[]" = "word"
"spec.labels.*" = "text"
"spec.parts" = { key = "name" }
"spec.parts[].name" = "text"
"spec.selector" = { whole = true }
"spec.selector.name" = "text"
"""


def thing(table: str = TABLE) -> custom.Definition:
    return custom.read(table)["example.org/v1", "Thing"]


def test_facts_become_a_structural_schema() -> None:
    found = thing()
    assert (found.project, found.source) == ("Things 1.0", "https://example.org/thing")
    assert found.schema["required"] == ["spec"]
    spec = found.schema["properties"]["spec"]
    assert spec["required"] == ["size"]
    assert spec["properties"] == {
        "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9},
        "count": {"type": "integer", "format": "int32"},
        "port": {"x-kubernetes-int-or-string": True},
        "kind": {"type": "string", "enum": ["large", "small"]},
        "names": {
            "type": "array",
            "minItems": 1,
            "maxItems": 2,
            "items": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "parts": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        },
        "selector": {
            "type": "object",
            "x-kubernetes-map-type": "atomic",
            "properties": {"name": {"type": "string"}},
        },
    }


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "spec.size: Required value"),
        ({"size": 0}, "should be greater than or equal to 1"),
        ({"size": 10}, "should be less than or equal to 9"),
        ({"size": 1, "count": 2**31}, "must be of type integer with format int32"),
        ({"size": 1.5}, 'must be of type integer: "number"'),
        ({"size": True}, 'must be of type integer: "boolean"'),
        ({"size": 1, "port": 1.5}, "must be of type integer or string"),
        ({"size": 1, "kind": "middle"}, 'supported values: "large", "small"'),
        ({"size": 1, "names": []}, "spec.names in body should have at least 1 items"),
        ({"size": 1, "names": ["a", "b", "c"]}, "spec.names: Too many: 3: must have at most 2 items"),
        ({"size": 1, "names": ["long"]}, "Too long: may not be more than 3 bytes"),
        ({"size": 1, "names": ["1"]}, "spec.names[0] in body should match"),
        ({"size": 1, "labels": {"a": 1}}, 'spec.labels.a in body must be of type string: "integer"'),
        ({"size": 1, "labels": []}, 'must be of type object: "array"'),
        ({"size": 1, "parts": [{}]}, "spec.parts[0].name: Required value"),
        ({"size": 1, "parts": [{"name": "a"}, {"name": "a"}]}, 'spec.parts[1]: Duplicate value: {"name": "a"}'),
        ({"size": 1, "selector": {"nmae": "a"}}, 'unknown field "spec.selector.nmae"'),
        ({"size": 1.0, "port": 80, "labels": {"a": "B"}, "names": ["a"], "parts": [{"name": "a"}]}, ""),
    ],
)
def test_a_value_is_judged_by_the_facts_and_nothing_else(spec: dict[str, Any], said: str) -> None:
    given = {"metadata": {"name": "a"}, "spec": spec}
    found = [f"{each.path}: {each.message}" for each in custom.faults(thing().schema, given)]
    assert len(found) == bool(said), found
    assert all(said in each for each in found)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('"spec.count" = "int32"', '"spec.count" = "int23"', "spec.count = \"int23\" has 'int23'"),
        ("least = 1, most = 9", "lest = 1", "has 'lest'"),
        ('= "text or integer"', '= { is = "text or integer", least = 1 }', "spec.port"),
        ('"spec.size", ', '"spec.sise", ', "spec.sise is required and no line says what it is"),
    ],
    ids=["no type", "no fact", "no such bound", "no line"],
)
def test_a_line_that_says_nothing_to_judge_by_is_refused(right: str, wrong: str, said: str) -> None:
    assert right in TABLE
    with pytest.raises(custom.FactsError, match=re.escape(said)):
        thing(TABLE.replace(right, wrong))


def test_a_field_that_is_not_noted_is_told_with_where_to_look_it_up() -> None:
    [found] = errors({**SCALED, "spec": {**SCALED["spec"], "cooldown": 30}})
    assert found.startswith('spec.cooldown: unknown field "spec.cooldown"; it is misspelled, or not noted yet')
    assert "look it up at https://github.com/kedacore/keda/blob/v2.20.2/" in found
    assert found.endswith("and add it to lab/schemas/custom.toml")


def test_no_line_of_the_table_outlives_its_use() -> None:
    used: dict[str, set[str]] = {}
    for each in (*of_previews("lab"), *of_previews("prod"), *other_settings(), *of_drills()):
        used.setdefault(f"{each['apiVersion']} {each['kind']}", set()).update(properties(each))
    table = tomllib.loads(Path(custom.__file__).with_name("custom.toml").read_text(encoding="utf-8"))
    idle = {
        f"{kind.rpartition(' ')[2]} {path}"
        for kind, noted in table["kinds"].items()
        for path in noted["fields"]
        if not any(name.startswith(path) or path.startswith(name) for name in used[kind])
    }
    assert idle == NOT_DECLARED
