"""`node-loss`: the machine under half of a site's pods loses power, and the site carries on with the rest."""

from __future__ import annotations

from typing import Any, Final

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from drills import measure, objective
from drills.access import API_TIMEOUT_SECONDS, COMPONENT, cluster
from drills.actions.power import PowerOff
from drills.choice import LIVE_ONLY, Choice, check_site, steady, survivors, well
from drills.drill import Drill, NotRun, Stage
from drills.probes import DnsNames, PodSilent
from stacks.contract import Deployment

NAME: Final = "node-loss"
GRACE_SECONDS: Final = 8.0
"""From the verdict on the node until every proxy has heard it and gateways have given up connections to its pods."""


def drill(deployment: Deployment, choice: Choice) -> Drill:
    """The drill for a site whose machines have a power switch. Raises NotRun for another."""
    check_site(deployment, choice.site)
    site = choice.site
    pod, node = _victim(deployment, site)
    port = pod.spec.containers[0].ports[0].container_port
    limit = deployment.pool[site].node_grace_seconds + deployment.traffic.request_timeout_seconds + GRACE_SECONDS
    return Drill(
        name=NAME,
        claim=f"{site} lost machine {node.metadata.name} and carried on with the others",
        site=site,
        levels=LIVE_ONLY,
        steady=steady(deployment),
        abort=survivors(deployment, site),
        avoid_nodes=[node.metadata.name],
        stages=[
            Stage(
                name="machine lost",
                actions=[PowerOff.of(deployment, site, node.spec.provider_id or "")],
                symptom=PodSilent(deployment, site, pod.metadata.name, port),
                lasting=False,
                throughout=[DnsNames(deployment, site)],
                least_seconds=limit + measure.detection_seconds(deployment.traffic),
                restored=well(deployment, site),
                restore_seconds=240.0,
            )
        ],
        objectives=[
            objective.recovered_within(limit, "last failure of any user"),
            objective.hurt,
            objective.stayed("in DNS all the time"),
            objective.served_by_site,
            objective.none_late,
            *objective.ALWAYS,
        ],
    )


def _victim(deployment: Deployment, site: str) -> tuple[Any, Any]:
    """A gateway's pod and its node, chosen so that other gateways stand elsewhere where there are any."""
    serving, core = deployment.serving[site], cluster(deployment, site).core
    try:
        pods = core.list_namespaced_pod(
            serving.namespace,
            label_selector=f"{COMPONENT}={serving.gateway_deployment}",
            _request_timeout=API_TIMEOUT_SECONDS,
        ).items
        staying = [pod for pod in pods if pod.spec.node_name and pod.metadata.deletion_timestamp is None]
        placed = sorted(staying, key=lambda pod: str(pod.metadata.name))
        if not placed:
            raise NotRun(f"{site}: no gateway stands on a node, so there is no machine to lose")
        per_node: dict[str, int] = {}
        for pod in placed:
            per_node[pod.spec.node_name] = per_node.get(pod.spec.node_name, 0) + 1
        if len(per_node) == 1 < len(placed):
            raise NotRun(
                f"{site}: all {len(placed)} gateways stand on {placed[0].spec.node_name}; to lose it is to lose the"
                f" site, another drill: delete pod {placed[-1].metadata.name}, and a new one comes up elsewhere"
            )
        pod = min(placed, key=lambda pod: (per_node[pod.spec.node_name], pod.spec.node_name))
        return pod, core.read_node(pod.spec.node_name, _request_timeout=API_TIMEOUT_SECONDS)
    except (ApiException, HTTPError, OSError) as error:
        raise NotRun(f"{site}: its pods and nodes cannot be read: {type(error).__name__} {error}"[:300]) from error
