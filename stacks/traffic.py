"""`traffic`: the name users ask for, and which site answers it.

Reads recorded outputs only and builds no Kubernetes provider, so it deploys while a site is dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi import Output, ResourceOptions

from infra import capacity, golden_metric, naming, query_log
from infra.alarm_topic import AlarmTopic, AlarmTopicArgs
from infra.alarms import HEALTH_REGION, HeartbeatAlarm, HeartbeatAlarmArgs, SiteAlarms, SiteAlarmsArgs
from infra.certificates import Certificates, CertificatesArgs, SiteCertificate
from infra.checkers import PROBE_TIMEOUT_SECONDS
from infra.checks import SettingError
from infra.failover import Alarm, Alias, Failover, FailoverArgs, HealthArgs, Site
from infra.query_log import QueryLog, QueryLogArgs
from infra.settings import TrafficSettings
from infra.site_check import HEARD
from stacks import contract, providers
from stacks.references import Recorded, sites_with_settings


def declare(stack: contract.StackName, settings: TrafficSettings) -> dict[str, Any]:
    """Zone, health and drain checks, weighted records, a name for each site, and who is told when one is ill."""
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

    clouds = _clouds(stack, settings, _carried(stack, settings, pools))
    topics = {
        region: AlarmTopic(
            f"alarms-{region}",
            AlarmTopicArgs(emails=settings.alarm_emails, urls=settings.alarm_urls),
            ResourceOptions(provider=clouds[region]),
        )
        for region in sorted({HEALTH_REGION, golden_metric.REGION, *settings.certificates.values()})
    }
    heard = _heard(stack, settings, topics, clouds)
    failover = Failover(
        "traffic",
        FailoverArgs(
            zone_name=settings.zone_name,
            service_name=settings.service_name,
            shadow_name=settings.shadow_name,
            ttl_seconds=settings.ttl_seconds,
            sites={
                site: Site(
                    weight=weight,
                    edge=edges[site],
                    marks=marks(site),
                    shadow_marks=marks(site, shadow=True),
                    alarm=heard.get(site),
                )
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
        ResourceOptions(provider=clouds[settings.region]),
    )
    _watch(settings, failover, topics, clouds)
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
        "peak_requests_per_second": settings.peak_requests_per_second,
        "bake_seconds": settings.bake_seconds,
        "burn_rate_limit": settings.burn_rate_limit,
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


def _clouds(
    stack: contract.StackName, settings: TrafficSettings, after: Output[None]
) -> dict[str, pulumi.ProviderResource]:
    """A provider for each region something of this stack lives in."""
    regions = {settings.region, HEALTH_REGION, golden_metric.REGION, query_log.REGION, *settings.certificates.values()}
    return {region: providers.cloud(stack, settings, after=after, region=region) for region in sorted(regions)}


def _heard(
    stack: contract.StackName,
    settings: TrafficSettings,
    topics: Mapping[str, AlarmTopic],
    clouds: Mapping[str, pulumi.ProviderResource],
) -> dict[str, Alarm]:
    """The alarm that speaks for each site no checker can ask."""
    found = {}
    for site in sorted(settings.sites):
        check = settings.check_of(site)
        if check.via != HEARD:
            continue
        alarm = HeartbeatAlarm(
            f"heard-{site}",
            HeartbeatAlarmArgs(
                environment=stack.env,
                site=site,
                treat_missing_data=check.treat_missing_data,
                period_seconds=check.period_seconds,
                periods=check.periods,
                topic=topics[golden_metric.REGION].arn,
            ),
            ResourceOptions(provider=clouds[golden_metric.REGION]),
        )
        found[site] = Alarm(name=alarm.alarm_name, region=golden_metric.REGION, settings=alarm.triggers)
    return found


def _watch(
    settings: TrafficSettings,
    failover: Failover,
    topics: Mapping[str, AlarmTopic],
    clouds: Mapping[str, pulumi.ProviderResource],
) -> None:
    """Who hears of an ill site and of a certificate's end, and what is kept of the questions users ask."""
    for site in sorted(settings.sites):
        found = failover.site_checks[site]
        topic = topics[HEALTH_REGION].arn
        SiteAlarms(
            f"watch-{site}",
            SiteAlarmsArgs(site=site, golden=found.golden, serving=found.serving, topic=topic),
            ResourceOptions(provider=clouds[HEALTH_REGION]),
        )
    if settings.query_log_days:
        QueryLog(
            "queries",
            QueryLogArgs(
                zone_name=settings.zone_name, zone_id=failover.zone_id, retention_days=settings.query_log_days
            ),
            ResourceOptions(provider=clouds[query_log.REGION]),
        )
    if settings.certificates:
        _certify(settings, failover, topics, clouds)


def _certify(
    settings: TrafficSettings,
    failover: Failover,
    topics: Mapping[str, AlarmTopic],
    clouds: Mapping[str, pulumi.ProviderResource],
) -> None:
    """A certificate for each load balancer that ends TLS; its listener takes the ARN by a setting of its pool."""
    certificates = Certificates(
        "certificates",
        CertificatesArgs(
            zone_id=failover.zone_id,
            sites={
                site: SiteCertificate(
                    names=settings.certificate_names(site), provider=clouds[region], topic=topics[region].arn
                )
                for site, region in settings.certificates.items()
            },
            alert_days=settings.certificate_alert_days,
        ),
    )
    for site, arn in certificates.arns.items():
        Output.concat("certificate of pool-", site, ": ", arn).apply(pulumi.log.info)


def _carried(stack: contract.StackName, settings: TrafficSettings, pools: Mapping[str, Recorded]) -> Output[None]:
    """Known, as nothing, once it is known that the sites minus any one carry the peak; raises SettingError."""
    found = {}
    for site, pool in pools.items():
        serving = Recorded(stack.sibling("serving", site))
        found[site] = Output.all(
            firm_gpus=pool.whole("firm_gpus"),
            gpus_per_pod=serving.whole("gpus_per_pod"),
            triton_replicas=serving.whole("triton_replicas"),
            requests_per_second_per_pod=serving.number("requests_per_second_per_pod"),
            gateway_replicas=serving.whole("gateway_replicas"),
            requests_per_second_per_gateway=serving.number("requests_per_second_per_gateway"),
        )

    def check(known: Mapping[str, Mapping[str, Any]]) -> None:
        sites = {site: capacity.SiteCapacity(weight=settings.sites[site], **each) for site, each in known.items()}
        capacity.check(settings.peak_requests_per_second, sites)

    return Output.all(**found).apply(check)
