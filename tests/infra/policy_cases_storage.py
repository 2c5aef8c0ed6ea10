"""Cases of the rules of stores and of what may leave them."""

from __future__ import annotations

import json
from typing import Any

from infra.policies.declared import UNKNOWN, Declared
from infra.policies.residency import LEAVES_TAG, REPLICATION
from infra.policies.statements import BUCKET_POLICY, ROLE
from infra.policies.storage import (
    ACCESS_BLOCK,
    AWS_PROVIDER,
    BLOCKS,
    BUCKET,
    ENCRYPTION,
    LOCK,
    VERSIONING,
)
from infra.residency import TAG
from tests.infra.policy_case import cases, joined, made, stack

LAB, PROD = "storage-private.lab", "storage-private.prod"
MODELS, EVENTS, RAW, SIGNALS = "items+models", "pseudonymised-events", "raw-events", "signals"


def bucket(where: str = PROD, holds: str = MODELS, **more: Any) -> Declared:
    return made(where, BUCKET, "models", {"bucket": UNKNOWN, "tags": {TAG: holds}}, **more)


def about(held: Declared, kind: str, inputs: dict[str, Any]) -> Declared:
    """A setting of the bucket, whose name is not known yet."""
    name = f"models-{kind.rpartition(':')[2]}"
    return made(held.stack, kind, name, {"bucket": UNKNOWN, **inputs}, depends_on=frozenset({held.urn}))


