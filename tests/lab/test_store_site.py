"""A site's object store: its own process, its own state."""

from __future__ import annotations

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from lab import control
from lab.members import table
from lab.process import alive, stop, wait_until
from lab.state import LabState, Plan
from lab.topology import Topology

pytestmark = pytest.mark.live

TOPOLOGY = Topology.in_blocks({"private": ("private", "127.77"), "other": ("private", "127.76")}, shared_block="127.77")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("stores")
    stores = tuple(one for one in table(TOPOLOGY, checkers=1, clock_factor=1.0) if one.module == "lab.aws.store")
    control.up(home, Plan(TOPOLOGY, stores))
    yield home
    control.down(home)


@pytest.fixture
def client():
    made = []

    def make(site):
        one = boto3.client(
            "s3",
            endpoint_url=TOPOLOGY.site(site).store_url,
            region_name="eu-central-1",
            aws_access_key_id="lab",
            aws_secret_access_key="lab",
            config=Config(retries={"total_max_attempts": 1}),
        )
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def test_each_site_has_a_store_of_its_own_and_losing_one_loses_only_that(lab, client) -> None:
    first, second = client("private"), client("other")
    first.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    first.put_bucket_versioning(Bucket="models", VersioningConfiguration={"Status": "Enabled"})
    body = b"model" * 100_000
    put = first.put_object(Bucket="models", Key="models/recommender/a/model.onnx", Body=body, IfNoneMatch="*")
    assert put["VersionId"]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        first.put_object(Bucket="models", Key="models/recommender/a/model.onnx", Body=b"x", IfNoneMatch="*")
    assert first.get_object(Bucket="models", Key="models/recommender/a/model.onnx")["Body"].read() == body
    assert second.list_buckets()["Buckets"] == []
    second.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    member = LabState.read(lab).members["store-other"]
    assert stop(member.pid, member.started, grace_seconds=5)
    assert wait_until(lambda: not alive(member.pid, member.started), 30)
    with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
        second.list_buckets()
    assert [bucket["Name"] for bucket in first.list_buckets()["Buckets"]] == ["models"]
