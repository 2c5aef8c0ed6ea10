"""Which site a user is sent to: weights while all are well, health when one is not, a mark when one is to be left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import route53

from infra import checkers, checks, golden_metric, naming
from infra.probe_target import target_of


@dataclass(frozen=True, kw_only=True)
class Alias:
    """A load balancer known by name."""

    dns_name: Input[str]
    zone_id: Input[str]


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A CloudWatch alarm that speaks for a site."""

    name: Input[str]
    region: str
    settings: Mapping[str, str]
    """What it is judged by; the DNS service is told again when it changes."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One site: its share of the traffic, where it is entered, and where a mark that drains it is looked for."""

    weight: int
    edge: Input[str] | Alias
    """The edge's IPv4 address, or its load balancer."""
    marks: Mapping[str, Input[str]]
    """Store to URL of the mark that keeps users away; a mark in one store is enough."""
    shadow_marks: Mapping[str, Input[str]] = field(default_factory=dict)
    """The same for synthetic users only."""
    alarm: Alarm | None = None
    """What says whether the site is well where no checker can ask it; none where they can."""


@dataclass(frozen=True, kw_only=True)
class HealthArgs:
    """What is asked of a site, how often, and what the answer has to contain."""

    scheme: str
    port: int
    path: str
    token: str
    drain_token: str
    """What a mark has to contain; an error page in its place drains nobody."""
    interval_seconds: int = 10
    threshold: int = 2

    def __post_init__(self) -> None:
        checks.one_of("scheme", self.scheme, ("http", "https"))
        checks.between("port", self.port, 1, 65535)
        checks.one_of("interval_seconds", str(self.interval_seconds), [str(known) for known in checkers.INTERVALS])
        checks.between("threshold", self.threshold, 1, 10)


@dataclass(frozen=True, kw_only=True)
class FailoverArgs:
    """The zone, the names users ask for, the sites behind them and how they are judged."""

    zone_name: str
    service_name: str
    shadow_name: str = ""
    """Name of the synthetic users; empty for none."""
    ttl_seconds: int
    sites: dict[str, Site]
    health: HealthArgs
    protect: bool = True
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.weights("sites", {name: site.weight for name, site in self.sites.items()})
        checks.between("ttl_seconds", self.ttl_seconds, 1, 60)
        for name, site in self.sites.items():
            if not site.marks or (self.shadow_name and not site.shadow_marks):
                kind = "shadow_marks" if site.marks else "marks"
                raise checks.SettingError(
                    f"{kind} of site {name} is empty; without a mark nobody can drain it: name a store at least"
                )


@dataclass(frozen=True, kw_only=True)
class SiteChecks:
    """Ids of the health checks of one site."""

    golden: Output[str]
    drains: list[Output[str]]
    """One a store, in the order of the stores' names; healthy while there is no mark."""
    serving: Output[str]
    """Golden and not drained: what the record goes by."""
    shadow_drains: list[Output[str]]
    """The same for synthetic users; none without a shadow name."""
    shadow: Output[str] | None
    """The same and not drained for synthetic users; none without a shadow name."""


