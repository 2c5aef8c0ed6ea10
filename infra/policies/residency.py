"""Rules of what may leave its site."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from infra.policies.declared import UNKNOWN, StackDeclared
from infra.policies.inputs import at, many, of_type
from infra.policies.rule import Finding, stack_rule, unsure, wrong
from infra.policies.statements import BUCKET_POLICY, anybody, documents, statements
from infra.policies.statements import DOCUMENTS as ACCESS
from infra.policies.storage import BUCKET, classes_of, settings_of
from infra.residency import BOUND, DataClass

REPLICATION: Final = "aws:s3/bucketReplicationConfig:BucketReplicationConfig"
LEAVES_TAG: Final = "tandem.io/may-leave-site"
"""Tag of a bucket whose data may leave the site: the trace of the setting that says so."""


@stack_rule(
    "raw-events-stay",
    "Raw events stay at their site: their bucket is not replicated and lets nobody else in, unless a setting says so.",
)
def raw_events_stay(stack: StackDeclared) -> Iterator[Finding]:
    """A setting shows as the tag tandem.io/may-leave-site: true on the bucket."""
    for bucket in of_type(stack, BUCKET):
        may_leave, kinds = at(bucket.inputs, "tags", LEAVES_TAG), classes_of(bucket)
        if may_leave == "true" or (kinds is not None and not kinds & BOUND):
            continue
        if may_leave == UNKNOWN or kinds is None:
            yield unsure(bucket, "its tags")
            continue
        if DataClass.BACKUPS in kinds:
            yield wrong(
                bucket,
                "it is a backup of raw events; they do not leave their site and go when their time is over: back up the"
                " pseudonymised ones",
            )
        for replication in settings_of(stack, REPLICATION, bucket):
            if any(at(rule, "status") != "Disabled" for rule in many(at(replication.inputs, "rules"))):
                yield wrong(
                    replication,
                    f"it replicates {bucket.name}, which holds raw events; they do not leave their site: replicate the"
                    " pseudonymised ones, or say in the residency setting that these may leave",
                )
        for policy in settings_of(stack, BUCKET_POLICY, bucket):
            for text in documents(policy, ACCESS):
                if text == UNKNOWN:
                    yield unsure(policy, f"who else reads {bucket.name}")
                    continue
                for statement in statements(text, "Allow"):
                    if _others(statement):
                        yield wrong(
                            policy,
                            f"statement {statement.get('Sid') or many(statement.get('Action'))!r} lets"
                            f" {statement.get('Principal')} into raw events; who reads them has a role of their site:"
                            " take the statement out, or say in the residency setting that they may leave",
                        )


def _others(statement: Any) -> bool:
    """Whether the statement lets anybody in but services of the cloud; the site's own roles need none."""
    principal = statement.get("Principal")
    return anybody(statement) or bool(set(principal or ()) - {"Service"})


RULES: Final = (raw_events_stay,)
