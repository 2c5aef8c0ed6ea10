"""Rules of object stores and their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from infra import residency
from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.inputs import at, known, many, number, of_type, parsed, truth
from infra.policies.rule import PROD, Finding, resource_rule, stack_rule, unsure, wrong
from infra.policies.statements import BUCKET_POLICY, anybody, conditions, documents, statements
from infra.policies.statements import DOCUMENTS as ACCESS
from infra.residency import DataClass

BUCKET: Final = "aws:s3/bucket:Bucket"
ACCESS_BLOCK: Final = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
ENCRYPTION: Final = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
VERSIONING: Final = "aws:s3/bucketVersioning:BucketVersioning"
LOCK: Final = "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration"
AWS_PROVIDER: Final = "pulumi:providers:aws"
BLOCKS: Final = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
LOCKED: Final = frozenset({DataClass.MODELS, DataClass.BACKUPS})
FIXED: Final = (
    "aws:PrincipalAccount",
    "aws:PrincipalOrgID",
    "aws:ResourceAccount",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceOwner",
    "aws:SourceVpce",
    "kms:CallerAccount",
)
"""Condition keys that, bound to fixed values, make a policy for everybody one that is not public."""


def belongs(setting: Declared, bucket: Declared, stack: StackDeclared) -> bool:
    """Whether a bucket's setting is about this bucket: by name where both names are known, else by what it waits for.

    One that waits for several buckets is about the one whose logical name it begins with.
    """
    named, own = at(setting.inputs, "bucket"), at(bucket.inputs, "bucket")
    if known(named, own) and named and own:
        return bool(named == own)
    awaited = [one for one in of_type(stack, BUCKET) if one.urn in setting.depends_on]
    if bucket not in awaited:
        return False
    closest = [one for one in awaited if setting.name.startswith(one.name)]
    return len(awaited) == 1 or bucket in closest or not closest


def classes_of(bucket: Declared) -> frozenset[str] | None:
    """What may lie in a bucket, as its tag says; None where that is not known yet, nothing where it does not say."""
    said = at(bucket.inputs, "tags", residency.TAG)
    if said == UNKNOWN:
        return None
    try:
        return frozenset(residency.classes(str(said)))
    except residency.ResidencyError:
        return frozenset()


def settings_of(stack: StackDeclared, kind: str, bucket: Declared) -> list[Declared]:
    """The bucket's settings of this kind."""
    return [setting for setting in of_type(stack, kind) if belongs(setting, bucket, stack)]


def _each(
    stack: StackDeclared, kind: str, accepts: Callable[[Declared], bool | None], message: Callable[[str], str]
) -> Iterator[Finding]:
    """A finding for each bucket none of whose settings of this kind is accepted; None accepts what is not known yet."""
    for bucket in of_type(stack, BUCKET):
        verdicts = [accepts(setting) for setting in settings_of(stack, kind, bucket)]
        if True in verdicts:
            continue
        if None in verdicts:
            yield unsure(bucket, f"what {kind.rpartition(':')[2]} of {bucket.name} says")
        else:
            yield wrong(bucket, message("set otherwise" if verdicts else "not set"))


@stack_rule("public-access-blocked", "Every bucket has all four parts of S3's public access block switched on.")
def access_blocked(stack: StackDeclared) -> Iterator[Finding]:
    """Each of the four is true; one that is false leaves a way to make an object public."""

    def accepts(block: Declared) -> bool | None:
        values = [at(block.inputs, key) for key in BLOCKS]
        if all(truth(value) or value == UNKNOWN for value in values):
            return True if known(values) else None
        return False

    yield from _each(
        stack,
        ACCESS_BLOCK,
        accepts,
        lambda state: (
            f"its public access block is {state}; a bucket blocks and ignores public ACLs and policies: declare a"
            f" BucketPublicAccessBlock with {', '.join(BLOCKS)} true, or use infra.bucket.declare_bucket"
        ),
    )


@resource_rule(
    "no-public-principal",
    "A policy lets everybody in only to read drain marks, and only from listed networks no wider than /8.",
    *ACCESS,
)
def no_public_principal(resource: Declared) -> Iterator[Finding]:
    """S3 calls a policy public unless it is bound to fixed values; of addresses, to none wider than /8.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
    """
    for policy in documents(resource, ACCESS):
        if policy == UNKNOWN:
            if resource.type == BUCKET_POLICY:
                yield unsure(resource, "the policy's text")
            continue
        for statement in statements(policy, "Allow"):
            if anybody(statement) and not _marks_only(statement) and not _owner_only(statement):
                yield wrong(
                    resource,
                    f"statement {statement.get('Sid') or statement.get('Action')!r} allows Principal *; everybody may"
                    " only s3:GetObject below drain/ from the networks in an IpAddress condition on aws:SourceIp:"
                    " name the principals, or narrow action, resource and condition to that",
                )


def _marks_only(statement: Any) -> bool:
    networks = conditions(statement, "IpAddress", "aws:SourceIp")
    return (
        many(statement.get("Action")) == ["s3:GetObject"]
        and all("/drain/" in str(resource) for resource in many(statement.get("Resource")) or [""])
        and bool(networks)
        and all(_prefix(network) >= 8 for network in networks)
    )


def _owner_only(statement: Any) -> bool:
    """Whether a condition narrows everybody to one account, one organization, one endpoint or one resource."""
    return any(
        values and not any("*" in str(value) and ":" not in str(value) for value in values)
        for operator in ("StringEquals", "ArnEquals", "ArnLike", "StringLike")
        for key in FIXED
        if (values := conditions(statement, operator, key))
    )


def _prefix(network: Any) -> float:
    return number(str(network).partition("/")[2] or "32") or 0


