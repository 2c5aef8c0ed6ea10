"""A record of another type or share is the same resource: one transaction, as the real provider makes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import grpc
import httpx
import pytest
from test_providers_protocol import Made, Session, aws_settings, port, refusal
from test_traffic_stack import url

from lab.providers.aws.provider import TYPES
from stacks.preview.aws_arguments import AWS
from stacks.preview.aws_conditions import condition

pytestmark = pytest.mark.live

__all__ = ["port", "url"]

RECORD = "aws:route53/record:Record"
SHARE: dict[str, Any] = {"setIdentifier": "public", "weightedRoutingPolicies": [{"weight": 10}]}
OTHERWISE = {
    # The real provider changes it in place and the association gets another id, which engines do not follow.
    ("aws:ec2/routeTableAssociation:RouteTableAssociation", "routeTableId")
}


@pytest.fixture(scope="module")
def session(port: int, url: str) -> Iterator[Session]:
    session = Session(port, "aws", aws_settings(url))
    yield session
    session.close()


@pytest.fixture
def zone(session: Session, request: pytest.FixtureRequest) -> Iterator[str]:
    made = session.up("aws:route53/zone:Zone", request.node.name[:40], name="changes.example", forceDestroy=True)
    yield made.identity
    session.delete(made)


def address(zone: str, **more: Any) -> dict[str, Any]:
    return {"zoneId": zone, "name": "api.changes.example", "type": "A", "ttl": 5, "records": ["127.20.0.10"], **more}


def standing(url: str, zone: str) -> set[tuple[str, str]]:
    """Type and set identifier of the records of the name."""
    keys: dict[str, Any] = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab", "region_name": "us-east-1"}
    client = boto3.client("route53", endpoint_url=url, **keys)
    found = client.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
    client.close()
    return {(each["Type"], each.get("SetIdentifier", "")) for each in found if each["Name"].startswith("api.")}


def writes(url: str) -> int:
    with httpx.Client(trust_env=False) as client:
        return len(client.get(f"{url}/tandem/requests", params={"writes": "true"}).json()["requests"])


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ({}, {"type": "CNAME", "records": ["edge.changes.example"]}, ("CNAME", "")),
        (SHARE, {**SHARE, "setIdentifier": "other"}, ("A", "other")),
        (SHARE, {}, ("A", "")),
        ({}, SHARE, ("A", "public")),
        (SHARE, {**SHARE, "type": "AAAA", "records": ["::1"]}, ("AAAA", "public")),
    ],
    ids=["type", "identifier", "weighted no more", "weighted from now on", "type of a share"],
)
def test_another_type_or_set_identifier_is_one_transaction_on_the_same_resource(
    session: Session, url: str, zone: str, before: dict[str, Any], after: dict[str, Any], left: tuple[str, str]
) -> None:
    made = session.up(RECORD, "r", **address(zone, **before))
    assert list(session.diff(made, **address(zone, **after)).replaces) == []
    renamed = {**address(zone, **before), "name": "other.changes.example"}
    assert list(session.diff(made, **renamed).replaces) == ["name"]
    so_far = writes(url)
    changed = session.update(made, **address(zone, **after))
    assert writes(url) == so_far + 1, "nobody is without an answer in between"
    assert standing(url, zone) == {left}
    identity, state, inputs = session.read(changed)
    assert identity == made.identity
    assert (state["type"], state.get("setIdentifier") or "") == left
    assert inputs == changed.inputs
    again = session.update(Made(made.type, made.name, made.identity, made.inputs, made.state), **address(zone, **after))
    assert again.state["type"] == left[0], "an `up` that died after the transaction goes on"
    session.delete(changed)
    assert standing(url, zone) == set()


def test_a_record_that_becomes_one_somebody_has_is_refused_and_stays(session: Session, url: str, zone: str) -> None:
    session.up(RECORD, "theirs", **address(zone, **{**SHARE, "setIdentifier": "theirs"}, healthCheckId=None))
    ours = session.up(RECORD, "ours", **address(zone, **SHARE))
    with pytest.raises(grpc.RpcError) as error:
        session.update(ours, **address(zone, **{**SHARE, "setIdentifier": "theirs"}))
    assert "InvalidChangeBatch" in refusal(error)
    assert standing(url, zone) == {("A", "public"), ("A", "theirs")}


@pytest.mark.parametrize("kind", sorted(TYPES), ids=lambda name: name.rpartition(":")[2])
def test_the_lab_and_the_preview_say_the_same_of_what_is_replaced(kind: str) -> None:
    lab, preview = TYPES[kind], AWS.get(kind)

    def named(path: str, roots: tuple[str, ...]) -> bool:
        return any(path == root or path.startswith(f"{root}.") or root.startswith(f"{path}.") for root in roots)

    if preview is None:
        return
    against = {path for path in lab.replace_on if named(path, preview.changeable)}
    against |= {path for path in lab.in_place if named(path, preview.fixed)}
    assert not {path for path in against if condition(kind, path) is None and (kind, path) not in OTHERWISE}
