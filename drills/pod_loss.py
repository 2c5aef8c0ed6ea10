"""`pod-loss`: a gateway and a model server of a site die at once, and the site carries on."""

from __future__ import annotations

from typing import Final

from drills import objective
from drills.actions.pods import KillPods
from drills.choice import LIVE_ONLY, Choice, check_site, steady, survivors, well
from drills.drill import Drill, Stage
from drills.probes import DnsNames, PodsReady
from stacks.contract import Deployment

NAME: Final = "pod-loss"
REPLACED_SECONDS: Final = 90.0


def drill(deployment: Deployment, choice: Choice) -> Drill:
    """The drill for a site."""
    check_site(deployment, choice.site)
    site = choice.site
    # A connection that died is noticed at once, and the next one goes to a pod that is left.
    limit = deployment.traffic.request_timeout_seconds
    return Drill(
        name=NAME,
        claim=f"{site} lost a gateway and a model server and carried on",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        stages=[
            Stage(
                name="pods lost",
                actions=[KillPods.of(deployment, site)],
                symptom=PodsReady(deployment, site, all_of_them=False),
                lasting=False,
                effect=[PodsReady(deployment, site)],
                effect_seconds=REPLACED_SECONDS,
                throughout=[DnsNames(deployment, site)],
                restored=well(deployment, site),
            )
        ],
        objectives=[
            objective.recovered_within(limit, "last failure of any user"),
            objective.effect_within(REPLACED_SECONDS, "declared pods ready again"),
            objective.stayed("in DNS all the time"),
            objective.no_second_outage,
            *objective.ALWAYS,
        ],
    )
