"""Replication between the lab's stores: what moves, when, under which name, and what becomes of what cannot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import httpx
import pytest
from aws_stage import served
from botocore.config import Config
from botocore.exceptions import ClientError
from moto.s3.models import s3_backends

from lab.aws.bucket_policy import Facts, decide
from lab.aws.replication import DELAY_SECONDS
from lab.aws.server import ACCOUNT, moto_application
from lab.aws.store import Store, written

pytestmark = pytest.mark.live

HOST = "127.77.0.131"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/copies"
AWAY = "http://127.77.0.132:9"


class Stage:
    """A store that replicates into itself, as one in another process would be reached: by its URL."""

    def __init__(self, store: Store, url: str) -> None:
        self.store, self.url = store, url
        self.store.replicator._places = (url,)
        self.s3 = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}),
        )

    def close(self) -> None:
        self.s3.close()

    def bucket(self, name: str, *, versioned: bool = True) -> str:
        self.s3.create_bucket(Bucket=name)
        if versioned:
            self.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def rule(self, source: str, target: str, **changes: Any) -> None:
        rule: dict[str, Any] = {
            "ID": target,
            "Priority": 1,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Enabled"},
            "Destination": {"Bucket": f"arn:aws:s3:::{target}"},
        }
        self.rules(source, {**rule, **changes})

    def rules(self, source: str, *rules: dict[str, Any]) -> None:
        configuration: Any = {"Role": f"arn:aws:iam::{ACCOUNT}:role/copier", "Rules": list(rules)}
        self.s3.put_bucket_replication(Bucket=source, ReplicationConfiguration=configuration)

    def status(self, bucket: str, key: str, **more: str) -> str:
        return str(self.s3.head_object(Bucket=bucket, Key=key, **more).get("ReplicationStatus", ""))

    def settled(self, bucket: str, key: str) -> str:
        assert within(10, lambda: self.status(bucket, key) != "PENDING"), "still pending"
        return self.status(bucket, key)

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/tandem/replication", timeout=30).json()
        return found


def within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := true()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return held


@pytest.fixture(scope="module")
def moto() -> Any:
    """The application takes its time to load; its state is emptied for each test."""
    return moto_application()


@pytest.fixture
def stage(moto: Any) -> Iterator[Stage]:
    s3_backends.reset()
    store = Store(moto)
    with served(HOST, store) as url:
        staged = Stage(store, url)
        yield staged
        staged.close()


@pytest.fixture
def pair(stage: Stage) -> tuple[str, str]:
    source, target = stage.bucket("source"), stage.bucket("target")
    stage.rule(source, target)
    return source, target


def test_bytes_arrive_under_the_same_version_with_all_that_belongs_to_them(stage: Stage, pair: tuple[str, str]) -> None:
    put = stage.s3.put_object(
        Bucket="source", Key="models/a", Body=b"model", Metadata={"of": "x"}, Tagging="kind=a b", ContentType="text/x"
    )
    assert stage.status("source", "models/a") == "PENDING"
    assert stage.settled("source", "models/a") == "COMPLETED"
    copy = stage.s3.get_object(Bucket="target", Key="models/a", VersionId=put["VersionId"])
    assert copy["Body"].read() == b"model"
    assert (copy["Metadata"], copy["ContentType"], copy["ETag"]) == ({"of": "x"}, "text/x", put["ETag"])
    assert stage.s3.get_object_tagging(Bucket="target", Key="models/a")["TagSet"] == [{"Key": "kind", "Value": "a b"}]
    assert stage.status("target", "models/a") == "REPLICA"


def test_a_copy_does_not_come_before_its_delay_and_is_counted_until_it_does(stage: Stage, pair: Any) -> None:
    began = time.monotonic()
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    waiting = stage.report()
    assert waiting["pending"] == 1
    with pytest.raises(ClientError, match="404"):
        stage.s3.head_object(Bucket="target", Key="a")
    assert stage.settled("source", "a") == "COMPLETED"
    assert time.monotonic() - began >= DELAY_SECONDS
    assert stage.report() == {"pending": 0, "oldest_seconds": 0.0, "failed": {}}


def test_versions_of_one_key_arrive_in_the_order_they_were_written(stage: Stage, pair: Any) -> None:
    made = [stage.s3.put_object(Bucket="source", Key="a", Body=str(n).encode())["VersionId"] for n in range(5)]
    assert stage.settled("source", "a") == "COMPLETED"
    assert stage.s3.get_object(Bucket="target", Key="a")["Body"].read() == b"4"
    copies = stage.s3.list_object_versions(Bucket="target")["Versions"]
    assert {copy["VersionId"] for copy in copies} == set(made)


@pytest.mark.parametrize("told", ["Enabled", "Disabled"])
def test_a_deletion_goes_along_only_where_the_rule_says_so(stage: Stage, told: str) -> None:
    stage.bucket("source"), stage.bucket("target")
    stage.rule("source", "target", DeleteMarkerReplication={"Status": told})
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    stage.s3.put_object(Bucket="source", Key="b", Body=b"1")
    assert stage.settled("source", "b") == "COMPLETED"
    stage.s3.delete_object(Bucket="source", Key="a")
    stage.s3.delete_objects(Bucket="source", Delete={"Objects": [{"Key": "b"}]})
    stage.s3.put_object(Bucket="source", Key="c", Body=b"after it")
    assert stage.settled("source", "c") == "COMPLETED"
    markers = stage.s3.list_object_versions(Bucket="target").get("DeleteMarkers", [])
    ours = stage.s3.list_object_versions(Bucket="source")["DeleteMarkers"]
    expected = {(marker["Key"], marker["VersionId"]) for marker in ours} if told == "Enabled" else set()
    assert {(marker["Key"], marker["VersionId"]) for marker in markers} == expected


def test_the_deletion_of_one_version_stays_here(stage: Stage, pair: Any) -> None:
    put = stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert stage.settled("source", "a") == "COMPLETED"
    stage.s3.delete_object(Bucket="source", Key="a", VersionId=put["VersionId"])
    stage.s3.put_object(Bucket="source", Key="b", Body=b"after it")
    assert stage.settled("source", "b") == "COMPLETED"
    assert stage.s3.get_object(Bucket="target", Key="a")["Body"].read() == b"1"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"Status": "Disabled"}, "models/a"),
        ({"Filter": {"Prefix": "models/"}}, "events/a"),
        ({"Filter": {"Tag": {"Key": "kind", "Value": "model"}}}, "models/a"),
        ({"Filter": {"And": {"Prefix": "models/", "Tags": [{"Key": "kind", "Value": "model"}]}}}, "models/a"),
    ],
    ids=["switched off", "another prefix", "no such tag", "prefix without tag"],
)
def test_what_a_rule_does_not_name_has_no_status_and_no_copy(stage: Stage, changes: Any, key: str) -> None:
    stage.bucket("source"), stage.bucket("target")
    stage.rule("source", "target", **changes)
    stage.s3.put_object(Bucket="source", Key=key, Body=b"1")
    assert stage.status("source", key) == ""
    assert stage.report()["pending"] == 0


def test_what_a_rule_names_by_prefix_and_tag_is_copied(stage: Stage) -> None:
    stage.bucket("source"), stage.bucket("target")
    named = {"And": {"Prefix": "models/", "Tags": [{"Key": "kind", "Value": "model"}]}}
    stage.rule("source", "target", Filter=named)
    stage.s3.put_object(Bucket="source", Key="models/a", Body=b"1", Tagging="kind=model")
    assert stage.settled("source", "models/a") == "COMPLETED"


def test_objects_under_a_key_are_copied_only_where_they_are_selected_and_then_under_the_replicas_key(
    stage: Stage,
) -> None:
    stage.bucket("source"), stage.bucket("target")
    default: Any = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY + "-source"}
    rules: Any = {"Rules": [{"ApplyServerSideEncryptionByDefault": default}]}
    stage.s3.put_bucket_encryption(Bucket="source", ServerSideEncryptionConfiguration=rules)
    stage.rule("source", "target")
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert stage.status("source", "a") == ""
    stage.rule(
        "source",
        "target",
        SourceSelectionCriteria={"SseKmsEncryptedObjects": {"Status": "Enabled"}},
        Destination={"Bucket": "arn:aws:s3:::target", "EncryptionConfiguration": {"ReplicaKmsKeyID": KEY}},
    )
    stage.s3.put_object(Bucket="source", Key="b", Body=b"1")
    assert stage.settled("source", "b") == "COMPLETED"
    assert stage.s3.head_object(Bucket="target", Key="b")["SSEKMSKeyId"] == KEY


def test_a_lock_goes_along(stage: Stage) -> None:
    for name in ("source", "target"):
        stage.s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule: Any = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
    stage.s3.put_object_lock_configuration(Bucket="source", ObjectLockConfiguration=rule)
    stage.rule("source", "target")
    put = stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert stage.settled("source", "a") == "COMPLETED"
    ours, theirs = (stage.s3.head_object(Bucket=name, Key="a") for name in ("source", "target"))
    assert theirs["ObjectLockMode"] == "GOVERNANCE"
    assert theirs["ObjectLockRetainUntilDate"] == ours["ObjectLockRetainUntilDate"]
    with pytest.raises(ClientError, match="AccessDenied"):
        stage.s3.delete_object(Bucket="target", Key="a", VersionId=put["VersionId"])


def test_a_copy_is_not_copied_on(stage: Stage, pair: Any) -> None:
    stage.bucket("third")
    stage.rule("target", "third")
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert stage.settled("source", "a") == "COMPLETED"
    assert stage.report()["pending"] == 0
    assert stage.s3.list_objects_v2(Bucket="third")["KeyCount"] == 0


def test_what_was_there_before_the_rule_is_not_copied(stage: Stage) -> None:
    stage.bucket("source"), stage.bucket("target")
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    stage.rule("source", "target")
    assert (stage.status("source", "a"), stage.report()["pending"]) == ("", 0)


@pytest.mark.parametrize("wrong", ["missing", "unversioned"])
def test_what_a_destination_refuses_has_failed_is_counted_and_is_never_tried_again(stage: Stage, wrong: str) -> None:
    stage.bucket("source")
    if wrong == "unversioned":
        stage.bucket("target", versioned=False)
    stage.rule("source", "target")
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert stage.settled("source", "a") == "FAILED"
    assert stage.report()["failed"] == {"source target": 1}
    if wrong == "missing":
        stage.bucket("target")
    stage.s3.put_bucket_versioning(Bucket="target", VersioningConfiguration={"Status": "Enabled"})
    stage.s3.put_object(Bucket="source", Key="b", Body=b"later")
    assert stage.settled("source", "b") == "COMPLETED"
    assert stage.status("source", "a") == "FAILED"


def test_a_destination_that_is_away_keeps_it_pending_until_it_is_back(stage: Stage, pair: Any) -> None:
    stage.store.replicator._places = (AWAY,)
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert not within(1.0, lambda: stage.status("source", "a") != "PENDING")
    assert stage.report()["oldest_seconds"] >= 1.0
    stage.store.replicator._places = (stage.url,)
    assert stage.settled("source", "a") == "COMPLETED"


def test_with_two_destinations_it_has_failed_when_one_has(stage: Stage) -> None:
    stage.bucket("source"), stage.bucket("good")
    shared: dict[str, Any] = {
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "DeleteMarkerReplication": {"Status": "Disabled"},
    }
    stage.rules(
        "source",
        *(
            {**shared, "ID": name, "Priority": number, "Destination": {"Bucket": f"arn:aws:s3:::{name}"}}
            for number, name in enumerate(("good", "bad"), start=1)
        ),
    )
    stage.s3.put_object(Bucket="source", Key="a", Body=b"1")
    assert within(10, lambda: stage.report()["pending"] == 0)
    assert stage.status("source", "a") == "FAILED"
    assert stage.s3.get_object(Bucket="good", Key="a")["Body"].read() == b"1"


def test_the_rules_are_read_back_as_they_were_written(stage: Stage) -> None:
    stage.bucket("source"), stage.bucket("target")
    destination = {
        "Bucket": "arn:aws:s3:::target",
        "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": 15}},
        "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": 15}},
    }
    stage.rule("source", "target", Destination=destination)
    [rule] = stage.s3.get_bucket_replication(Bucket="source")["ReplicationConfiguration"]["Rules"]
    assert rule["Destination"] == destination
    assert rule["DeleteMarkerReplication"] == {"Status": "Enabled"}


@pytest.mark.parametrize(
    ("method", "key", "query", "expected"),
    [
        ("PUT", "a", {}, ["a"]),
        ("PUT", "a", {"tagging": [""]}, []),
        ("PUT", "a", {"uploadId": ["u"], "partNumber": ["1"]}, []),
        ("POST", "a", {"uploadId": ["u"]}, ["a"]),
        ("POST", "a", {"uploads": [""]}, []),
        ("DELETE", "a", {}, ["a"]),
        ("DELETE", "a", {"versionId": ["1"]}, []),
        ("PUT", None, {"policy": [""]}, []),
    ],
    ids=["object", "tags", "part", "last part", "first part", "deletion", "deletion of a version", "setting"],
)
def test_which_requests_write_a_version(method: str, key: str | None, query: Any, expected: list[str]) -> None:
    assert written(method, key, query, b"") == expected


def statement(effect: str, action: str, condition: Any = None) -> dict[str, Any]:
    said = {"Effect": effect, "Principal": "*", "Action": action, "Resource": "arn:aws:s3:::b/*"}
    return {**said, "Condition": condition} if condition else said


HEADER = "s3:x-amz-server-side-encryption"


@pytest.mark.parametrize(
    ("statements", "action", "headers", "verdict"),
    [
        ([statement("Deny", "s3:PutObject", {"Null": {HEADER: "false"}})], "s3:PutObject", {}, "NEUTRAL"),
        (
            [statement("Deny", "s3:PutObject", {"Null": {HEADER: "false"}})],
            "s3:PutObject",
            {"x-amz-server-side-encryption": "AES256"},
            "DENIED",
        ),
        (
            [statement("Deny", "s3:PutObject", {"Null": {HEADER: "false"}})],
            "s3:PutObject",
            {"x-amz-server-side-encryption": "aws:kms", "x-tandem-replica": "1"},
            "NEUTRAL",
        ),
        (
            [statement("Deny", "s3:*", {"Bool": {"aws:SecureTransport": "false"}})],
            "s3:GetObject",
            {},
            "DENIED",
        ),
        ([statement("Deny", "s3:*", {"StringEquals": {"aws:PrincipalAccount": "1"}})], "s3:GetObject", {}, "NEUTRAL"),
        ([statement("Deny", "s3:ReplicateDelete")], "s3:DeleteObject", {"x-tandem-replica": "1"}, "DENIED"),
        ([statement("Allow", "s3:GetObject", {"IpAddress": {"aws:SourceIp": "::"}})], "s3:HeadObject", {}, "PERMITTED"),
        ([{**statement("Allow", "s3:GetObject"), "Principal": {"AWS": "arn:x"}}], "s3:GetObject", {}, "NEUTRAL"),
        ([statement("Allow", "s3:GetObject"), statement("Deny", "s3:Get*")], "s3:GetObject", {}, "DENIED"),
    ],
    ids=[
        "no word of encryption",
        "an algorithm of the caller",
        "a copy's own key",
        "no TLS here",
        "whose account nobody knows",
        "a copied deletion",
        "addresses are not looked at",
        "a named principal",
        "a Deny wins",
    ],
)
def test_what_a_policy_says_of_a_request(statements: Any, action: str, headers: dict[str, str], verdict: str) -> None:
    assert decide({"Statement": statements}, action, "arn:aws:s3:::b/k", Facts(headers)).name == verdict
