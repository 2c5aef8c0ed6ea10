"""Rules of how the sites of an environment stand to each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final

from infra import capacity
from infra.policies.declared import StackDeclared
from infra.policies.inputs import known, many, number
from infra.policies.rule import (
    PROD,
    Finding,
    Stacks,
    environment_of,
    environment_rule,
    layer_of,
    site_of,
    unsure,
    wrong,
)

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
POOL_KEYS: Final = ("firm_gpus",)
SERVING_KEYS: Final = (
    "gpus_per_pod",
    "triton_replicas",
    "requests_per_second_per_pod",
    "gateway_replicas",
    "requests_per_second_per_gateway",
)
DIGEST_KEYS: Final = ("model_digest", "accepted_digests")
PEAK: Final = "peak_requests_per_second"


def _of(stacks: Stacks, layer: str) -> dict[str, StackDeclared]:
    """The stacks of a layer, by site."""
    return {site_of(name): stack for name, stack in sorted(stacks.items()) if layer_of(name) == layer}


@environment_rule(
    "digests-within-one-rollout",
    "Every site serves a digest it accepts itself; two sites serve different ones only while one rolls to the other's.",
)
def digests_within_one_rollout(stacks: Stacks) -> Iterator[Finding]:
    """Two digests at most are served, and of two sites that differ one accepts what the other serves."""
    served: dict[str, str] = {}
    accepted: dict[str, list[Any]] = {}
    by_site = _of(stacks, "serving")
    for site, stack in by_site.items():
        digest, others = (stack.outputs.get(key) for key in DIGEST_KEYS)
        if not known(digest, others):
            yield unsure(stack, "its model_digest or its accepted_digests")
            continue
        wild = [one for one in (digest, *many(others)) if not _DIGEST.fullmatch(str(one))]
        if wild:
            yield wrong(
                stack,
                f"{wild[0]!r} is among its digests; a version is sha256: and 64 hex digits: `tandem model status` lists"
                " those that are published",
            )
            continue
        served[site], accepted[site] = str(digest), many(others)
        if digest not in accepted[site]:
            yield wrong(
                stack,
                f"model_digest is {digest} and accepted_digests {accepted[site]}; every answer would count as wrong:"
                " add the served one",
            )
    for one, other in combinations(served, 2):
        if served[one] != served[other] and served[one] not in accepted[other] and served[other] not in accepted[one]:
            yield wrong(
                by_site[other],
                f"model_digest is {served[other]} and {one} serves {served[one]}, which it does not accept, nor the"
                " other way round; sites are one rollout apart at most: finish one rollout before the next",
            )
    if len(set(served.values())) > 2:
        yield wrong(
            by_site[max(served)],
            f"the sites serve {sorted(set(served.values()))}; two versions at most are served at a time: finish one"
            " rollout before the next",
        )


@environment_rule(
    "capacity-minus-one",
    "The sites minus any one carry the declared peak on capacity nobody takes away: minimum nodes that are not spot.",
)
def capacity_minus_one(stacks: Stacks) -> Iterator[Finding]:
    """Each remaining site carries its share, by infra.capacity; in prod a peak above 0 is declared."""
    for traffic in _of(stacks, "traffic").values():
        peak = traffic.outputs.get(PEAK)
        if not known(peak):
            yield unsure(traffic, PEAK)
            continue
        if not number(peak):
            if environment_of(traffic.stack) == PROD:
                yield wrong(
                    traffic,
                    f"{PEAK} is {peak}; prod says what it carries with a site lost: declare the load of the busiest"
                    f" hour in tandem:{PEAK}",
                )
            continue
        yield from _shortfalls(number(peak) or 0.0, traffic, stacks)


def _shortfalls(peak: float, traffic: StackDeclared, stacks: Stacks) -> Iterator[Finding]:
    pools, servings = _of(stacks, "pool"), _of(stacks, "serving")
    sites: dict[str, capacity.SiteCapacity] = {}
    for site, endpoint in sorted((traffic.outputs.get("sites") or {}).items()):
        weight = number(endpoint.get("weight") if isinstance(endpoint, Mapping) else None)
        figures: dict[str, float | None] = {}
        for held, keys in ((pools.get(site), POOL_KEYS), (servings.get(site), SERVING_KEYS)):
            figures |= {key: number(held.outputs.get(key)) if held else None for key in keys}
        missing = [key for key, value in figures.items() if value is None]
        if weight is None or missing:
            yield unsure(traffic, f"{', '.join(missing) or 'the weight'} of {site}")
            return
        given = {key: value for key, value in figures.items() if value is not None}
        sites[site] = capacity.SiteCapacity(
            weight=int(weight),
            firm_gpus=int(given["firm_gpus"]),
            gpus_per_pod=int(given["gpus_per_pod"]),
            triton_replicas=int(given["triton_replicas"]),
            requests_per_second_per_pod=given["requests_per_second_per_pod"],
            gateway_replicas=int(given["gateway_replicas"]),
            requests_per_second_per_gateway=given["requests_per_second_per_gateway"],
        )
    if len(sites) < 2:
        yield wrong(
            traffic,
            f"{PEAK} is {peak:g} and {', '.join(sites) or 'no site'} is all there is; with it everything is lost: add a"
            " site, or declare a peak of 0",
        )
    for short in capacity.shortfalls(peak, sites):
        yield wrong(
            traffic,
            f"{PEAK} is {peak:g}; {short}; the sites minus any one carry it: make what is named larger, or declare a"
            " smaller peak",
        )


RULES: Final = (digests_within_one_rollout, capacity_minus_one)
