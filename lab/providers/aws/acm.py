"""ACM: certificates proved by DNS, issued once their records stand in a zone of the lab."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, from_tag_list, to_tag_list
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import one_of
from lab.providers.errors import Failure, ProviderError

_GONE: Final = {"ResourceNotFoundException"}
_IMPORTED: Final = ("privateKey", "certificateBody", "certificateChain", "certificateAuthorityArn")
ISSUE_SECONDS: Final = 10.0
"""How long issuing is waited for; the records are there or they are not."""


class Certificate(AwsType):
    """A certificate of the lab's own making; its id is its ARN. No browser would trust it."""

    type_name = "aws:acm/certificate:Certificate"
    replace_on = ("domainName", "subjectAlternativeNames", "validationMethod", "keyAlgorithm", "region")
    unordered = frozenset({"subjectAlternativeNames"})
    blank: ClassVar = {
        "pendingRenewal": False,
        "renewalSummaries": [],
        "validationEmails": [],
        "options": {"certificateTransparencyLoggingPreference": "ENABLED", "export": "DISABLED"},
    }

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        for name in _IMPORTED:
            if inputs.get(name):
                yield Failure(name, f"{name} is set; the lab has certificates that are proved by DNS: remove it")
        yield from one_of(inputs, "validationMethod", "DNS")
        for name in ("domainName", "validationMethod"):
            if inputs.get(name) is None:
                yield Failure(name, f"{name} is missing; a certificate that is proved by DNS needs it: give it a value")

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        more = {"SubjectAlternativeNames": names} if (names := inputs.get("subjectAlternativeNames")) else {}
        made = cloud.client("acm").request_certificate(
            DomainName=inputs["domainName"], ValidationMethod="DNS", Tags=to_tag_list(tags), **more
        )
        return str(made["CertificateArn"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = certificate(cloud, identity)
        if found is None:
            return None
        issued = found["Status"] == "ISSUED"
        return {
            "arn": identity,
            "domainName": found["DomainName"],
            "subjectAlternativeNames": _names(found, inputs.get("subjectAlternativeNames")),
            "domainValidationOptions": [
                {
                    "domainName": option["DomainName"],
                    "resourceRecordName": option["ResourceRecord"]["Name"],
                    "resourceRecordType": option["ResourceRecord"]["Type"],
                    "resourceRecordValue": option["ResourceRecord"]["Value"],
                }
                for option in sorted(found.get("DomainValidationOptions", []), key=lambda entry: entry["DomainName"])
            ],
            "keyAlgorithm": found.get("KeyAlgorithm", "RSA_2048"),
            "notAfter": _moment(found["NotAfter"]) if issued else "",
            "notBefore": _moment(found["NotBefore"]) if issued else "",
            "renewalEligibility": found.get("RenewalEligibility", "INELIGIBLE"),
            "status": found["Status"],
            "type": found["Type"],
            "validationMethod": "DNS",
            "tagsAll": _tags(cloud, identity),
        }

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        client = cloud.client("acm")
        if tags:
            client.add_tags_to_certificate(CertificateArn=identity, Tags=to_tag_list(tags))
        if removed:
            client.remove_tags_from_certificate(CertificateArn=identity, Tags=[{"Key": key} for key in removed])

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Change nothing but tags, which `tag` does."""

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        try:
            cloud.client("acm").delete_certificate(CertificateArn=identity)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for page in cloud.client("acm").get_paginator("list_certificates").paginate():
            for summary in page["CertificateSummaryList"]:
                yield summary["CertificateArn"], _tags(cloud, summary["CertificateArn"]).get(MARKER_TAG)

    def canonical(self, inputs: dict[str, Any]) -> dict[str, Any]:
        names = inputs.get("subjectAlternativeNames")
        if isinstance(names, list):  # the subject is always one of them
            names = sorted(name for name in names if name != inputs.get("domainName"))
        return super().canonical({**inputs, "subjectAlternativeNames": names})


class CertificateValidation(AwsType):
    """Not a thing, but the wait until a certificate is issued; its id is the certificate's."""

    type_name = "aws:acm/certificateValidation:CertificateValidation"
    replace_on = ("certificateArn", "validationRecordFqdns", "region")
    unordered = frozenset({"validationRecordFqdns"})

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        deadline = time.monotonic() + ISSUE_SECONDS
        while True:
            found = certificate(cloud, inputs["certificateArn"])
            if found is None:
                raise ProviderError(f"certificate {inputs['certificateArn']} does not exist; declare it")
            if found["Status"] == "ISSUED":
                return str(inputs["certificateArn"])
            if time.monotonic() > deadline:
                lacking = [option["ResourceRecord"]["Name"] for option in found.get("DomainValidationOptions", [])]
                raise ProviderError(
                    f"certificate {inputs['certificateArn']} is {found['Status']}; it is issued once its records are in"
                    f" a zone: declare {', '.join(sorted(lacking))}"
                )
            time.sleep(0.2)

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        found = certificate(cloud, identity)
        return None if found is None or found["Status"] != "ISSUED" else {"certificateArn": identity}

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        """Nothing was made."""

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        return {"certificateArn": identity}


def certificate(cloud: Cloud, arn: str) -> dict[str, Any] | None:
    """What the API tells of a certificate, or None when there is no such one."""
    try:
        return dict(cloud.client("acm").describe_certificate(CertificateArn=arn)["Certificate"])
    except ClientError as error:
        if code_of(error) in _GONE:
            return None
        raise


def _names(found: dict[str, Any], given: Any) -> list[str]:
    """Every name of a certificate, as they were given where they mean the same: the subject is always one of them."""
    every = {found["DomainName"], *found.get("SubjectAlternativeNames", [])}
    same = isinstance(given, list) and {found["DomainName"], *given} == every
    return list(given) if same else sorted(every)


def _moment(value: datetime) -> str:
    return value.isoformat()


def _tags(cloud: Cloud, arn: str) -> dict[str, str]:
    return from_tag_list(cloud.client("acm").list_tags_for_certificate(CertificateArn=arn).get("Tags"))


TYPES: Final = (Certificate, CertificateValidation)
