"""Whatever a client sends, the store answers with an object or with a refusal, and stays as it was when it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.kubernetes.api import kinds
from lab.kubernetes.api.errors import ApiError
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import clone
from lab.kubernetes.api.patching import PatchType
from lab.kubernetes.api.store import Store

POD_SPEC: dict[str, Any] = {
    "containers": [
        {
            "name": "main",
            "image": "web:1",
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 80, "name": "http"}],
            "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": 1}, "requests": {"cpu": "500m"}},
            "readinessProbe": {"httpGet": {"port": "http"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
            "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }
    ],
    "initContainers": [{"name": "fetch", "image": "web:1"}],
    "volumes": [{"name": "data", "emptyDir": {"sizeLimit": "1Gi"}}],
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": POD_SPEC}
META: dict[str, Any] = {
    "name": "web",
    "namespace": "default",
    "labels": {"app": "web"},
    "annotations": {"a": "b"},
    "finalizers": ["tandem.io/x"],
}
SELECTOR = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}
JOB = {"template": {"spec": {**POD_SPEC, "restartPolicy": "Never"}}}
SPECS: dict[Kind, dict[str, Any]] = {
    kinds.POD: {"spec": POD_SPEC},
    kinds.DEPLOYMENT: {
        "spec": {"selector": SELECTOR, "template": TEMPLATE, "strategy": {"rollingUpdate": {"maxSurge": 1}}}
    },
    kinds.DAEMON_SET: {"spec": {"selector": SELECTOR, "template": TEMPLATE}},
    kinds.CRON_JOB: {"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": JOB}}},
    kinds.JOB: {"spec": JOB},
    kinds.SERVICE: {"spec": {"ports": [{"port": 80, "targetPort": "http"}], "selector": {"app": "web"}}},
    kinds.RESOURCE_QUOTA: {"spec": {"hard": {"pods": "10", "requests.nvidia.com/gpu": 3}}},
    kinds.SECRET: {"data": {"a": "Yg=="}, "stringData": {"c": "d"}},
    kinds.NETWORK_POLICY: {"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}},
    kinds.POD_DISRUPTION_BUDGET: {"spec": {"selector": SELECTOR, "maxUnavailable": "50%"}},
    kinds.HORIZONTAL_POD_AUTOSCALER: {
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
    },
    kinds.ENDPOINT_SLICE: {
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.78.0.9"]}],
        "ports": [{"port": 80}],
    },
    kinds.ENDPOINTS: {"subsets": [{"addresses": [{"ip": "127.78.0.9"}], "ports": [{"port": 80}]}]},
    kinds.PRIORITY_CLASS: {"value": 3},
    kinds.NAMESPACE: {"spec": {"finalizers": ["kubernetes"]}},
    kinds.MACHINE_SET: {"spec": {"clusterName": "c", "replicas": 2, "template": {"spec": {"a": [1]}}}},
    kinds.MACHINE_DEPLOYMENT: {
        "spec": {
            "clusterName": "c",
            "replicas": 2,
            "selector": SELECTOR,
            "template": {"spec": {"clusterName": "c", "bootstrap": {"dataSecretName": "s"}, "infrastructureRef": {}}},
        }
    },
}
NONSENSE: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        3.5,
        "",
        "x",
        "25%",
        "Ünïcode ",
        "a" * 300,
        [],
        [None],
        [[1]],
        ["x", "x"],
        {},
        {"x": None},
        {"$patch": "x"},
        {"name": []},
        10**30,
    ]
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a manifest."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [entry for key, item in inner for entry in [(*at, key), *places(item, (*at, key))]]


def spoiled(manifest: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The manifest with one value exchanged."""
    result: dict[str, Any] = clone(manifest)
    target: Any = result
    for key in at[:-1]:
        target = target[key]
    target[at[-1]] = value
    return result


def attempt(store: Store, action: Any) -> None:
    before = store.resource_version
    refused: ApiError | None = None
    try:
        action()
    except ApiError as error:
        refused = error
    if refused:
        assert 400 <= refused.code < 500
        assert refused.status()["message"]
        assert store.resource_version == before, "a refusal leaves no trace"


@pytest.mark.parametrize("kind", SPECS, ids=lambda kind: kind.kind)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_spoiled_manifest_is_taken_or_refused_by_every_verb(kind: Kind, data: st.DataObject) -> None:
    manifest = {"metadata": META, **SPECS[kind]}
    at = data.draw(st.sampled_from(places(manifest)))
    value = data.draw(NONSENSE)
    bad = spoiled(manifest, at, value)
    store = Store(first_version=1)
    attempt(store, lambda: store.create(kind, bad, field_manager="a"))
    whole = Store(first_version=1)
    whole.create(kind, manifest, field_manager="a")
    attempt(whole, lambda: whole.update(kind, bad, field_manager="b"))
    space = META["namespace"] if kind.namespaced else None
    patch: Any = value
    for key in reversed(at):
        patch = {key: patch} if isinstance(key, str) else [patch]
    for how in (PatchType.MERGE, PatchType.STRATEGIC, PatchType.APPLY):
        attempt(
            whole,
            lambda how=how: whole.patch(
                kind, space, "web", bad if how is PatchType.APPLY else patch, how, field_manager="c", force=True
            ),
        )
    pointer = "/" + "/".join(str(key) for key in at)
    operations = [{"op": "replace", "path": pointer, "value": value}]
    attempt(whole, lambda: whole.patch(kind, space, "web", operations, PatchType.JSON, field_manager="d"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()), max_size=12))
def test_applying_twice_in_a_row_changes_nothing_the_second_time(steps: list[tuple[str, int, bool]]) -> None:
    store = Store(first_version=1)
    store.create(kinds.NAMESPACE, {"metadata": {"name": "space"}})
    for manager, number, wide in steps:
        data = {f"k{key}": str(number) for key in range(number if wide else 1)}
        labels = {f"l{number}": manager}
        config = {"metadata": {"labels": labels, "namespace": "space"}, "data": data}

        def apply(config: dict[str, Any] = config, manager: str = manager) -> dict[str, Any]:
            return store.patch(
                kinds.CONFIG_MAP, "space", "c", config, PatchType.APPLY, field_manager=manager, force=True
            )

        first, second = apply(), apply()
        assert first == second
        assert data.items() <= first.get("data", {}).items()
