"""Certificates for the names users ask for, where a site's load balancer ends TLS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import acm, cloudwatch, route53

from infra import naming

DAY_SECONDS: Final = 86_400
VALIDATION_TTL_SECONDS: Final = 60


@dataclass(frozen=True, kw_only=True)
class SiteCertificate:
    """Where one site's certificate is needed, and who is told before it ends."""

    names: tuple[str, ...]
    """The first one is its subject."""
    provider: pulumi.ProviderResource
    """Of the region of the site's load balancer, which takes certificates of its own region only."""
    topic: Input[str]


@dataclass(frozen=True, kw_only=True)
class CertificatesArgs:
    """The sites that need one, and the zone in which their names are proved."""

    zone_id: Input[str]
    sites: Mapping[str, SiteCertificate]
    alert_days: int
    tags: dict[str, str] = field(default_factory=dict)


class Certificates(pulumi.ComponentResource):
    """Certificates that renew themselves while their records stand, and that are heard of before they end.

    Health checks do not look at certificates: without the alarm, an expired one would show at users first.
    """

    arns: dict[str, Output[str]]
    """Site to certificate, readable once it is issued."""

    def __init__(self, name: str, args: CertificatesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:certificates:Certificates", name, {}, opts)
        self._name, self._args = name, args
        self._records: dict[str, route53.Record] = {}
        self.arns = {site: self._certificate(site, wanted) for site, wanted in sorted(args.sites.items())}
        self.register_outputs({"arns": self.arns})

    def _certificate(self, site: str, wanted: SiteCertificate) -> Output[str]:
        child = ResourceOptions(parent=self, provider=wanted.provider)
        certificate = acm.Certificate(
            f"{self._name}-{site}",
            domain_name=wanted.names[0],
            subject_alternative_names=list(wanted.names[1:]),
            validation_method="DNS",
            tags={**self._args.tags, **naming.tags(site)},
            # A changed list of names is another certificate; the load balancer keeps the old one until it has it.
            opts=child,
        )
        records = [self._proof(domain, certificate, child) for domain in wanted.names]
        issued = acm.CertificateValidation(
            f"{self._name}-{site}",
            certificate_arn=certificate.arn,
            validation_record_fqdns=[record.fqdn for record in records],
            opts=child,
        )
        self._expiry(f"{self._name}-{site}-expiry", site, wanted, issued.certificate_arn, child)
        return issued.certificate_arn

    def _proof(self, domain: str, certificate: acm.Certificate, child: ResourceOptions) -> route53.Record:
        """The record that proves `domain`; for one account it is the same in all of its certificates."""
        if domain not in self._records:
            option = certificate.domain_validation_options.apply(lambda options: _option(options, domain))
            self._records[domain] = route53.Record(
                f"{self._name}-{domain}",
                zone_id=self._args.zone_id,
                name=option.apply(lambda known: str(known.resource_record_name)),
                type=option.apply(lambda known: str(known.resource_record_type)),
                records=[option.apply(lambda known: str(known.resource_record_value))],
                ttl=VALIDATION_TTL_SECONDS,
                opts=child,
            )
        return self._records[domain]

    def _expiry(self, name: str, site: str, wanted: SiteCertificate, arn: Output[str], child: ResourceOptions) -> None:
        """It renews 60 days before its end; so few days left mean that something keeps it from that.

        The metric comes about twice a day and ends with the certificate: a missing value keeps what was known, which is
        nothing of a new certificate and the alarm of an expired one.
        https://docs.aws.amazon.com/acm/latest/userguide/cloudwatch-metrics.html
        """
        cloudwatch.MetricAlarm(
            name,
            alarm_description=f"The certificate of site {site} ends within {self._args.alert_days} days, not renewed.",
            namespace="AWS/CertificateManager",
            metric_name="DaysToExpiry",
            dimensions={"CertificateArn": arn},
            statistic="Minimum",
            comparison_operator="LessThanThreshold",
            threshold=self._args.alert_days,
            period=DAY_SECONDS,
            evaluation_periods=1,
            treat_missing_data="ignore",
            alarm_actions=[wanted.topic],
            ok_actions=[wanted.topic],
            tags={**self._args.tags, **naming.tags(site)},
            opts=child,
        )


def _option(
    options: Sequence[acm.outputs.CertificateDomainValidationOption], domain: str
) -> acm.outputs.CertificateDomainValidationOption:
    return next(option for option in options if option.domain_name == domain)
