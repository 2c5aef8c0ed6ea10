"""Helm releases in the lab: checked, recorded as Helm records them, upgraded, found again, forgotten."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from test_providers_kubernetes import Site, site
from test_providers_protocol import Session, port, refusal

from lab.providers.kubernetes.release import TYPE

pytestmark = pytest.mark.live

__all__ = ["port", "site"]

KEDA: dict[str, Any] = {
    "chart": "keda",
    "name": "keda",
    "namespace": "default",
    "version": "2.20.2",
    "repositoryOpts": {"repo": "https://kedacore.github.io/charts"},
    "values": {"operator": {"replicaCount": 2}},
}


@pytest.fixture
def session(port: int, site: Site) -> Iterator[Session]:
    session = Session(port, "kubernetes", {"kubeconfig": site.kubeconfig})
    yield session
    session.close()


def records(site: Site) -> dict[str, Any]:
    found = site.get("/api/v1/namespaces/default/secrets?labelSelector=owner%3Dhelm") or {}
    return {each["metadata"]["name"]: each for each in found["items"]}


def test_a_release_is_recorded_upgraded_found_again_and_forgotten(session: Session, site: Site) -> None:
    made = session.up(TYPE, "keda", **KEDA)
    assert made.identity == "default/keda"
    assert made.state["status"]["revision"] == 1
    [record] = records(site).values()
    assert record["type"] == "helm.sh/release.v1"
    assert json.loads(base64.b64decode(record["data"]["release"]))["version"] == "2.20.2"

    again = session.up(TYPE, "keda", **KEDA)
    assert again.state["status"]["revision"] == 1, "an interrupted create is found again"
    newer = session.update(made, **{**KEDA, "version": "2.20.3"})
    assert newer.state["status"] == {**made.state["status"], "version": "2.20.3", "revision": 2}
    assert list(records(site)) == ["sh.helm.release.v1.keda.v2"]
    identity, state, inputs = session.read(newer)
    assert (identity, state["version"], inputs["values"]) == ("default/keda", "2.20.3", KEDA["values"])

    session.delete(newer)
    assert records(site) == {}
    assert session.read(newer)[0] == ""
    session.delete(newer)


def test_a_preview_records_nothing(session: Session, site: Site) -> None:
    assert session.preview(TYPE, "keda", **KEDA)["chart"] == "keda"
    assert records(site) == {}


def test_a_change_upgrades_and_another_name_is_another_release(session: Session) -> None:
    made = session.up(TYPE, "keda", **KEDA)
    assert list(session.diff(made, **{**KEDA, "version": "2.20.3"}).replaces) == []
    assert list(session.diff(made, **{**KEDA, "name": "other"}).replaces) == ["name"]
    session.delete(made)


def test_somebody_elses_release_is_not_taken_over(session: Session) -> None:
    made = session.up(TYPE, "keda", **KEDA)
    with pytest.raises(grpc.RpcError) as error:
        session.up(TYPE, "mine", **KEDA)
    assert "belongs to somebody else" in refusal(error)
    session.delete(made)


def test_a_name_that_is_not_given_is_made_up_and_kept(session: Session) -> None:
    unnamed = {key: value for key, value in KEDA.items() if key not in ("name", "namespace")}
    checked, failures = session.check(TYPE, "keda", unnamed)
    assert not failures
    assert checked["name"].startswith("keda-")
    assert checked["namespace"] == "default"
    assert session.check(TYPE, "keda", unnamed, checked, seed=b"other")[0]["name"] == checked["name"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": ""}, "pin one"),
        ({"version": "^2.20"}, "pin one"),
        ({"version": "latest"}, "pin one"),
        ({"name": "Keda"}, "lower-case"),
        ({"name": "k" * 54}, "at most 53"),
        ({"chart": ""}, "chart is missing"),
        ({"repositoryOpts": {}}, "give its URL"),
        ({"values": "replicas: 2"}, "has to be an object"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_release_that_nobody_could_repeat_is_refused(session: Session, changed: dict[str, Any], said: str) -> None:
    _, [failure] = session.check(TYPE, "keda", {**KEDA, **changed})
    assert said in failure.reason


def test_a_release_in_a_namespace_that_is_not_there_says_so(session: Session) -> None:
    with pytest.raises(grpc.RpcError) as error:
        session.up(TYPE, "keda", **{**KEDA, "namespace": "nowhere"})
    assert "Release nowhere/keda" in refusal(error)
