"""Model and event stores: what is declared around a bucket."""

from __future__ import annotations

import pulumi
import pytest

from infra.bucket import BucketArgs
from infra.event_store import EventStore
from infra.model_store import ModelStore
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