@stack_rule("bucket-encrypted", "Every bucket encrypts what is put into it, under a KMS key or the store's own.")
def bucket_encrypted(stack: StackDeclared) -> Iterator[Finding]:
    """A default encryption stands; one for which a key is named has a key."""

    def accepts(setting: Declared) -> bool | None:
        if at(setting.inputs, "rules") == UNKNOWN:
            return None
        defaults = [at(rule, "applyServerSideEncryptionByDefault") for rule in many(at(setting.inputs, "rules"))]
        algorithms = [at(default, "sseAlgorithm") for default in defaults]
        return (
            None if UNKNOWN in algorithms else any(name in {"AES256", "aws:kms", "aws:kms:dsse"} for name in algorithms)
        )

    yield from _each(
        stack,
        ENCRYPTION,
        accepts,
        lambda state: (
            f"its default encryption is {state}; what is put without a header is encrypted too: declare a"
            " BucketServerSideEncryptionConfiguration with aws:kms, or AES256 where the store has no key service"
        ),
    )


@stack_rule(
    "bucket-versioned",
    "Every bucket keeps every version of an object; only the signal store does not, where a mark is there or is not.",
)
def bucket_versioned(stack: StackDeclared) -> Iterator[Finding]:
    """Versioning is Enabled; Suspended forgets what is overwritten."""

    def accepts(setting: Declared) -> bool | None:
        status = at(setting.inputs, "versioningConfiguration", "status")
        return None if status == UNKNOWN else status == "Enabled"

    signals = {bucket.urn for bucket in of_type(stack, BUCKET) if DataClass.SIGNALS in (classes_of(bucket) or ())}
    for found in _each(
        stack,
        VERSIONING,
        accepts,
        lambda state: (
            f"its versioning is {state}; what is overwritten or deleted by mistake has to be there still: declare a"
            " BucketVersioning with status Enabled"
        ),
    ):
        if found.urn not in signals:
            yield found


@stack_rule(
    "tls-only",
    "Every bucket has a policy that refuses requests without TLS; a store on loopback has no TLS to ask for.",
)
def tls_only(stack: StackDeclared) -> Iterator[Finding]:
    """A Deny for everybody on s3:* where aws:SecureTransport is false."""
    for bucket in of_type(stack, BUCKET):
        endpoint = _endpoint(bucket, stack)
        if endpoint.startswith("http:"):
            if not (urlsplit(endpoint).hostname or "").startswith("127."):
                yield wrong(
                    bucket,
                    f"its store is reached at {endpoint}; objects and keys cross a network in the clear there: name an"
                    " https endpoint in aws_endpoints",
                )
            continue
        policies = [
            found for policy in settings_of(stack, BUCKET_POLICY, bucket) for found in documents(policy, ACCESS)
        ]
        if any(policy != UNKNOWN and _refuses_plain(policy) for policy in policies):
            continue
        if UNKNOWN in policies:
            yield unsure(bucket, f"the text of the policy of {bucket.name}")
        else:
            yield wrong(
                bucket,
                f"its policy {'lets requests without TLS in' if policies else 'is not set'}; what crosses a network is"
                " encrypted: add a Deny for Principal * on s3:* under Bool aws:SecureTransport false",
            )


def _endpoint(bucket: Declared, stack: StackDeclared) -> str:
    """The store's URL; empty for AWS's own, which speaks TLS."""
    for provider in of_type(stack, AWS_PROVIDER):
        if bucket.provider.startswith(provider.urn):
            for entry in many(parsed(at(provider.inputs, "endpoints"))):
                url = at(entry, "s3")
                if isinstance(url, str) and url:
                    return url
    return ""


def _refuses_plain(policy: Any) -> bool:
    return any(
        anybody(statement)
        and bool({"s3:*", "*"} & set(many(statement.get("Action"))))
        and "false" in [str(value).lower() for value in conditions(statement, "Bool", "aws:SecureTransport")]
        for statement in statements(policy, "Deny")
    )


@resource_rule("bucket-classified", "Every bucket says in a tag which classes of data may lie in it.", BUCKET)
def bucket_classified(bucket: Declared) -> Iterator[Finding]:
    """What may leave a site and what is locked goes by it."""
    found = classes_of(bucket)
    if found is None:
        yield unsure(bucket, f"its tag {residency.TAG}")
    elif not found:
        yield wrong(
            bucket,
            f"{residency.TAG} is {at(bucket.inputs, 'tags', residency.TAG)}; what is copied and what is locked goes"
            f" by what lies in a bucket: name classes among {', '.join(DataClass)}",
        )


@stack_rule(
    "objects-locked",
    "Buckets of models and of backups lock what is written, so that no credential deletes it before its time.",
    only=PROD,
)
def objects_locked(stack: StackDeclared) -> Iterator[Finding]:
    """Object lock is on and has a default retention."""
    for bucket in of_type(stack, BUCKET):
        kinds = classes_of(bucket)
        if kinds is not None and not kinds & LOCKED:
            continue
        locks = settings_of(stack, LOCK, bucket)
        rules = [at(lock.inputs, "rule") for lock in locks]
        if UNKNOWN in rules:
            yield unsure(bucket, f"the retention of {bucket.name}")
            continue
        retained = any(
            number(at(rule, "defaultRetention", unit)) or at(rule, "defaultRetention", unit) == UNKNOWN
            for rule in rules
            for unit in ("days", "years")
        )
        if not retained:
            yield wrong(
                bucket,
                f"object lock is {'without a default retention' if locks else 'not set'}; a model or a backup outlives"
                " whoever can write to its bucket: declare a BucketObjectLockConfiguration with a defaultRetention",
            )


RULES: Final = (
    access_blocked,
    no_public_principal,
    bucket_encrypted,
    bucket_versioned,
    tls_only,
    bucket_classified,
    objects_locked,
)
