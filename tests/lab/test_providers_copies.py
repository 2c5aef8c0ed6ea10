"""Replication rules against the lab's own stores, which keep all of a rule and change a lock under objects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from aws_stage import served_api
from pulumi.runtime.proto import provider_pb2
from test_providers_protocol import Session, aws_settings, port

from lab.providers.aws.schema import schema_of

pytestmark = pytest.mark.live

__all__ = ["port"]

ADDRESS = "127.82.0.101"
NONE, SOME = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
TRUST = '{"Version": "2012-10-17", "Statement": []}'
DECLARED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("source", "s3/bucket:Bucket", {"forceDestroy": True, "objectLockEnabled": True}),
    ("target", "s3/bucket:Bucket", {"forceDestroy": True, "objectLockEnabled": True}),
    (
        "source-lock",
        "s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration",
        {"bucket": "$source.bucket", "rule": {"defaultRetention": {"mode": "GOVERNANCE", "days": 1}}},
    ),
    ("carrier", "iam/role:Role", {"assumeRolePolicy": TRUST}),
    (
        "source-copies",
        "s3/bucketReplicationConfig:BucketReplicationConfig",
        {
            "bucket": "$source.bucket",
            "role": "$carrier.arn",
            "rules": [
                {
                    "id": "replica",
                    "priority": 1,
                    "status": "Enabled",
                    "filter": {"prefix": ""},
                    "deleteMarkerReplication": {"status": "Enabled"},
                    "sourceSelectionCriteria": {"sseKmsEncryptedObjects": {"status": "Enabled"}},
                    "destination": {
                        "bucket": "$target.arn",
                        "encryptionConfiguration": {"replicaKmsKeyId": "arn:aws:kms:eu-west-1:123456789012:key/k"},
                        "metrics": {"status": "Enabled", "eventThreshold": {"minutes": 15}},
                        "replicationTime": {"status": "Enabled", "time": {"minutes": 15}},
                    },
                }
            ],
        },
    ),
)
LOCK = "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"
KINDS = {f"aws:{kind}" for _, kind, _ in DECLARED}
NAMES = [name for name, _, _ in DECLARED]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served_api(ADDRESS) as (_, url):
        yield url


@pytest.fixture(scope="module")
def session(port: int, url: str) -> Iterator[Session]:
    session = Session(port, "aws", aws_settings(url))
    yield session
    session.close()


@pytest.fixture(scope="module")
def program(session: Session) -> Any:
    from test_providers_types import Program

    class Copies(Program):
        DECLARED = DECLARED

    return Copies(session)


@pytest.fixture(scope="module")
def s3(url: str) -> Iterator[Any]:
    client = boto3.client(
        "s3", endpoint_url=url, region_name="eu-central-1", aws_access_key_id="lab", aws_secret_access_key="lab"
    )
    yield client
    client.close()


@pytest.mark.parametrize("name", NAMES)
def test_made_complete_unchanged_and_read_as_it_was_declared(session: Session, program: Any, name: str) -> None:
    made = program.made[name]
    assert not {output for output in schema_of(made.type).always if made.state.get(output) is None}
    assert session.diff(made, **program.declared(name)).changes == NONE
    identity, state, inputs = session.read(made)
    assert (identity, inputs, state.keys()) == (made.identity, made.inputs, made.state.keys())


def test_a_copy_that_is_switched_off_is_a_change_in_place(session: Session, program: Any) -> None:
    wanted = program.declared("source-copies")
    wanted["rules"][0]["status"] = "Disabled"
    answer = session.diff(program.made["source-copies"], **wanted)
    assert (answer.changes, list(answer.replaces)) == (SOME, [])


def test_a_bucket_of_another_lock_is_another_bucket(session: Session, program: Any) -> None:
    answer = session.diff(program.made["source"], **{**program.declared("source"), "objectLockEnabled": False})
    assert list(answer.replaces) == ["objectLockEnabled"]


@pytest.fixture
def locked(session: Session) -> tuple[Any, Any]:
    """A bucket of the test's own, with its lock."""
    bucket = session.up("aws:s3/bucket:Bucket", "own", forceDestroy=True, objectLockEnabled=True)
    retention = {"defaultRetention": {"mode": "GOVERNANCE", "days": 1}}
    return bucket, session.up(LOCK, "own-lock", bucket=bucket.state["bucket"], rule=retention)


def test_a_retention_changes_under_what_is_there_and_what_was_locked_goes_with_force(
    session: Session, locked: tuple[Any, Any], s3: Any
) -> None:
    made, lock = locked
    bucket = made.state["bucket"]
    s3.put_object(Bucket=bucket, Key="models/a", Body=b"1")
    session.update(lock, bucket=bucket, rule={"defaultRetention": {"mode": "GOVERNANCE", "days": 2}})
    kept = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]
    assert (kept["Mode"], kept["Days"]) == ("GOVERNANCE", 2)
    session.delete(lock)
    session.delete(made)
    assert bucket not in [each["Name"] for each in s3.list_buckets()["Buckets"]]
