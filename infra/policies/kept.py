"""Rules of what must not be lost by a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from infra.policies.declared import UNKNOWN, Declared
from infra.policies.inputs import at, number, truth, within
from infra.policies.rule import PROD, Finding, resource_rule, unsure, wrong

KEY: Final = "aws:kms/key:Key"
DELETION_DAYS: Final = 14
ADDRESS: Final = "aws:ec2/eip:Eip"
LOAD_BALANCER: Final = "aws:lb/loadBalancer:LoadBalancer"
BUCKET: Final = "aws:s3/bucket:Bucket"
LASTING: Final = {
    BUCKET: "the objects in it",
    KEY: "what is encrypted under it",
    "aws:eks/cluster:Cluster": "everything that runs in it",
    "aws:route53/zone:Zone": "the delegation to its name servers",
}
PASSING_ON: Final = ("tandem:alarm_topic:AlarmTopic",)
"""Components whose keys encrypt what is on its way and lies nowhere."""
ROLE_TAG: Final = "tandem.io/role"
EDGE: Final = "edge"


def keeps_nothing(key: Declared) -> bool:
    """Whether nothing is lost with a key, because nothing lies encrypted under it."""
    return any(within(key, component) for component in PASSING_ON)


@resource_rule(
    "lasting-protected",
    "In prod, buckets, keys that data lies under, clusters, zones and the edge's addresses refuse deletion.",
    *LASTING,
    ADDRESS,
    only=PROD,
)
def lasting_protected(resource: Declared) -> Iterator[Finding]:
    """Pulumi's protect; and no bucket that takes its objects along."""
    if resource.type == ADDRESS:
        role = at(resource.inputs, "tags", ROLE_TAG)
        if role == UNKNOWN:
            yield unsure(resource, "what it is an address of")
        if role != EDGE:
            return
    if not resource.protect and not keeps_nothing(resource):
        lost = LASTING.get(resource.type, "every record and allow-list that names it")
        yield wrong(resource, f"protect is false; with it, {lost} would be lost: set tandem:protect to true")
    if resource.type == BUCKET and truth(at(resource.inputs, "forceDestroy")):
        yield wrong(
            resource,
            "forceDestroy is true; deleting the bucket would delete what is in it: set tandem:force_destroy to false",
        )


@resource_rule(
    "edge-kept",
    "In prod, a load balancer users enter at refuses deletion, by Pulumi or by AWS.",
    LOAD_BALANCER,
    only=PROD,
)
def edge_kept(balancer: Declared) -> Iterator[Finding]:
    """Its name stands in alias records; a new one has another."""
    guarded = at(balancer.inputs, "enableDeletionProtection")
    if balancer.protect or truth(guarded):
        return
    if guarded == UNKNOWN:
        yield unsure(balancer, "enableDeletionProtection")
    else:
        yield wrong(
            balancer,
            "protect is false and so is enableDeletionProtection; its name stands in the records users ask for: set one"
            " of them",
        )


@resource_rule(
    "key-rotates",
    f"Every KMS key is rotated, and one that data lies under waits at least {DELETION_DAYS} days before it is deleted.",
    KEY,
)
def key_rotates(key: Declared) -> Iterator[Finding]:
    """Rotation is on, and a deletion by mistake can be taken back for two weeks."""
    if at(key.inputs, "customerMasterKeySpec") not in (None, "SYMMETRIC_DEFAULT"):
        return  # AWS rotates symmetric keys only.
    rotation = at(key.inputs, "enableKeyRotation")
    if rotation == UNKNOWN:
        yield unsure(key, "enableKeyRotation")
    elif not truth(rotation):
        yield wrong(key, f"enableKeyRotation is {rotation}; a key is rotated every year: set enable_key_rotation=True")
    days = number(at(key.inputs, "deletionWindowInDays"))
    if days is not None and days < DELETION_DAYS and not keeps_nothing(key):
        yield wrong(
            key,
            f"deletionWindowInDays is {days:g}; what is encrypted under a deleted key is lost, and a mistake has to be"
            f" seen in time: set at least {DELETION_DAYS}",
        )


RULES: Final = (lasting_protected, edge_kept, key_rotates)
