"""Which site a user is sent to: weights while all are well, health when one is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import route53

from infra import checks, naming

CONNECT_SECONDS: Final = 4
STATUS_SECONDS: Final = 2
PROBE_TIMEOUT_SECONDS: Final = CONNECT_SECONDS + STATUS_SECONDS
"""Longest one probe of a dead endpoint takes
(https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/dns-failover-determining-health-of-endpoints.html)."""
INTERVALS: Final = (10, 30)


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A load balancer known by name."""

    dns_name: Input[str]
    zone_id: Input[str]


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site: its share of the traffic and where it is entered."""

    weight: int
    edge: Input[str] | Alias
    """The edge's IPv4 address, or its load balancer."""


@dataclass(frozen=True, kw_only=True)
class HealthArgs:
    """What is asked of a site, how often, and what the answer has to contain."""

    scheme: str
    port: int
    path: str
    token: str
    interval_seconds: int = 10
    threshold: int = 2

    def __post_init__(self) -> None:
        checks.one_of("scheme", self.scheme, ("http", "https"))
        checks.between("port", self.port, 1, 65535)
        checks.one_of("interval_seconds", str(self.interval_seconds), [str(known) for known in INTERVALS])
        checks.between("threshold", self.threshold, 1, 10)


@dataclass(frozen=True, kw_only=True)
class FailoverArgs:
    """The zone, the name users ask for, the sites behind it and how they are judged."""

    zone_name: str
    service_name: str
    ttl_seconds: int
    sites: dict[str, Site]
    health: HealthArgs
    protect: bool = True
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.weights("sites", {name: site.weight for name, site in self.sites.items()})
        checks.between("ttl_seconds", self.ttl_seconds, 1, 60)


class Failover(pulumi.ComponentResource):
    """A name whose answers leave an ill site by themselves: no record is changed when a site is lost."""

    zone_id: Output[str]
    name_servers: Output[Sequence[str]]
    health_check_ids: dict[str, Output[str]]

    def __init__(self, name: str, args: FailoverArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:failover:Failover", name, {}, opts)
        child = ResourceOptions(parent=self)
        # A new zone has new name servers, and the delegation above it would still point at the old ones.
        lasting = ResourceOptions.merge(child, ResourceOptions(protect=args.protect))
        zone = route53.Zone(f"{name}-zone", name=args.zone_name, tags=args.tags, opts=lasting)
        self.health_check_ids = {}
        for site_name, site in sorted(args.sites.items()):
            host = naming.site_host(site_name, args.service_name)
            check = self._check(f"{name}-{site_name}", args, site_name, site)
            self.health_check_ids[site_name] = check.id
            self._record(f"{name}-{site_name}-only", host, zone, args, site)
            self._record(f"{name}-{site_name}", args.service_name, zone, args, site, check, site_name)
        self.zone_id = zone.zone_id
        self.name_servers = zone.name_servers
        self.register_outputs(
            {
                "zone_id": self.zone_id,
                "name_servers": self.name_servers,
                "health_check_ids": self.health_check_ids,
            }
        )

    def _check(self, name: str, args: FailoverArgs, site_name: str, site: Site) -> route53.HealthCheck:
        """A check that is green only while the site's golden request comes back right."""
        host = naming.site_host(site_name, args.service_name)
        return route53.HealthCheck(
            name,
            type=f"{args.health.scheme.upper()}_STR_MATCH",
            # With an address the name is the Host header and the TLS server name; without one it is also looked up.
            ip_address=None if isinstance(site.edge, Alias) else site.edge,
            fqdn=host,
            port=args.health.port,
            resource_path=args.health.path,
            search_string=args.health.token,
            request_interval=args.health.interval_seconds,
            failure_threshold=args.health.threshold,
            enable_sni=args.health.scheme == "https",
            tags={**args.tags, **naming.tags(site_name), "Name": host},
            opts=ResourceOptions(parent=self),
        )

    def _record(
        self,
        name: str,
        host: str,
        zone: route53.Zone,
        args: FailoverArgs,
        site: Site,
        check: route53.HealthCheck | None = None,
        site_name: str | None = None,
    ) -> route53.Record:
        """The site under `host`; with a check, as one weighted answer among the others."""
        alias = site.edge if isinstance(site.edge, Alias) else None
        return route53.Record(
            name,
            zone_id=zone.zone_id,
            name=host,
            type="A",
            ttl=None if alias else args.ttl_seconds,
            records=None if isinstance(site.edge, Alias) else [site.edge],
            aliases=[route53.RecordAliasArgs(name=alias.dns_name, zone_id=alias.zone_id, evaluate_target_health=False)]
            if alias
            else None,
            set_identifier=site_name,
            weighted_routing_policies=[route53.RecordWeightedRoutingPolicyArgs(weight=site.weight)] if check else None,
            health_check_id=check.id if check else None,
            opts=ResourceOptions(parent=self),
        )
