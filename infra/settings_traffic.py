"""The settings of `traffic`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from infra import checkers, checks, naming, receivers
from infra.checks import SettingError
from infra.log_retention import RETENTIONS
from infra.settings_base import AwsSettings
from infra.site_check import ASKED, HEARD, SiteCheck

ALIAS_TTL_SECONDS: Final = 60
"""Route 53 answers an alias of a load balancer with this one; none can be chosen."""
MARK_STORES: Final = 3
"""In so many others' stores a site's marks count: losing two of them is survivable, and checks grow as sites do."""


@dataclass(frozen=True, kw_only=True)
class TrafficSettings(AwsSettings):
    """`traffic`."""

    layer: ClassVar[str] = "traffic"
    services: ClassVar[tuple[str, ...]] = ("route53", "sts", "cloudwatch", "logs", "sns", "kms", "acm")

    zone_name: str
    service_name: str
    shadow_name: str = ""
    """A second name with the same weights and checks, for synthetic users; empty for none."""
    peak_requests_per_second: float
    """Load the sites carry when any one of them is lost; 0 promises none."""
    sites: dict[str, int] = field(default_factory=dict)
    """Site to weight; every site is named."""
    alias_sites: tuple[str, ...] = ()
    """Sites whose records are aliases of their load balancer; the others' records hold the edge's address."""
    signal_stores: tuple[str, ...] = ()
    """Sites in whose signal bucket the others' drain marks count; none named means three others for each."""
    site_checks: tuple[SiteCheck, ...] = ()
    """How sites are judged that the checkers do not ask at their edge; the others are."""
    certificates: dict[str, str] = field(default_factory=dict)
    """Site to the region of the load balancer that ends TLS there; the others end it themselves."""
    certificate_alert_days: int = 30
    """How long before its end a certificate that was not renewed is an alarm."""
    alarm_emails: tuple[str, ...] = ()
    alarm_urls: tuple[str, ...] = ()
    query_log_days: int = 30
    """How long queries of the zone are kept; 0 logs none."""
    ttl_seconds: int = 30
    """Of records that hold an address; aliases have the DNS service's own."""
    health_interval_seconds: int = 10
    health_threshold: int = 2
    scheme: str = "https"
    port: int = 443
    resolver: str = ""
    request_timeout_seconds: float = 2.0
    """What a client waits for one answer."""
    checker_cidrs: tuple[str, ...] = checkers.NETWORKS
    """Networks the health checkers ask from."""
    objective_recovery_seconds: int = 90
    """From the fault to the end of the last failed request of any user."""
    objective_availability_percent: float = 99.9
    """Share of right answers outside of a recovery."""
    objective_p99_ms: int = 500
    """Latency of right answers outside of a recovery."""
    bake_seconds: int = 600
    """How long a changed site is watched before the next one may change."""
    burn_rate_limit: float = 2.0
    """Largest share of failed requests while it is watched, as a multiple of what the availability objective allows."""

    def drain_stores(self, site: str) -> tuple[str, ...]:
        """Sites in whose signal bucket a drain mark of `site` counts: others, for its own may be lost with it.

        Where none are named, those that follow it by name. A site that comes or goes changes one of them at most, so
        a mark that lies there goes on counting.
        """
        names = sorted(self.sites)
        after = names.index(site) + 1
        chosen = self.signal_stores or (names[after:] + names[: after - 1])[:MARK_STORES]
        return tuple(sorted(set(chosen) - {site})) or (site,)

    def check_of(self, site: str) -> SiteCheck:
        """How this site is judged."""
        return next((entry for entry in self.site_checks if entry.site == site), SiteCheck(site=site, via=ASKED))

    def certificate_names(self, site: str) -> tuple[str, ...]:
        """The names users may reach this site by."""
        shadow = (self.shadow_name,) if self.shadow_name else ()
        return (self.service_name, naming.site_host(site, self.service_name), *shadow)

    @property
    def alarm_seconds(self) -> int:
        """Longest time until a site that is judged by an alarm is known to be lost; 0 where none is."""
        return max((entry.detection_seconds for entry in self.site_checks if entry.via == HEARD), default=0)

    @property
    def longest_ttl_seconds(self) -> int:
        """How long an answer may be kept at most, whichever site it names."""
        return max(self.ttl_seconds, ALIAS_TTL_SECONDS) if self.alias_sites else self.ttl_seconds

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.dns_name("zone_name", self.zone_name)
        checks.dns_name("service_name", self.service_name)
        if not self.service_name.endswith(f".{self.zone_name}"):
            raise SettingError(
                f"service_name is {self.service_name!r}; it lies inside the zone {self.zone_name!r}:"
                f" write it like recommend.{self.zone_name}"
            )
        checks.between("peak_requests_per_second", self.peak_requests_per_second, 0, 1_000_000)
        checks.weights("sites", self.sites)
        for site in self.sites:
            checks.dns_name(f"name of site {site}", naming.site_host(site, self.service_name))
        for site in self.alias_sites:
            checks.one_of("site in alias_sites", site, self.sites)
        for site in self.signal_stores:
            checks.one_of("site in signal_stores", site, self.sites)
        self._check_shadow()
        self._check_watching()
        checks.between("ttl_seconds", self.ttl_seconds, 1, 60)
        checks.one_of("health_interval_seconds", str(self.health_interval_seconds), ("10", "30"))
        checks.between("health_threshold", self.health_threshold, 1, 10)
        checks.one_of("scheme", self.scheme, ("http", "https"))
        checks.between("port", self.port, 1, 65535)
        if self.resolver:
            checks.host_port("resolver", self.resolver)
        checks.between("request_timeout_seconds", self.request_timeout_seconds, 0.05, 60)
        checks.networks("checker_cidrs", self.checker_cidrs)
        checks.between("objective_availability_percent", self.objective_availability_percent, 0, 100)
        checks.between("bake_seconds", self.bake_seconds, 0, 86_400)
        checks.between("burn_rate_limit", self.burn_rate_limit, 0, 1000)
        checks.between("objective_p99_ms", self.objective_p99_ms, 1, 60_000)
        self._check_recovery()

    def _check_shadow(self) -> None:
        if not self.shadow_name:
            return
        checks.dns_name("shadow_name", self.shadow_name)
        taken = {self.service_name, *(naming.site_host(site, self.service_name) for site in self.sites)}
        if not self.shadow_name.endswith(f".{self.zone_name}") or self.shadow_name in taken:
            raise SettingError(
                f"shadow_name is {self.shadow_name!r}; it lies inside the zone {self.zone_name!r} and is none of"
                f" {', '.join(sorted(taken))}: write it like shadow.{self.service_name}, or leave it empty for none"
            )

    def _check_watching(self) -> None:
        named = [entry.site for entry in self.site_checks]
        for site in named:
            checks.one_of("site in site_checks", site, self.sites)
            if named.count(site) > 1:
                raise SettingError(
                    f"site_checks names {site} {named.count(site)} times; a site has one check: keep one"
                )
        if self.alarm_seconds and not self.signal_stores:
            heard = ", ".join(entry.site for entry in self.site_checks if entry.via == HEARD)
            raise SettingError(
                f"signal_stores is empty and no checker reaches {heard}; a drain mark in a store they do not reach"
                " drains nobody: name the sites whose stores they reach"
            )
        for site, region in self.certificates.items():
            checks.one_of("site in certificates", site, self.alias_sites)
            checks.region(f"certificates.{site}", region)
        checks.between("certificate_alert_days", self.certificate_alert_days, 1, 60)
        receivers.check(self.alarm_emails, self.alarm_urls)
        if self.query_log_days and self.query_log_days not in RETENTIONS:
            raise SettingError(
                f"query_log_days is {self.query_log_days}; a log is kept for one of {', '.join(map(str, RETENTIONS))}"
                " days: choose one of them, or 0 to log nothing"
            )

    def _check_recovery(self) -> None:
        ttl = f"ttl_seconds {self.ttl_seconds}"
        if self.longest_ttl_seconds != self.ttl_seconds:
            ttl = f"an alias's own TTL {self.longest_ttl_seconds}"
        bound = checkers.recovery_seconds(
            threshold=self.health_threshold,
            interval_seconds=self.health_interval_seconds,
            ttl_seconds=self.longest_ttl_seconds,
            request_timeout_seconds=self.request_timeout_seconds,
            alarm_seconds=self.alarm_seconds,
        )
        asked = (
            f"health_threshold {self.health_threshold} x (health_interval_seconds {self.health_interval_seconds}"
            f" + probe timeout {checkers.PROBE_TIMEOUT_SECONDS})"
        )
        if self.alarm_seconds > self.health_threshold * (self.health_interval_seconds + checkers.PROBE_TIMEOUT_SECONDS):
            asked = f"{self.alarm_seconds} until the alarm of a silent site in site_checks goes off"
        if self.objective_recovery_seconds < bound:
            raise SettingError(
                f"objective_recovery_seconds is {self.objective_recovery_seconds}; a lost site costs up to {bound:g} s:"
                f" {asked} + {ttl}"
                f" + request_timeout_seconds {self.request_timeout_seconds:g} + {checkers.SCHEDULING_SECONDS}:"
                f" promise at least {math.ceil(bound)}, or shorten one of them"
            )
