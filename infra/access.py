"""What each identity may do with the stores: IAM policy documents, no wider than the calls that are made."""

from __future__ import annotations

from typing import Any, Final

MODEL_PREFIX: Final = "models/"
MARK_PREFIX: Final = "drain/"


def read_models(bucket_arn: str, key_arn: str = "", region: str = "") -> dict[str, Any]:
    """Fetch versions and tell a missing one from a forbidden one: for pods that serve."""
    return _policy(
        _allow("Fetch", ["s3:GetObject", "s3:GetObjectVersion"], f"{bucket_arn}/{MODEL_PREFIX}*"),
        _list(bucket_arn),
        *_key(["kms:Decrypt"], key_arn, bucket_arn, region),
    )


def publish_models(bucket_arn: str, key_arn: str = "", region: str = "") -> dict[str, Any]:
    """Add versions and read them back; never delete one: for whoever runs `tandem model publish`."""
    return _policy(
        _allow("Publish", ["s3:GetObject", "s3:PutObject"], f"{bucket_arn}/{MODEL_PREFIX}*"),
        _list(bucket_arn),
        *_key(["kms:Decrypt", "kms:GenerateDataKey"], key_arn, bucket_arn, region),
    )


def answer_users(bucket_arn: str, signal_arn: str, key_arn: str = "", region: str = "") -> dict[str, Any]:
    """Fetch versions, and look whether the site is drained: for gateways.

    With an identity, because S3 sees no address of theirs where their network has an endpoint of its own
    (https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-s3.html).
    """
    return _policy(
        _allow("Fetch", ["s3:GetObject", "s3:GetObjectVersion"], f"{bucket_arn}/{MODEL_PREFIX}*"),
        _allow("Look", ["s3:GetObject"], f"{signal_arn}/{MARK_PREFIX}*"),
        _list(bucket_arn, signal_arn),
        *_key(["kms:Decrypt"], key_arn, bucket_arn, region),
    )


def mark_drains(bucket_arn: str) -> dict[str, Any]:
    """Set drain marks and take them back: for an undo that stands in a site, and for `tandem site drain`.

    An undo sets none; it tries whether it could take one back on one that means nothing.
    """
    return _policy(
        _allow("Mark", ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], f"{bucket_arn}/{MARK_PREFIX}*"),
        _list(bucket_arn),
    )


def operate(bucket_arn: str) -> dict[str, Any]:
    """All of the signals: marks, the lock, snapshots, armed drills; for whoever runs `tandem up` and drills."""
    return _policy(
        _allow("Signals", ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"], f"{bucket_arn}/*"),
        _list(bucket_arn),
    )


def write_events(bucket_arn: str, key_arn: str = "", region: str = "") -> dict[str, Any]:
    """Add events and never read one: for whoever ships a site's behaviour into its store."""
    return _policy(
        _allow("Ship", ["s3:PutObject"], f"{bucket_arn}/*"),
        # A part of an upload is encrypted as the parts before it.
        *_key(["kms:Decrypt", "kms:GenerateDataKey"], key_arn, bucket_arn, region),
    )


def read_lag(regions: list[str]) -> dict[str, Any]:
    """Ask CloudWatch of these regions for single metrics, and list none: for the exporter of the copies' lag."""
    # It takes no narrower resource, and knows no condition on a metric's namespace
    # (https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html).
    statement = _allow("Lag", ["cloudwatch:GetMetricStatistics"], "*")
    return _policy({**statement, "Condition": {"StringEquals": {"aws:RequestedRegion": regions}}})


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _allow(name: str, actions: list[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resource}


def _list(*bucket_arns: str) -> dict[str, Any]:
    """Without it S3 answers 403 for an object that is not there; bound to a prefix it would not count for that."""
    return _allow("List", ["s3:ListBucket"], bucket_arns[0] if len(bucket_arns) == 1 else list(bucket_arns))


def _key(actions: list[str], key_arn: str, bucket_arn: str, region: str) -> list[dict[str, Any]]:
    """Use of the bucket's key through S3 and for this bucket alone; none where the store encrypts by itself."""
    if not key_arn:
        return []
    condition = {
        "StringEquals": {"kms:ViaService": f"s3.{region}.amazonaws.com", "kms:EncryptionContext:aws:s3:arn": bucket_arn}
    }
    return [{**_allow("Key", actions, key_arn), "Condition": condition}]
