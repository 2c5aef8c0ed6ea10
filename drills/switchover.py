"""`switchover`: a site fails, and DNS leads its users to the others within the promised time."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from itertools import islice
from typing import Final

from drills import measure, objective
from drills.actions.network_chaos import FlappingChaos, NetworkChaos, delay
from drills.actions.network_policy import CutSources
from drills.actions.scale import ScaleToZero
from drills.choice import LIVE_ONLY, Choice, check_site, steady, survivors, well
from drills.drill import Action, Drill, NotRun, Stage
from drills.probes import CheckersSplit, DnsNames, Unreachable
from stacks.contract import Deployment

NAME: Final = "switchover"
SLOW_SECONDS: Final = 10.0
"""Later than any deadline on the way."""
FLAP_SECONDS: Final = 8.0
FLAPS: Final = 6
MARGIN_SECONDS: Final = 15.0
"""Watched beyond the bound, so that a recovery that comes too late is measured and not only missed."""


def drill(deployment: Deployment, choice: Choice) -> Drill:
    """The drill with one of its faults. Raises NotRun for one that is not known."""
    check_site(deployment, choice.site)
    return FAULTS[known_fault(choice.fault)](deployment, choice.site)


def known_fault(fault: str) -> str:
    """The fault asked for, or the one that is meant by none. Raises NotRun for one that is not known."""
    if fault and fault not in FAULTS:
        raise NotRun(f"fault {fault!r} is not known; choose one of {', '.join(sorted(FAULTS))}")
    return fault or "down"


def _lost(deployment: Deployment, site: str, fault: str, action: Action, limit: float) -> Drill:
    """The site is gone for its users until the fault is lifted; by the arithmetic they fail for `limit` seconds."""
    return Drill(
        name=f"{NAME}-{fault}",
        claim=f"{site} was lost ({fault}) and its users were answered by the others in time",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        stages=[
            Stage(
                name="site lost",
                actions=[action],
                symptom=Unreachable(deployment, site),
                effect=[DnsNames(deployment, site, leads=False)],
                effect_seconds=limit + MARGIN_SECONDS,
                restored=well(deployment, site),
            )
        ],
        objectives=[
            objective.recovered_within(limit, "recovery, against the arithmetic"),
            objective.recovered,
            objective.hurt,
            objective.lasted,
            objective.dropped,
            objective.unvisited,
            objective.carried,
            objective.none_late,
            *objective.ALWAYS,
        ],
    )


def down(deployment: Deployment, site: str) -> Drill:
    """Every serving pod of the site is gone."""
    return _lost(
        deployment, site, "down", ScaleToZero.of(deployment, site), measure.recovery_bound_seconds(deployment.traffic)
    )


def blackhole(deployment: Deployment, site: str) -> Drill:
    """Nothing anybody sends anew reaches the site, and nobody is told; open connections end as the network has it."""
    return _lost(
        deployment,
        site,
        "blackhole",
        CutSources.of(deployment, site),
        measure.recovery_bound_seconds(deployment.traffic),
    )


def slow(deployment: Deployment, site: str) -> Drill:
    """The model servers answer, but past every deadline: the golden result turns stale and the site leaves."""
    action = NetworkChaos.between(deployment, site, delay(SLOW_SECONDS))
    limit = measure.illness_bound_seconds(deployment.traffic, deployment.serving[site])
    return _lost(deployment, site, "slow", action, limit)


def flapping(deployment: Deployment, site: str) -> Drill:
    """The site is ill and well by turns: its hold-down keeps it out until it is well for good."""
    link = NetworkChaos.between(deployment, site, delay(SLOW_SECONDS))
    action = FlappingChaos(link.cluster, site, link.namespace, link.spec, FLAP_SECONDS)
    limit = measure.illness_bound_seconds(deployment.traffic, deployment.serving[site])
    gone = DnsNames(deployment, site, leads=False)
    return Drill(
        name=f"{NAME}-flapping",
        claim=f"{site} was ill and well by turns, left once and stayed away until it was well for good",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        stages=[
            Stage(
                name="site flaps",
                actions=[action],
                symptom=Unreachable(deployment, site),
                lasting=False,
                effect=[gone],
                effect_seconds=limit + FLAP_SECONDS,
                always=[gone],
                least_seconds=limit + 2 * FLAPS * FLAP_SECONDS,
                restored=well(deployment, site),
            )
        ],
        objectives=[
            objective.recovered_within(limit + FLAP_SECONDS, "recovery, against the arithmetic"),
            objective.hurt,
            objective.dropped,
            objective.stayed("out of DNS while it flapped"),
            objective.carried,
            objective.no_second_outage,
            *objective.ALWAYS,
        ],
    )


def partial(deployment: Deployment, site: str) -> Drill:
    """Half of the checkers cannot reach the site: by Route 53's rule it stays, and users elsewhere notice nothing."""
    networks = deployment.traffic.checker_cidrs
    if len(networks) < 2:
        raise NotRun(
            f"checker_cidrs of {deployment.env} are {networks or 'not known'}, and this drill cuts half of two or more:"
            " set them in the traffic stack's settings and bring it up"
        )
    cut = sorted(networks)[: len(networks) // 2]
    behind = local_address(cut)
    leads = DnsNames(deployment, site)
    return Drill(
        name=f"{NAME}-partial",
        claim=f"half of the checkers could not reach {site}, and it stayed: only users behind the cut noticed",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        source_addresses=("", "", "", behind) if behind else (),
        stages=[
            Stage(
                name="half the checkers cut off",
                actions=[CutSources.of(deployment, site, cut)],
                symptom=CheckersSplit(deployment, site),
                bite_seconds=3.0
                * (deployment.traffic.health_interval_seconds + deployment.traffic.probe_timeout_seconds),
                always=[leads],
                least_seconds=measure.recovery_bound_seconds(deployment.traffic) + MARGIN_SECONDS,
                quiet_seconds=0.0,
                restored=well(deployment, site),
            )
        ],
        objectives=[
            objective.stayed("in DNS all the time"),
            objective.lasted,
            objective.none_failed_elsewhere,
            objective.cut_off_noticed,
            objective.none_late,
            *objective.WITHOUT_AVAILABILITY,
        ],
    )


def local_address(networks: list[str]) -> str:
    """An address of these networks that this machine may ask from; empty where it has none."""
    for network in networks:
        for address in islice(ipaddress.ip_network(network).hosts(), 8):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind((str(address), 0))
                except OSError:
                    break
            return str(address)
    return ""


FAULTS: Final[dict[str, Callable[[Deployment, str], Drill]]] = {
    "down": down,
    "blackhole": blackhole,
    "slow": slow,
    "flapping": flapping,
    "partial": partial,
}
