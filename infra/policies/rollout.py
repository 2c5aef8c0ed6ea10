"""Rules of how servers are replaced: that it comes to an end, and that somebody answers meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.inputs import at, known, number, of_type
from infra.policies.pods import DEPLOYMENT, SERVERS, gpus
from infra.policies.rule import PROD, Finding, Rule, Stacks, layer_of, site_of, stack_rule, unsure, wrong

SCALED_OBJECT: Final = "kubernetes:keda.sh/v1alpha1:ScaledObject"


def _rollout(server: Declared) -> tuple[float, float] | None:
    """Pods that may be missing and pods that may come on top while it rolls; None where not known."""
    spec = at(server.inputs, "spec")
    strategy = at(spec, "strategy")
    if not known(strategy, at(spec, "replicas")):
        return None
    replicas = number(at(spec, "replicas"))
    replicas = 1.0 if replicas is None else replicas
    if at(strategy, "type") == "Recreate":
        return replicas, 0.0
    rolling = at(strategy, "rollingUpdate")
    missing = _share(at(rolling, "maxUnavailable"), replicas, up=False)
    surge = _share(at(rolling, "maxSurge"), replicas, up=True)
    return missing, surge


def _share(value: Any, replicas: float, *, up: bool) -> float:
    """A number or a percentage of the replicas as Kubernetes rounds it: surge up, unavailable down; 25 % if not set."""
    text = "25%" if value is None else str(value)
    if not text.endswith("%"):
        return number(text) or 0.0
    exact = (number(text[:-1]) or 0.0) * replicas / 100
    return float(-(-exact // 1)) if up else float(exact // 1)


def _rollout_headroom(stacks: Stacks) -> Iterator[Finding]:
    """A new pod that needs a GPU before an old one goes waits for ever where every GPU is taken."""
    for stack in stacks.values():
        for server in of_type(stack, DEPLOYMENT):
            asked, rolls = gpus(server), _rollout(server)
            if asked is None or rolls is None:
                yield unsure(server, "how many GPUs its pods ask for, or how it rolls")
                continue
            missing, surge = rolls
            if not asked or missing >= 1:
                continue
            replicas = number(at(server.inputs, "spec", "replicas")) or 1
            free = _gpus_of(site_of(stack.stack), stacks)
            if free is None:
                yield unsure(server, f"how many GPUs pool-{site_of(stack.stack)} has")
            elif free < (replicas + surge) * asked:
                yield wrong(
                    server,
                    f"maxUnavailable is 0 and its site has {free:g} GPUs, all of them for {replicas:g} pods of"
                    f" {asked:g}; a rollout would wait for a GPU for ever: set max_unavailable=1 with max_surge=0, or"
                    " give the pool a node more",
                )


def _gpus_of(site: str, stacks: Stacks) -> float | None:
    for stack in stacks.values():
        if layer_of(stack.stack) == "pool" and site_of(stack.stack) == site:
            return number(stack.outputs.get("firm_gpus"))
    return None


rollout_headroom: Final = Rule(
    name="rollout-headroom",
    says="A rollout of pods with GPUs lets an old pod go first, unless the site has a GPU to spare for the new one.",
    over="stack",
    judge=_rollout_headroom,
)


@stack_rule(
    "never-alone",
    "In prod every server has two pods at least, and one of them stays while the others roll.",
    only=PROD,
)
def never_alone(stack: StackDeclared) -> Iterator[Finding]:
    """A site with one pod is lost with it, and a rollout of one pod is an outage."""
    for server in of_type(stack, *SERVERS):
        replicas, rolls = at(server.inputs, "spec", "replicas"), _rollout(server)
        if replicas == UNKNOWN or rolls is None:
            yield unsure(server, "how many replicas it has, or how it rolls")
            continue
        count = number(replicas)
        count = 1.0 if count is None else count
        if not _scaled(stack, server) and (count < 2 or (server.type == DEPLOYMENT and rolls[0] >= count)):
            yield wrong(
                server,
                f"replicas is {count:g} and {rolls[0]:g} may be missing while it rolls; a server is never alone: set at"
                " least 2 replicas and max_unavailable=1",
            )
    for scaler in of_type(stack, SCALED_OBJECT):
        least = at(scaler.inputs, "spec", "minReplicaCount")
        if least != UNKNOWN and (number(least) or 0) < 2:
            yield wrong(
                scaler,
                f"minReplicaCount is {least}; a server is never alone, not at night either: set at least 2",
            )


def _scaled(stack: StackDeclared, server: Declared) -> bool:
    """Whether a ScaledObject says how many pods there are, in the manifest's place."""
    name = at(server.inputs, "metadata", "name")
    return any(at(scaler.inputs, "spec", "scaleTargetRef", "name") == name for scaler in of_type(stack, SCALED_OBJECT))


RULES: Final = (rollout_headroom, never_alone)
