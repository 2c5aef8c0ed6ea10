"""Model, event and signal stores: what is declared around a bucket."""

from __future__ import annotations

import json
from typing import Any

import pulumi
import pytest

from infra.bucket import BucketArgs
from infra.event_store import EventStore
from infra.model_store import ModelStore
from infra.signal_store import SignalStore, SignalStoreArgs
from tests.infra.recording import Graph, run

STORES = pytest.mark.parametrize(
    ("store", "role"), [(ModelStore, "models"), (EventStore, "events")], ids=["models", "events"]
)


def graph_of(store: type[ModelStore | EventStore], **args: bool) -> Graph:
    return run(lambda: store("private", BucketArgs(**args, tags={"tandem.io/site": "private"})).bucket)


@STORES
def test_every_version_is_kept_and_nothing_is_public(store: type[ModelStore | EventStore], role: str) -> None:
    graph = graph_of(store)
    bucket = f"private-{role}-1234567"
    assert graph.one("BucketVersioning")["versioningConfiguration"] == {"status": "Enabled"}
    assert graph.one("BucketPublicAccessBlock") == {
        "bucket": bucket,
        "blockPublicAcls": True,
        "blockPublicPolicy": True,
        "ignorePublicAcls": True,
        "restrictPublicBuckets": True,
    }
    assert graph.one("BucketOwnershipControls")["rule"] == {"objectOwnership": "BucketOwnerEnforced"}
    assert graph.result == bucket


@STORES
def test_each_store_encrypts_under_a_rotated_key_of_its_own(store: type[ModelStore | EventStore], role: str) -> None:
    graph = graph_of(store)
    [rule] = graph.one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"]["sseAlgorithm"] == "aws:kms"
    assert rule["applyServerSideEncryptionByDefault"]["kmsMasterKeyId"] == f"arn:aws:kms:::key/private-{role}-key"
    assert graph.one("Key")["enableKeyRotation"] is True


def test_a_store_without_a_key_service_still_encrypts() -> None:
    graph = graph_of(ModelStore, own_key=False)
    [rule] = graph.one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    assert not graph.of("Key")


@pytest.mark.parametrize("protect", [True, False], ids=["protected", "not protected"])
def test_bucket_and_key_are_protected_as_asked(protect: bool) -> None:
    graph = graph_of(ModelStore, protect=protect)
    assert graph.request("Bucket", "private-models").protect is protect
    assert graph.request("Key", "private-models-key").protect is protect


def test_a_bucket_is_not_emptied_on_deletion_unless_asked() -> None:
    assert graph_of(ModelStore).one("Bucket")["forceDestroy"] is False


def test_children_stay_under_the_store_whatever_parent_the_caller_gives() -> None:
    class Outer(pulumi.ComponentResource):
        def __init__(self) -> None:
            super().__init__("tandem:test:Outer", "outer")
            ModelStore("private", BucketArgs(), pulumi.ResourceOptions(parent=self))
            self.register_outputs({})

    graph = run(lambda: Outer().urn)
    assert graph.without_parent() == set()
    assert graph.request("Bucket", "private-models").parent.endswith("tandem:model_store:ModelStore::private")


def signals(endpoint: str = "", **bucket: bool) -> Graph:
    args = SignalStoreArgs(
        bucket=BucketArgs(**bucket),
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
    graph = signals(own_key=True)
    [rule] = graph.one("BucketServerSideEncryptionConfiguration")["rules"]
    assert rule["applyServerSideEncryptionByDefault"] == {"sseAlgorithm": "AES256"}
    assert not graph.of("Key")
    assert not graph.of("BucketVersioning")
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