def with_setting(kind: str, inputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    held = bucket(**more)
    return stack(held.stack, held, about(held, kind, inputs))


def two_buckets(kind: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Two buckets, of which only the other has the setting."""
    held = bucket()
    other = made(PROD, BUCKET, "events", {"bucket": UNKNOWN})
    setting = made(PROD, kind, "events-setting", {"bucket": UNKNOWN, **inputs}, depends_on=frozenset({other.urn}))
    return stack(PROD, held, other, setting)


def named(kind: str, inputs: dict[str, Any], *, bucket_name: str) -> dict[str, Any]:
    held = made(PROD, BUCKET, "models", {"bucket": "models-1234567"})
    return stack(PROD, held, made(PROD, kind, "setting", {"bucket": bucket_name, **inputs}))


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"policy": json.dumps({"Version": "2012-10-17", "Statement": list(statements)})}


def allow(**more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/drain/*", **more}


OPEN = dict.fromkeys(BLOCKS, True)
FROM = {"IpAddress": {"aws:SourceIp": ["15.177.0.0/18"]}}
PLAIN = {
    "Effect": "Deny",
    "Principal": {"AWS": "*"},
    "Action": "s3:*",
    "Resource": ["arn:aws:s3:::b", "arn:aws:s3:::b/*"],
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}
KMS = {"rules": [{"applyServerSideEncryptionByDefault": {"sseAlgorithm": "aws:kms", "kmsMasterKeyId": UNKNOWN}}]}
ENABLED = {"versioningConfiguration": {"status": "Enabled"}}
DAYS = {"rule": {"defaultRetention": {"mode": "GOVERNANCE", "days": 30}}}


def over_http(url: str) -> dict[str, Any]:
    provider = made(PROD, AWS_PROVIDER, "aws", {"endpoints": json.dumps([{"s3": url}])})
    return stack(PROD, provider, bucket(provider=f"{provider.urn}::id"))


def bucket_policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return with_setting(BUCKET_POLICY, policy(*statements))


STORAGE = joined(
    cases(
        "public-access-blocked",
        ("no block", stack(PROD, bucket()), "red", "not set"),
        ("one part off", with_setting(ACCESS_BLOCK, {**OPEN, "restrictPublicBuckets": False}), "red", "set otherwise"),
        ("a part left out", with_setting(ACCESS_BLOCK, {"blockPublicAcls": True}), "red", "set otherwise"),
        ("a block of the other bucket", two_buckets(ACCESS_BLOCK, OPEN), "red", "not set"),
        ("a block of another name", named(ACCESS_BLOCK, OPEN, bucket_name="other"), "red", "not set"),
        ("all four", with_setting(ACCESS_BLOCK, OPEN), "green"),
        ("all four, by name", named(ACCESS_BLOCK, OPEN, bucket_name="models-1234567"), "green"),
        ("one not known", with_setting(ACCESS_BLOCK, {**OPEN, "blockPublicAcls": UNKNOWN}), "open"),
    ),
    cases(
        "no-public-principal",
        ("everybody reads all", bucket_policy(allow(Resource="*", Condition=FROM)), "red", "Principal *"),
        ("everybody from everywhere", bucket_policy(allow()), "red", "aws:SourceIp"),
        (
            "a network as wide as the world",
            bucket_policy(allow(Condition={"IpAddress": {"aws:SourceIp": ["0.0.0.0/0"]}})),
            "red",
            "Principal *",
        ),
        ("everybody writes marks", bucket_policy(allow(Action="s3:PutObject", Condition=FROM)), "red", "PutObject"),
        ("everybody but one", bucket_policy({"Effect": "Allow", "NotPrincipal": {"AWS": "x"}}), "red", "Principal *"),
        (
            "a role for everybody",
            stack(PROD, made(PROD, ROLE, "r", {"assumeRolePolicy": policy(allow(Action="sts:AssumeRole"))["policy"]})),
            "red",
            "sts:AssumeRole",
        ),
        ("marks from listed networks", bucket_policy(allow(Condition=FROM)), "green"),
        (
            "a named account",
            bucket_policy(allow(Principal={"AWS": "arn:aws:iam::111122223333:root"}, Resource="*")),
            "green",
        ),
        (
            "anybody of one account",
            bucket_policy(
                allow(Resource="*", Condition={"StringEquals": {"AWS:PrincipalAccount": "111122223333"}}),
            ),
            "green",
        ),
        ("a text that is not known", with_setting(BUCKET_POLICY, {"policy": UNKNOWN}), "open"),
    ),
    cases(
        "bucket-encrypted",
        ("nothing said", stack(PROD, bucket()), "red", "not set"),
        ("another word", with_setting(ENCRYPTION, {"rules": [{}]}), "red", "set otherwise"),
        ("under a key", with_setting(ENCRYPTION, KMS), "green"),
        ("rules not known", with_setting(ENCRYPTION, {"rules": UNKNOWN}), "open"),
    ),
    cases(
        "bucket-versioned",
        (
            "suspended",
            with_setting(VERSIONING, {"versioningConfiguration": {"status": "Suspended"}}),
            "red",
            "otherwise",
        ),
        ("nothing said", stack(PROD, bucket()), "red", "not set"),
        ("enabled", with_setting(VERSIONING, ENABLED), "green"),
        ("signals need none", stack(PROD, bucket(holds=SIGNALS)), "green"),
        ("not known", with_setting(VERSIONING, {"versioningConfiguration": {"status": UNKNOWN}}), "open"),
    ),
    cases(
        "tls-only",
        ("no policy", stack(PROD, bucket()), "red", "is not set"),
        ("a policy without", bucket_policy(allow(Condition=FROM)), "red", "lets requests without TLS in"),
        ("a store in the clear", over_http("http://192.0.2.1:9000"), "red", "in the clear"),
        ("refused", bucket_policy(allow(Condition=FROM), PLAIN), "green"),
        ("loopback has no TLS", over_http("http://127.10.0.2:9000"), "green"),
        ("a text that is not known", with_setting(BUCKET_POLICY, {"policy": UNKNOWN}), "open"),
    ),
    cases(
        "bucket-classified",
        ("no tag", stack(PROD, made(PROD, BUCKET, "b", {})), "red", "None"),
        ("a word of its own", stack(PROD, bucket(holds="things")), "red", "things"),
        ("two classes", stack(PROD, bucket()), "green"),
        ("not known", stack(PROD, bucket(holds=UNKNOWN)), "open"),
    ),
    cases(
        "objects-locked",
        ("a backup of events", stack(PROD, bucket(holds="backups+pseudonymised-events")), "red", "not set"),
        ("no lock", stack(PROD, bucket()), "red", "not set"),
        ("no retention", with_setting(LOCK, {"objectLockEnabled": "Enabled"}), "red", "without a default retention"),
        ("thirty days", with_setting(LOCK, DAYS), "green"),
        ("not in the lab", stack(LAB, bucket(LAB)), "green"),
        ("not for events", stack(PROD, bucket(holds=EVENTS)), "green"),
        ("not known", with_setting(LOCK, {"rule": UNKNOWN}), "open"),
    ),
)


def events(kind: str, inputs: dict[str, Any], **tags: Any) -> dict[str, Any]:
    held = made(PROD, BUCKET, "models", {"bucket": UNKNOWN, "tags": {TAG: RAW, **tags}})
    return stack(PROD, held, about(held, kind, inputs))


REPLICATED = {"role": UNKNOWN, "rules": [{"status": "Enabled", "destination": {"bucket": UNKNOWN}}]}
OTHERS = policy({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::444455556666:root"}, "Action": "s3:GetObject"})
LOGS = policy({"Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject"})
RESIDENCY = cases(
    "raw-events-stay",
    ("replicated", events(REPLICATION, REPLICATED), "red", "replicates"),
    ("open to an account", events(BUCKET_POLICY, OTHERS), "red", "444455556666"),
    ("backed up", stack(PROD, bucket(holds="backups+raw-events")), "red", "a backup of raw events"),
    ("kept", events(BUCKET_POLICY, policy(PLAIN)), "green"),
    ("logged", events(BUCKET_POLICY, LOGS), "green"),
    ("a rule that is off", events(REPLICATION, {"rules": [{"status": "Disabled"}]}), "green"),
    ("said to leave", events(REPLICATION, REPLICATED, **{LEAVES_TAG: "true"}), "green"),
    ("pseudonymised", events(REPLICATION, REPLICATED, **{TAG: EVENTS}), "green"),
    ("models", with_setting(REPLICATION, REPLICATED), "green"),
    ("a text that is not known", events(BUCKET_POLICY, {"policy": UNKNOWN}), "open"),
    ("a class not known", events(REPLICATION, REPLICATED, **{TAG: UNKNOWN}), "open"),
    ("tags not known", events(REPLICATION, REPLICATED, **{LEAVES_TAG: UNKNOWN}), "open"),
)


CASES = [*STORAGE, *RESIDENCY]
