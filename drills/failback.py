"""`failback`: a lost site comes back, relapses, and its hold-down spares everybody a second outage."""

from __future__ import annotations

from typing import Final

from drills import measure, objective
from drills.actions.network_chaos import NetworkChaos, delay
from drills.choice import LIVE_ONLY, Choice, check_site, steady, survivors, well
from drills.drill import Drill, Stage
from drills.probes import DnsNames, Unreachable
from drills.switchover import MARGIN_SECONDS, SLOW_SECONDS
from stacks.contract import Deployment

NAME: Final = "failback"
RELAPSE_SECONDS: Final = 12.0


def drill(deployment: Deployment, choice: Choice) -> Drill:
    """The drill for a site."""
    check_site(deployment, choice.site)
    site, serving = choice.site, deployment.serving[choice.site]
    link = NetworkChaos.between(deployment, site, delay(SLOW_SECONDS))
    limit = measure.illness_bound_seconds(deployment.traffic, serving)
    return Drill(
        name=NAME,
        claim=f"{site} came back, relapsed and came back again, and its users were hurt once",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        stages=[
            Stage(
                name="site lost",
                actions=[link],
                symptom=Unreachable(deployment, site),
                effect=[DnsNames(deployment, site, leads=False)],
                effect_seconds=limit + MARGIN_SECONDS,
                # Shortly before a site with its hold-down would be back, and well after one without would be.
                pause_seconds=max(serving.hold_down_seconds - 2.0, 18.0),
            ),
            Stage(
                name="relapse",
                actions=[link],
                symptom=Unreachable(deployment, site),
                least_seconds=RELAPSE_SECONDS,
                quiet_seconds=0.0,
                restored=well(deployment, site),
                restore_seconds=180.0,
            ),
        ],
        objectives=[
            objective.recovered_within(limit, "recovery, against the arithmetic"),
            objective.hurt,
            objective.lasted,
            objective.dropped,
            objective.carried,
            objective.no_second_outage,
            objective.returned_not_before,
            *objective.ALWAYS,
        ],
    )
