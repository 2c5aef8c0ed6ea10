"""Model, event and signal stores: what is declared around a bucket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from infra.bucket import BucketArgs
from infra.bucket_key import document as key_document
from infra.bucket_life import Life, Lock
from infra.event_store import EventStore, EventStoreArgs
from infra.model_store import ModelStore
from infra.object_store import CEPH
from infra.signal_store import SignalStore, SignalStoreArgs
from tests.infra.recording import Graph, run

LIFE = Life(noncurrent_days=30, cold_days=90, expire_days=365)
LOCK = Lock(mode="governance", days=30)
NAMES = pytest.mark.parametrize("name", ["models", "events", "raw-events"])
CEPH_ARGS: Mapping[str, Any] = {"kind": CEPH}


def bucket_args(**changes: Any) -> BucketArgs:
    return BucketArgs(**{"region": "eu-central-1", "tags": {"tandem.io/site": "private"}, **changes})


def graph_of(**changes: Any) -> Graph:
    """Both stores of a site."""
    args = bucket_args(**changes)

    def declare() -> Any:
        EventStore("private", EventStoreArgs(bucket=args, life=LIFE, raw_life=Life(expire_days=30)))
        return ModelStore("private", args).bucket

    return run(declare)


@NAMES
def test_every_version_is_kept_and_nothing_is_public(name: str) -> None:
    graph = graph_of()
    bucket = f"private-{name}-1234567"
    assert graph.one("BucketVersioning", f"private-{name}-versioning")["versioningConfiguration"] == {
        "status": "Enabled"
    }
    assert graph.one("BucketPublicAccessBlock", f"private-{name}-access") == {
        "bucket": bucket,
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    owner = graph.one("BucketOwnershipControls", f"private-{name}-ownership")["rule"]
    assert owner == {"objectOwnership": "BucketOwnerEnforced"}
    assert graph.result == "private-models-1234567"


@NAMES
def test_each_store_encrypts_under_a_rotated_key_of_its_own(name: str) -> None:
    graph = graph_of()
    [rule] = graph.one("BucketServerSideEncryptionConfiguration", f"private-{name}-encryption")["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
    assert rule["applyServerSideEncryptionByDefault"]["kmsMasterKeyId"] == f"arn:aws:kms:::key/private-{name}-key"
    assert rule["bucketKeyEnabled"] is True
    assert graph.one("Key", f"private-{name}-key")["enableKeyRotation"] is True


def test_a_key_opens_objects_through_s3_only_and_its_administrators_read_nothing() -> None:
    said = json.loads(key_document("arn:aws:kms:eu-central-1:111122223333:key/k", "eu-central-1"))
    administration, use = said["Statement"]
    assert {one["Principal"]["AWS"] for one in said["Statement"]} == {"arn:aws:iam::111122223333:root"}
    assert not {"kms:Decrypt", "kms:Encrypt", "kms:*", "*"} & set(administration["Action"])
    assert "kms:Put*" in administration["Action"], "a key whose policy nobody may change is lost"
    assert use["Condition"] == {"StringEquals": {"kms:ViaService": "s3.eu-central-1.amazonaws.com"}}


@NAMES
def test_no_request_says_how_it_is_encrypted_and_none_comes_without_tls(name: str) -> None:
    policy = json.loads(graph_of().one("BucketPolicy", f"private-{name}-policy")["policy"])
    said = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert {(statement["Effect"], statement["Principal"]) for statement in said.values()} == {("Deny", "*")}
    tls = said.pop("TlsOnly")
    assert (tls["Action"], tls["Condition"]) == ("s3:*", {"Bool": {"aws:SecureTransport": "false"}})
    assert tls["Resource"] == [f"arn:aws:s3:::private-{name}-1234567", f"arn:aws:s3:::private-{name}-1234567/*"]
    assert {json.dumps(statement["Condition"]) for statement in said.values()} == {
        json.dumps({"Null": {f"s3:x-amz-server-side-encryption{end}": "false"}})
        for end in ("", "-aws-kms-key-id", "-customer-algorithm")
    }
    assert {statement["Action"] for statement in said.values()} == {"s3:PutObject"}


def test_a_store_that_speaks_no_tls_is_not_asked_for_it() -> None:
    policy = json.loads(graph_of(tls=False).one("BucketPolicy", "private-models-policy")["policy"])
    assert "TlsOnly" not in {statement["Sid"] for statement in policy["Statement"]}


def test_ceph_encrypts_by_itself_has_no_ownership_controls_and_moves_nothing() -> None:
    graph = graph_of(**CEPH_ARGS)
    [rule] = graph.one("BucketServerSideEncryptionConfiguration", "private-models-encryption")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    assert not graph.of("Key")
    assert not graph.of("BucketOwnershipControls")
    assert "seldom-read" not in life(graph, "events")
    assert graph.of("BucketPublicAccessBlock")


def life(graph: Graph, name: str) -> dict[str, dict[str, Any]]:
    rules = graph.one("BucketLifecycleConfiguration", f"private-{name}-life")["rules"]
    assert {rule["status"] for rule in rules} == {"Enabled"}
    return {rule["id"]: rule for rule in rules}


def test_events_get_cheaper_and_then_go_and_raw_ones_go_first() -> None:
    graph = graph_of()
    events, raw = life(graph, "events"), life(graph, "raw-events")
    assert events["seldom-read"]["transitions"] == [{"days": 90, "storageClass": "STANDARD_IA"}]
    assert events["expired"]["expiration"] == {"days": 365}
    assert raw["expired"]["expiration"] == {"days": 30}
    assert "seldom-read" not in raw


def test_models_never_expire_but_what_was_replaced_and_given_up_does() -> None:
    rules = life(graph_of(), "models")
    assert set(rules) == {"uploads-given-up", "noncurrent"}
    assert rules["noncurrent"]["noncurrentVersionExpiration"] == {"noncurrentDays": 30}
    assert rules["uploads-given-up"]["abortIncompleteMultipartUpload"] == {"daysAfterInitiation": 7}


def test_models_are_locked_from_the_start_and_what_names_persons_is_not() -> None:
    graph = graph_of(lock=LOCK)
    locks = graph.of("BucketObjectLockConfiguration")
    assert set(locks) == {"private-models-lock"}
    assert locks["private-models-lock"]["rule"] == {"defaultRetention": {"mode": "GOVERNANCE", "days": 30}}
    enabled = {name: state.get("objectLockEnabled") for name, state in graph.of("Bucket").items()}
    assert enabled == {"private-models": True, "private-events": None, "private-raw-events": None}
    waits = " ".join(graph.request("BucketObjectLockConfiguration", "private-models-lock").dependencies)
    assert "private-models-versioning" in waits


def test_a_lock_needs_versions() -> None:
    with pytest.raises(ValueError, match="object lock keeps versions"):
        bucket_args(lock=LOCK, versioned=False)


@pytest.mark.parametrize("protect", [True, False], ids=["protected", "not protected"])
def test_bucket_and_key_are_protected_as_asked(protect: bool) -> None:
    graph = graph_of(protect=protect)
    assert graph.request("Bucket", "private-models").protect is protect
    assert graph.request("Key", "private-models-key").protect is protect


def test_a_bucket_is_not_emptied_on_deletion_unless_asked() -> None:
    assert {state["forceDestroy"] for state in graph_of().of("Bucket").values()} == {False}


def test_children_stay_under_the_store_whatever_parent_the_caller_gives() -> None:
    class Outer(pulumi.ComponentResource):
        def __init__(self) -> None:
            super().__init__("tandem:test:Outer", "outer")
            ModelStore("private", bucket_args(), pulumi.ResourceOptions(parent=self))
            self.register_outputs({})

    graph = run(lambda: Outer().urn)
    assert graph.without_parent() == set()
    assert graph.request("Bucket", "private-models").parent.endswith("tandem:model_store:ModelStore::private")


def signals(endpoint: str = "", **bucket: Any) -> Graph:
    args = SignalStoreArgs(
        bucket=bucket_args(**{"tls": not endpoint.startswith("http:"), **bucket}),
        region="eu-central-1",
        endpoint=endpoint,
        open_keys="drain/*",
        reader_cidrs=("198.51.100.0/24", "192.0.2.0/24"),
    )
    return run(lambda: SignalStore("private", args).url)


def statements(graph: Graph) -> dict[str, dict[str, Any]]:
    policy = json.loads(graph.one("BucketPolicy")["policy"])
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def test_marks_are_open_to_listed_networks_and_nothing_else_is_open() -> None:
    graph = signals()
    opened = statements(graph)["OpenKeys"]
    assert (opened["Effect"], opened["Principal"], opened["Action"]) == ("Allow", "*", "s3:GetObject")
    assert opened["Resource"] == "arn:aws:s3:::private-signals-1234567/drain/*"
    assert opened["Condition"] == {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "198.51.100.0/24"]}}
    assert [each["Sid"] for each in statements(graph).values() if each["Effect"] == "Allow"] == ["OpenKeys"]
    block = graph.one("BucketPublicAccessBlock")
    assert all(block[flag] is True for flag in block if flag != "bucket")


def test_the_policy_comes_after_the_block_that_would_refuse_a_public_one() -> None:
    waits = " ".join(signals().request("BucketPolicy", "private-signals-policy").dependencies)
    assert "private-signals-access" in waits


def test_a_mark_can_be_read_without_a_key_service_and_has_no_versions() -> None:
    graph = signals(own_key=True, lock=LOCK)
    [rule] = graph.one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    assert not graph.of("Key")
    assert not graph.of("BucketVersioning")
    assert not graph.of("BucketObjectLockConfiguration")
    assert "noncurrent" not in life(graph, "signals")
    assert graph.request("Bucket", "private-signals").protect is True
    assert graph.without_parent() == set()


@pytest.mark.parametrize(
    ("endpoint", "url", "tls"),
    [
        ("", "https://private-signals-1234567.s3.eu-central-1.amazonaws.com", True),
        ("https://s3.example.com/", "https://s3.example.com/private-signals-1234567", True),
        ("http://192.0.2.2:9000", "http://192.0.2.2:9000/private-signals-1234567", False),
    ],
    ids=["AWS", "own store", "own store without TLS"],
)
def test_a_store_is_read_at_its_own_address_and_with_tls_where_it_speaks_it(endpoint: str, url: str, tls: bool) -> None:
    graph = signals(endpoint)
    assert graph.result == url
    assert ("TlsOnly" in statements(graph)) is tls
    if tls:
        refused = statements(graph)["TlsOnly"]
        assert (refused["Effect"], refused["Action"]) == ("Deny", "s3:*")
        assert refused["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
