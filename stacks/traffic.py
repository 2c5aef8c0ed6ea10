"""`traffic`: the name users ask for, and which site answers it.

Reads recorded outputs only and builds no Kubernetes provider, so it deploys while a site is dead.
"""

from __future__ import annotations

from typing import Any

from pulumi import Output, ResourceOptions

from infra import naming
from infra.checkers import PROBE_TIMEOUT_SECONDS
from infra.checks import SettingError
from infra.failover import Alias, Failover, FailoverArgs, HealthArgs, Site
from infra.settings import TrafficSettings
from stacks import contract, providers
from stacks.references import Recorded, sites_with_settings


def declare(stack: contract.StackName, settings: TrafficSettings) -> dict[str, Any]:
    """Zone, health and drain checks, weighted records and a name for each site."""
    forgotten = sorted(sites_with_settings(stack.env) - set(settings.sites))
    if forgotten:
        raise SettingError(
            f"sites names {', '.join(settings.sites)}; every site with a settings file has a weight, and"
            f" {', '.join(forgotten)} has none: add it, with 0 to keep traffic away while the others are well"
        )
    pools = {site: Recorded(stack.sibling("pool", site)) for site in settings.sites}
    edges = {
        site: Alias(dns_name=pool.filled("edge_dns_name"), zone_id=pool.filled("edge_zone_id"))
        if site in settings.alias_sites
        else pool.filled("edge_address")
        for site, pool in pools.items()
    }
    stores = {site: settings.drain_stores(site) for site in settings.sites}
    signals = {
        store: Recorded(stack.sibling("storage", store)).filled("signal_url")
        for store in sorted({store for each in stores.values() for store in each})
    }

    def marks(site: str, *, shadow: bool = False) -> dict[str, Output[str]]:
        key = contract.drain_key(site, shadow=shadow)
        return {store: Output.concat(signals[store], "/", key) for store in stores[site]}

    failover = Failover(
        "traffic",
        FailoverArgs(
            zone_name=settings.zone_name,
            service_name=settings.service_name,
            shadow_name=settings.shadow_name,
            ttl_seconds=settings.ttl_seconds,
            sites={
                site: Site(weight=weight, edge=edges[site], marks=marks(site), shadow_marks=marks(site, shadow=True))
                for site, weight in settings.sites.items()
            },
            health=HealthArgs(
                scheme=settings.scheme,
                port=settings.port,
                path=contract.HEALTH_PATH,
                token=contract.HEALTH_TOKEN,
                drain_token=contract.DRAIN_TOKEN,
                interval_seconds=settings.health_interval_seconds,
                threshold=settings.health_threshold,
            ),
            protect=settings.protect,
        ),
        ResourceOptions(provider=providers.cloud(stack, settings)),
    )
    return {
        "zone_id": failover.zone_id,
        "zone_name": settings.zone_name,
        "name_servers": failover.name_servers,
        "service_name": settings.service_name,
        "shadow_name": settings.shadow_name,
        "resolver": settings.resolver,
        "dns_api": settings.aws_endpoints.get("route53", ""),
        "scheme": settings.scheme,
        "ttl_seconds": settings.longest_ttl_seconds,
        "health_path": contract.HEALTH_PATH,
        "health_token": contract.HEALTH_TOKEN,
        "health_interval_seconds": settings.health_interval_seconds,
        "health_threshold": settings.health_threshold,
        "probe_timeout_seconds": PROBE_TIMEOUT_SECONDS,
        "request_timeout_seconds": settings.request_timeout_seconds,
        "checker_cidrs": list(settings.checker_cidrs),
        "objectives": {
            "recovery_seconds": settings.objective_recovery_seconds,
            "availability_percent": settings.objective_availability_percent,
            "p99_ms": settings.objective_p99_ms,
            "wrong_answers": 0,
        },
        "sites": {
            site: {
                "name": naming.site_host(site, settings.service_name),
                "address": pools[site].filled("edge_address"),
                "port": settings.port,
                "weight": weight,
                "golden_check_id": failover.site_checks[site].golden,
                "drain_check_ids": failover.site_checks[site].drains,
                "shadow_drain_check_ids": failover.site_checks[site].shadow_drains,
                "drain_stores": list(stores[site]),
            }
            for site, weight in sorted(settings.sites.items())
        },
    }