class Failover(pulumi.ComponentResource):
    """A name whose answers leave an ill or a drained site by themselves: no record is changed for it.

    A mark that cannot be read is no mark: losing a store drains nobody.
    """

    zone_id: Output[str]
    name_servers: Output[Sequence[str]]
    site_checks: dict[str, SiteChecks]

    def __init__(self, name: str, args: FailoverArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:failover:Failover", name, {}, opts)
        # A new zone has new name servers, and the delegation above it would still point at the old ones.
        lasting = ResourceOptions(parent=self, protect=args.protect)
        zone = route53.Zone(f"{name}-zone", name=args.zone_name, tags=args.tags, opts=lasting)
        self.site_checks = {}
        for site_name, site in sorted(args.sites.items()):
            found = self._checks(f"{name}-{site_name}", args, site_name, site)
            self.site_checks[site_name] = found
            host = naming.site_host(site_name, args.service_name)
            self._record(f"{name}-{site_name}-only", host, zone, args, site)
            self._record(f"{name}-{site_name}", args.service_name, zone, args, site, found.serving, site_name)
            if found.shadow is not None:
                shadow = f"{name}-{site_name}-shadow"
                self._record(shadow, args.shadow_name, zone, args, site, found.shadow, site_name)
        self.zone_id = zone.zone_id
        self.name_servers = zone.name_servers
        self.register_outputs({"zone_id": self.zone_id, "name_servers": self.name_servers})

    def _checks(self, name: str, args: FailoverArgs, site_name: str, site: Site) -> SiteChecks:
        golden = self._golden(name, args, site_name, site)
        drains = [
            self._unmarked(f"{name}-drain-{store}", args, site_name, f"{site_name} drained in {store}", url)
            for store, url in sorted(site.marks.items())
        ]
        serving = self._all(f"{name}-serving", args, site_name, f"{site_name} serving", [golden, *drains])
        shadow, more = None, []
        if args.shadow_name:
            more = [
                self._unmarked(f"{name}-shadow-drain-{store}", args, site_name, f"{site_name} shadowed in {store}", url)
                for store, url in sorted(site.shadow_marks.items())
            ]
            shadow = self._all(f"{name}-shadow", args, site_name, f"{site_name} shadow", [golden, *drains, *more]).id
        return SiteChecks(
            golden=golden.id,
            drains=[check.id for check in drains],
            serving=serving.id,
            shadow_drains=[check.id for check in more],
            shadow=shadow,
        )

    def _golden(self, name: str, args: FailoverArgs, site_name: str, site: Site) -> route53.HealthCheck:
        """A check that is green only while the site's golden request comes back right."""
        host = naming.site_host(site_name, args.service_name)
        if site.alarm is not None:
            return self._heard(name, args, site_name, site.alarm)
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
            tags=_tags(args, site_name, host),
            # The DNS service keeps an address that an update no longer names; a site that becomes an alias gets a new
            # check (https://docs.aws.amazon.com/Route53/latest/APIReference/API_UpdateHealthCheck.html).
            opts=ResourceOptions(parent=self, replace_on_changes=["ip_address"]),
        )

    def _heard(self, name: str, args: FailoverArgs, site_name: str, alarm: Alarm) -> route53.HealthCheck:
        """A check that is green only while the site itself says that it is golden."""
        return route53.HealthCheck(
            name,
            type="CLOUDWATCH_METRIC",
            cloudwatch_alarm_name=alarm.name,
            cloudwatch_alarm_region=alarm.region,
            insufficient_data_health_status=golden_metric.UNHEALTHY,
            triggers=alarm.settings,
            tags=_tags(args, site_name, f"{site_name} says it is golden"),
            opts=ResourceOptions(parent=self),
        )

    def _unmarked(
        self, name: str, args: FailoverArgs, site_name: str, title: str, url: Input[str]
    ) -> route53.HealthCheck:
        """A check that is green unless the mark is there."""
        target = Output.from_input(url).apply(target_of)
        return route53.HealthCheck(
            name,
            type=target.apply(lambda known: f"{known.scheme.upper()}_STR_MATCH"),
            ip_address=target.apply(lambda known: known.address),
            fqdn=target.apply(lambda known: known.host),
            port=target.apply(lambda known: known.port),
            resource_path=target.apply(lambda known: known.path),
            search_string=args.health.drain_token,
            invert_healthcheck=True,
            request_interval=args.health.interval_seconds,
            failure_threshold=args.health.threshold,
            enable_sni=target.apply(lambda known: known.scheme == "https"),
            tags=_tags(args, site_name, title),
            opts=ResourceOptions(parent=self),
        )

    def _all(
        self, name: str, args: FailoverArgs, site_name: str, title: str, children: list[route53.HealthCheck]
    ) -> route53.HealthCheck:
        """A check that is green only while all of its children are."""
        return route53.HealthCheck(
            name,
            type="CALCULATED",
            child_healthchecks=[check.id for check in children],
            child_health_threshold=len(children),
            tags=_tags(args, site_name, title),
            opts=ResourceOptions(parent=self),
        )

    def _record(
        self,
        name: str,
        host: str,
        zone: route53.Zone,
        args: FailoverArgs,
        site: Site,
        check: Output[str] | None = None,
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
            weighted_routing_policies=None
            if check is None
            else [route53.RecordWeightedRoutingPolicyArgs(weight=site.weight)],
            health_check_id=check,
            opts=ResourceOptions(parent=self),
        )


def _tags(args: FailoverArgs, site: str, title: str) -> dict[str, str]:
    return {**args.tags, **naming.tags(site), "Name": title}
