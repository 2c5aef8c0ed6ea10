"""What every bucket refuses, whoever asks: no TLS, or an encryption of the caller's choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

ENCRYPTION_HEADERS: Final = {
    "NoAlgorithmOfTheCaller": "s3:x-amz-server-side-encryption",
    "NoKeyOfTheCaller": "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "NoKeyInTheRequest": "s3:x-amz-server-side-encryption-customer-algorithm",
}
"""Condition keys that are there when a request says how it wants to be encrypted, by the statement that refuses it."""


def arn(bucket: str) -> str:
    """A bucket's ARN, at AWS and at stores that speak like it."""
    return f"arn:aws:s3:::{bucket}"


def document(bucket_arn: str, own: Sequence[dict[str, Any]], *, tls: bool) -> str:
    """The policy as text."""
    return json.dumps({"Version": "2012-10-17", "Statement": [*own, *refusals(bucket_arn, tls=tls)]}, sort_keys=True)


def refusals(bucket_arn: str, *, tls: bool) -> list[dict[str, Any]]:
    """Statements every bucket has.

    What is put without a word is encrypted as the bucket says, so nothing is ever unencrypted. `aws:kms` without a key
    would mean a key that is not the bucket's, and a key named by mistake locks its readers out: no request says how.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/specifying-kms-encryption.html
    """
    objects = f"{bucket_arn}/*"
    made: list[dict[str, Any]] = []
    if tls:
        made.append(
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket_arn, objects],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        )
    made += [
        {
            "Sid": name,
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:PutObject",
            "Resource": objects,
            "Condition": {"Null": {header: "false"}},
        }
        for name, header in ENCRYPTION_HEADERS.items()
    ]
    return made
