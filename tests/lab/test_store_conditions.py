"""What locks and drain marks rest on: conditional writes, reading without credentials, bucket policies."""

from __future__ import annotations

import concurrent.futures
import json
import urllib.error
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lab import control
from lab.aws.store import KeyLocks
from lab.members import table
from lab.state import Plan
from lab.topology import Topology

pytestmark = pytest.mark.live

TOPOLOGY = Topology.in_blocks({"private": ("private", "127.77")}, shared_block="127.77")
URL = TOPOLOGY.site("private").store_url
WRITERS = 8
ROUNDS = 10


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("store")
    stores = tuple(one for one in table(TOPOLOGY, checkers=1, clock_factor=1.0) if one.module == "lab.aws.store")
    control.up(home, Plan(TOPOLOGY, stores))
    yield home
    control.down(home)


@pytest.fixture(scope="module")
def s3(lab):
    client = boto3.client(
        "s3",
        endpoint_url=URL,
        region_name="eu-central-1",
        aws_access_key_id="lab",
        aws_secret_access_key="lab",
        config=Config(retries={"total_max_attempts": 1}, max_pool_connections=WRITERS),
    )
    yield client
    client.close()


@pytest.fixture(params=["versioned", "plain"])
def bucket(s3, request):
    name = f"signals-{abs(hash(request.node.name))}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    if request.param == "versioned":
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def refused(status, call, **arguments) -> bool:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    return True


def anonymous(bucket, key, method="GET"):
    request = urllib.request.Request(f"{URL}/{bucket}/{key}", method=method)  # noqa: S310  # the store of this test
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, b""


def policy(bucket, *, principal="*", key="drain/*"):
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/{key}",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_lock_is_taken_once_renewed_by_its_holder_and_released_by_its_holder(s3, bucket) -> None:
    lock = {"Bucket": bucket, "Key": "locks/environment"}
    first = s3.put_object(**lock, Body=b"one", IfNoneMatch="*")["ETag"]
    assert refused(412, s3.put_object, **lock, Body=b"two", IfNoneMatch="*")
    renewed = s3.put_object(**lock, Body=b"one, later", IfMatch=first)["ETag"]
    assert refused(412, s3.put_object, **lock, Body=b"two", IfMatch=first)
    assert refused(412, s3.delete_object, **lock, IfMatch=first)
    assert s3.get_object(**lock)["Body"].read() == b"one, later"
    s3.delete_object(**lock, IfMatch=renewed)
    assert refused(404, s3.get_object, **lock)
    s3.put_object(**lock, Body=b"two", IfNoneMatch="*")


def test_a_condition_on_what_is_not_there_is_not_found(s3, bucket) -> None:
    lock = {"Bucket": bucket, "Key": "locks/environment"}
    tag = s3.put_object(**lock, Body=b"one")["ETag"]
    s3.delete_object(**lock)
    for missing in (lock, {"Bucket": bucket, "Key": "locks/never"}):
        assert refused(404, s3.put_object, **missing, Body=b"x", IfMatch=tag)
        assert refused(404, s3.delete_object, **missing, IfMatch=tag)
        assert refused(404, s3.delete_object, **missing, IfMatch="*")


def test_an_asterisk_deletes_whatever_is_there(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="drain/private", Body=b"mark")
    s3.delete_object(Bucket=bucket, Key="drain/private", IfMatch="*")
    assert refused(404, s3.head_object, Bucket=bucket, Key="drain/private")


def test_of_many_writers_at_once_one_wins(s3, bucket) -> None:
    def wins(call, **arguments) -> bool:
        try:
            call(Bucket=bucket, **arguments)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 412):
                raise
            return False
        return True

    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:

        def race(call, arguments) -> int:
            return sum(pool.map(lambda one: wins(call, **one), arguments))

        for number in range(ROUNDS):
            bodies = [{"Key": f"locks/{number}", "Body": f"writer {one}".encode()} for one in range(WRITERS)]
            assert race(s3.put_object, [{**body, "IfNoneMatch": "*"} for body in bodies]) == 1
            tag = s3.head_object(Bucket=bucket, Key=f"locks/{number}")["ETag"]
            renewals = [{**body, "Body": body["Body"] + b" again", "IfMatch": tag} for body in bodies]
            assert race(s3.put_object, renewals) == 1
            tag = s3.head_object(Bucket=bucket, Key=f"locks/{number}")["ETag"]
            assert race(s3.delete_object, [{"Key": f"locks/{number}", "IfMatch": tag}] * WRITERS) == 1


