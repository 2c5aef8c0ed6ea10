"""`control-plane-down`: the AWS API refuses every write, and a site can be drained and lost all the same."""

from __future__ import annotations

from typing import Final

from drills import measure, objective
from drills.actions.drain_mark import MarkDrained
from drills.actions.refused_writes import RefuseWrites
from drills.actions.scale import ScaleToZero
from drills.choice import LIVE_ONLY, Choice, check_site, steady, survivors, well
from drills.drill import Drill, Stage
from drills.probes import DnsNames, MarkSeen, Unreachable, WritesAsked, WritesRefused
from drills.switchover import MARGIN_SECONDS
from stacks.contract import Deployment

NAME: Final = "control-plane-down"


def drill(deployment: Deployment, choice: Choice) -> Drill:
    """The drill for a site. Raises NotRun where the API is AWS's own."""
    check_site(deployment, choice.site)
    traffic, site = deployment.traffic, choice.site
    limit = measure.recovery_bound_seconds(traffic)
    gone = DnsNames(deployment, site, leads=False)
    return Drill(
        name=NAME,
        claim=f"with every write to the AWS API refused, {site} was lost and drained and its users were led elsewhere",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        frame=[RefuseWrites.of(deployment, site)],
        frame_symptom=WritesRefused(traffic.dns_api),
        meters=[WritesAsked(traffic.dns_api)],
        stages=[
            Stage(
                name="site lost",
                actions=[ScaleToZero.of(deployment, site)],
                symptom=Unreachable(deployment, site),
                effect=[gone],
                effect_seconds=limit + MARGIN_SECONDS,
                restored=well(deployment, site),
            ),
            Stage(
                name="site drained",
                actions=MarkDrained.of(deployment, site),
                symptom=MarkSeen(deployment, site),
                bite_seconds=limit + MARGIN_SECONDS,
                effect=[gone],
                effect_seconds=limit,
                restored=well(deployment, site),
            ),
        ],
        objectives=[
            objective.recovered,
            objective.hurt,
            objective.lasted,
            objective.dropped,
            objective.unvisited,
            objective.carried,
            objective.no_second_outage,
            objective.nothing_written,
            *objective.ALWAYS,
        ],
    )
