"""The settings of `traffic`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Final

from infra import checkers, checks, naming
from infra.checks import SettingError
from infra.settings_base import AwsSettings

ALIAS_TTL_SECONDS: Final = 60
"""Route 53 answers an alias of a load balancer with this one; none can be chosen."""


@dataclass(frozen=True, kw_only=True)
class TrafficSettings(AwsSettings):
    """`traffic`."""

    layer: ClassVar[str] = "traffic"
    services: ClassVar[tuple[str, ...]] = ("route53", "sts")

    zone_name: str
    service_name: str
    shadow_name: str = ""
    """A second name with the same weights and checks, for synthetic users; empty for none."""
    sites: dict[str, int] = field(default_factory=dict)
    """Site to weight; every site is named."""
    alias_sites: tuple[str, ...] = ()
    """Sites whose records are aliases of their load balancer; the others' records hold the edge's address."""
    signal_stores: tuple[str, ...] = ()
    """Sites in whose signal bucket the others' drain marks count; none named means all."""
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

    def drain_stores(self, site: str) -> tuple[str, ...]:
        """Sites in whose signal bucket a drain mark of `site` counts: others, for its own may be lost with it."""
        chosen = self.signal_stores or tuple(self.sites)
        return tuple(sorted(set(chosen) - {site})) or (site,)

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
        checks.weights("sites", self.sites)
        for site in self.sites:
            checks.dns_name(f"name of site {site}", naming.site_host(site, self.service_name))
        for site in self.alias_sites:
            checks.one_of("site in alias_sites", site, self.sites)
        for site in self.signal_stores:
            checks.one_of("site in signal_stores", site, self.sites)
        self._check_shadow()
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

    def _check_recovery(self) -> None:
        ttl = f"ttl_seconds {self.ttl_seconds}"
        if self.longest_ttl_seconds != self.ttl_seconds:
            ttl = f"an alias's own TTL {self.longest_ttl_seconds}"
        bound = checkers.recovery_seconds(
            threshold=self.health_threshold,
            interval_seconds=self.health_interval_seconds,
            ttl_seconds=self.longest_ttl_seconds,
            request_timeout_seconds=self.request_timeout_seconds,
        )
        if self.objective_recovery_seconds < bound:
            raise SettingError(
                f"objective_recovery_seconds is {self.objective_recovery_seconds}; a lost site costs up to {bound:g} s:"
                f" health_threshold {self.health_threshold} x (health_interval_seconds {self.health_interval_seconds}"
                f" + probe timeout {checkers.PROBE_TIMEOUT_SECONDS}) + {ttl}"
                f" + request_timeout_seconds {self.request_timeout_seconds:g} + {checkers.SCHEDULING_SECONDS}:"
                f" promise at least {math.ceil(bound)}, or shorten one of them"
            )
