"""`drain`: a site is emptied for maintenance and filled again, and nobody notices."""

from __future__ import annotations

from typing import Final

from drills import measure, objective
from drills.actions.drain_mark import MarkDrained
from drills.choice import EVERY_LEVEL, Choice, check_site, steady, survivors, well
from drills.drill import Drill, Level, Stage
from drills.probes import DnsNames, MarkSeen
from stacks.contract import Deployment

NAME: Final = "drain"
GRACE_SECONDS: Final = 5.0
EMPTY_SECONDS: Final = 10.0
"""Watched while the site is empty."""


def drill(deployment: Deployment, choice: Choice) -> Drill:
    """The drill for a site; at level shadow only the shadow name leaves it."""
    check_site(deployment, choice.site)
    traffic, site, shadow = deployment.traffic, choice.site, choice.level is Level.SHADOW
    limit = traffic.ttl_seconds + measure.detection_seconds(traffic) + GRACE_SECONDS
    gone = DnsNames(deployment, site, leads=False, shadow=shadow)
    return Drill(
        name=NAME,
        claim=f"{site} was emptied and filled again without one failed request",
        site=site,
        levels=EVERY_LEVEL,
        shadow=shadow,
        # Gateways close kept connections for the live mark only: they cannot tell whose user is synthetic.
        classes=("dns",) if shadow else ("dns", "dns-keepalive"),
        steady=steady(deployment, shadow=shadow),
        abort=survivors(deployment, site),
        stages=[
            Stage(
                name="site drained",
                actions=MarkDrained.of(deployment, site, shadow=shadow),
                symptom=MarkSeen(deployment, site, shadow=shadow),
                bite_seconds=measure.detection_seconds(traffic),
                effect=[gone],
                effect_seconds=limit,
                least_seconds=limit + EMPTY_SECONDS,
                restored=well(deployment, site, shadow=shadow),
            )
        ],
        objectives=[
            objective.none_failed,
            objective.emptied_within(limit),
            objective.dropped,
            objective.lasted,
            objective.carried,
            *objective.ALWAYS,
        ],
    )
