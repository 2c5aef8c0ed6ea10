"""When ACM issues a certificate: once the records that prove its names stand in a zone, which moto never asks."""

from __future__ import annotations

from typing import Any, Final

from moto import settings
from moto.acm.models import acm_backends
from moto.route53.models import route53_backends

from lab.aws.route53_rules import plain_name
from lab.aws.server import ACCOUNT

PENDING: Final = "PENDING_VALIDATION"
NEVER: Final = 10**9
"""Seconds; moto issues by the time that has passed, and the lab does not."""


def issue_proven() -> None:
    """Issue every certificate all of whose names are proved."""
    settings.ACM_VALIDATION_WAIT = NEVER
    bundles: list[Any] = [
        bundle for backend in list(acm_backends[ACCOUNT].values()) for bundle in list(backend._certificates.values())
    ]
    pending = [bundle for bundle in bundles if bundle.status == PENDING]
    if not pending:
        return
    standing = {
        (plain_name(record.name), plain_name(str(value)))
        for zone in list(route53_backends[ACCOUNT]["aws"].zones.values())
        for record in list(zone.rrsets)
        if str(record.type) == "CNAME"
        for value in record.records
    }
    for bundle in pending:
        wanted = [option["ResourceRecord"] for option in bundle.describe()["Certificate"]["DomainValidationOptions"]]
        if all((plain_name(entry["Name"]), plain_name(entry["Value"])) in standing for entry in wanted):
            bundle.status = "ISSUED"