def test_a_key_has_one_writer_at_a_time_and_other_keys_do_not_wait() -> None:
    locks, order = KeyLocks(), []

    def second() -> None:
        with locks.only("a"):
            order.append("second")

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with locks.only("a"):
            waiting = pool.submit(second)
            with locks.only("b"):
                order.append("first")
            assert concurrent.futures.wait([waiting], timeout=0.1).not_done
        waiting.result(timeout=30)
    assert order == ["first", "second"]


def test_a_mark_is_read_without_credentials_where_the_policy_says_so_and_nowhere_else(s3, bucket) -> None:
    for key in ("drain/private", "locks/environment"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert anonymous(bucket, "drain/private")[0] == 403
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    assert anonymous(bucket, "drain/private") == (200, b"drain/private")
    assert anonymous(bucket, "drain/private", "HEAD") == (200, b"")
    assert anonymous(bucket, "locks/environment", "HEAD")[0] == 403
    assert anonymous(bucket, "locks/environment")[0] == 403
    assert anonymous(bucket, "drain/public")[0] in (403, 404)
    s3.delete_object(Bucket=bucket, Key="drain/private")
    assert anonymous(bucket, "drain/private")[0] in (403, 404)


def test_a_policy_comes_back_as_it_was_put_and_goes(s3, bucket) -> None:
    assert refused(404, s3.get_bucket_policy, Bucket=bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    assert json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"]) == json.loads(policy(bucket))
    s3.put_object(Bucket=bucket, Key="drain/private", Body=b"mark")
    s3.delete_bucket_policy(Bucket=bucket)
    assert refused(404, s3.get_bucket_policy, Bucket=bucket)
    assert anonymous(bucket, "drain/private")[0] == 403


@pytest.mark.parametrize("broken", ["{no", "[]", "{}", '{"Statement": []}', " " * 20_481])
def test_a_broken_policy_is_refused_and_leaves_the_bucket_usable(s3, bucket, broken) -> None:
    with pytest.raises(ClientError, match="MalformedPolicy"):
        s3.put_bucket_policy(Bucket=bucket, Policy=broken)
    s3.put_object(Bucket=bucket, Key="drain/private", Body=b"mark")
    assert s3.get_object(Bucket=bucket, Key="drain/private")["Body"].read() == b"mark"


def block(s3, bucket, **settings) -> None:
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    configuration = {name: settings.get(name, False) for name in names}
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=configuration)


def test_a_public_policy_is_refused_where_these_are_blocked(s3, bucket) -> None:
    block(s3, bucket, BlockPublicPolicy=True)
    with pytest.raises(ClientError, match=r"AccessDenied.*BlockPublicPolicy"):
        s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket, principal={"AWS": "arn:aws:iam::123456789012:root"}))
    block(s3, bucket)
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))


def test_a_public_policy_opens_nothing_where_public_buckets_are_restricted(s3, bucket) -> None:
    s3.put_object(Bucket=bucket, Key="drain/private", Body=b"mark")
    s3.put_bucket_policy(Bucket=bucket, Policy=policy(bucket))
    block(s3, bucket, RestrictPublicBuckets=True)
    assert anonymous(bucket, "drain/private")[0] == 403
    assert s3.get_object(Bucket=bucket, Key="drain/private")["Body"].read() == b"mark"
    signed = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "drain/private"})
    with urllib.request.urlopen(signed, timeout=30) as answer:  # noqa: S310  # the store of this test
        assert answer.read() == b"mark"


def test_a_large_object_goes_through(s3, bucket) -> None:
    body = b"model" * 500_000
    s3.put_object(Bucket=bucket, Key="models/a", Body=body, IfNoneMatch="*")
    assert s3.get_object(Bucket=bucket, Key="models/a")["Body"].read() == body
