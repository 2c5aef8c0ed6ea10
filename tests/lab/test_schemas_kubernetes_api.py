"""The lab's API refuses what does not fit a published schema, in the way and words of a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from lab.kubernetes.api.server import application
from lab.kubernetes.api.store import Store
from lab.schemas import custom
from tests.lab.test_schemas_kubernetes import CERTIFICATE, DEPLOYMENT, MONITOR, SCALED

APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
PLACES = {
    "Deployment": "/apis/apps/v1/namespaces/default/deployments",
    "ScaledObject": "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects",
    "Certificate": "/apis/cert-manager.io/v1/namespaces/default/certificates",
    "PrometheusRule": "/apis/monitoring.coreos.com/v1/namespaces/default/prometheusrules",
    "ServiceMonitor": "/apis/monitoring.coreos.com/v1/namespaces/default/servicemonitors",
}
Api = TestClient[Any, Any]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with TestClient(TestServer(application(Store()), host="127.78.9.1")) as client:
        yield client


def with_spec(manifest: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {**manifest, "spec": {**manifest["spec"], **spec}}


MISSPELLED = [with_spec(DEPLOYMENT, replica=2), with_spec(SCALED, replica=2)]


@pytest.mark.parametrize("manifest", MISSPELLED, ids=["built in", "custom"])
@pytest.mark.parametrize("verb", ["create", "apply"])
async def test_an_unknown_field_is_refused_warned_of_or_dropped_as_asked(
    api: Api, manifest: dict[str, Any], verb: str
) -> None:
    async def ask(validation: str) -> Any:
        query = {"fieldValidation": validation, "fieldManager": "test"}
        if verb == "create":
            return await api.post(place, json=manifest, params={**query, "dryRun": "All"})
        return await api.patch(f"{place}/web", json=manifest, params=query, headers=APPLY)

    place = PLACES[manifest["kind"]]
    answer = await ask("Strict")
    body = await answer.json()
    assert (answer.status, body["kind"], body["reason"]) == (400, "Status", "BadRequest")
    assert 'strict decoding error: unknown field "spec.replica"' in body["message"]
    told = "look it up at https://github.com/kedacore/keda" in body["message"]
    assert told is (manifest["kind"] == "ScaledObject")
    answer = await ask("Warn")
    assert answer.status == 201
    assert 'unknown field \\"spec.replica\\"' in answer.headers["Warning"]
    assert "replica" not in (await answer.json())["spec"]
    answer = await ask("Ignore")
    assert answer.status in (200, 201)
    assert "Warning" not in answer.headers


async def test_a_wrong_type_of_a_built_in_kind_cannot_be_decoded(api: Api) -> None:
    answer = await api.post(PLACES["Deployment"], json=with_spec(DEPLOYMENT, replicas="2"))
    body = await answer.json()
    assert (answer.status, body["kind"], body["reason"]) == (400, "Status", "BadRequest")
    assert "spec.replicas: got '2', want integer" in body["message"]


REFUSED: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "a text for a number",
        with_spec(SCALED, minReplicaCount="1"),
        "spec.minReplicaCount",
        "FieldValueTypeInvalid",
        'Invalid value: "1": spec.minReplicaCount in body must be of type integer: "string"',
    ),
    (
        "a value that is none of those there are",
        with_spec(CERTIFICATE, privateKey={"algorithm": "ECSDA"}),
        "spec.privateKey.algorithm",
        "FieldValueNotSupported",
        'Unsupported value: "ECSDA": supported values: "RSA", "ECDSA", "Ed25519"',
    ),
    (
        "a required field that is not there",
        {**SCALED, "spec": {"triggers": SCALED["spec"]["triggers"]}},
        "spec.scaleTargetRef",
        "FieldValueRequired",
        "Required value",
    ),
    (
        "a value of the wrong form",
        with_spec(MONITOR, endpoints=[{"interval": "15 seconds"}]),
        "spec.endpoints[0].interval",
        "FieldValueInvalid",
        "spec.endpoints[0].interval in body should match",
    ),
]


@pytest.mark.parametrize(
    ("manifest", "field", "reason", "said"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_a_custom_resource_that_does_not_fit_its_definition_is_invalid(
    api: Api, manifest: dict[str, Any], field: str, reason: str, said: str
) -> None:
    answer = await api.post(PLACES[manifest["kind"]], json=manifest, params={"fieldValidation": "Ignore"})
    body = await answer.json()
    assert (answer.status, body["kind"], body["reason"]) == (422, "Status", "Invalid")
    [cause] = body["details"]["causes"]
    assert (cause["field"], cause["reason"]) == (field, reason)
    assert said in cause["message"]


async def test_a_change_is_held_to_the_definition_too(api: Api) -> None:
    place = PLACES["ScaledObject"]
    assert (await api.post(place, json=SCALED)).status == 201
    answer = await api.patch(f"{place}/web", json={"spec": {"pollingInterval": "15"}}, headers=MERGE)
    assert answer.status == 422
    answer = await api.patch(f"{place}/web", json={"spec": {"pollingInterval": 15}}, headers=MERGE)
    assert answer.status == 200
    status = {"status": {"anything": [1]}}
    answer = await api.patch(f"{place}/web/status", json=status, headers=MERGE)
    assert (answer.status, (await answer.json())["status"]) == (200, status["status"])


async def test_items_of_a_list_belong_to_who_applied_them_where_the_definition_gives_them_a_key(api: Api) -> None:
    head = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "web"}}
    for name in ("one", "two"):
        rules = {**head, "spec": {"groups": [{"name": name}]}}
        query = {"fieldManager": name, "fieldValidation": "Strict"}
        answer = await api.patch(f"{PLACES['PrometheusRule']}/web", json=rules, params=query, headers=APPLY)
    assert (await answer.json())["spec"]["groups"] == [{"name": "two"}, {"name": "one"}]


async def test_a_definition_is_shown_with_what_is_known_of_it(api: Api) -> None:
    async def schema_of(name: str) -> Any:
        answer = await api.get(f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        [version] = (await answer.json())["spec"]["versions"]
        return version["schema"]["openAPIV3Schema"]

    spec = (await schema_of("scaledobjects.keda.sh"))["properties"]["spec"]
    assert spec["required"] == ["scaleTargetRef", "triggers"]
    assert await schema_of("clusterissuers.cert-manager.io") == {"type": "object", custom.OPEN: True}
