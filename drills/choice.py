"""What somebody asks of a drill, and the parts every drill of a site is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drills.drill import Level, NotRun, Probe
from drills.probes import DnsHealth, DnsNames, GoldenAnswer, NothingShed, PodsReady
from stacks.contract import Deployment

EVERY_LEVEL = frozenset(Level)
LIVE_ONLY = frozenset({Level.LIVE})


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The site a drill disturbs, and how."""

    site: str
    fault: str = ""
    level: Level = Level.LIVE


def check_site(deployment: Deployment, site: str) -> None:
    """Raise NotRun for a site that is not declared."""
    sites = sorted(deployment.traffic.sites)
    if site not in sites:
        raise NotRun(f"site {site!r} is not declared; choose one of {', '.join(sites)}")


def well(deployment: Deployment, site: str, *, shadow: bool = False) -> list[Probe]:
    """What holds of a site that serves."""
    probes: list[Probe] = [
        PodsReady(deployment, site),
        GoldenAnswer(deployment, site),
        DnsHealth(deployment, site),
    ]
    if deployment.traffic.sites[site].weight > 0:
        probes.append(DnsNames(deployment, site, shadow=shadow))
    return probes


def steady(deployment: Deployment, *, shadow: bool = False) -> list[Probe]:
    """What holds of every site before anything is touched."""
    return [probe for site in sorted(deployment.traffic.sites) for probe in well(deployment, site, shadow=shadow)]


def survivors(deployment: Deployment, site: str) -> Sequence[Probe]:
    """What has to hold of the other sites while one is broken: right golden answers, and nobody turned away."""
    others = [other for other in sorted(deployment.traffic.sites) if other != site]
    return [probe for other in others for probe in (GoldenAnswer(deployment, other), NothingShed(deployment, other))]
