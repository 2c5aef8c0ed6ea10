"""Rules of how a cluster's objects stand to each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.inputs import at, many, number, of_type
from infra.policies.pods import (
    DAEMON_SET,
    JOB,
    SERVERS,
    SITE,
    WORKLOADS,
    namespace,
    selects,
    template,
)
from infra.policies.rule import (
    Finding,
    resource_rule,
    site_of,
    stack_rule,
    unsure,
    wrong,
)

NETWORK_POLICY: Final = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
BUDGET: Final = "kubernetes:policy/v1:PodDisruptionBudget"
NAMESPACE: Final = "kubernetes:core/v1:Namespace"
SERVICE: Final = "kubernetes:core/v1:Service"
SCALED_OBJECT: Final = "kubernetes:keda.sh/v1alpha1:ScaledObject"
CHART: Final = "kubernetes:helm.sh/v3:Release"
ENVIRONMENT: Final = "tandem.io/environment"
ENFORCED: Final = "pod-security.kubernetes.io/enforce"
SPREAD_OVER: Final = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


def _servers(stack: StackDeclared) -> list[Declared]:
    return of_type(stack, *SERVERS)


def _nearby(others: list[Declared], server: Declared) -> tuple[list[Declared], bool]:
    """Those in the server's namespace, and whether more may turn out to be.

    Two namespaces that another stack will name are taken for one: a stack has the one of its site.
    """
    found = [other for other in others if namespace(other) == namespace(server)]
    return found, any(UNKNOWN in (namespace(one), namespace(server)) for one in others if one not in found)


@stack_rule(
    "default-deny",
    "In a namespace with servers nothing is reached and nothing is called unless another policy names the flow.",
)
def default_deny(stack: StackDeclared) -> Iterator[Finding]:
    """A NetworkPolicy for every pod of the namespace, both directions, with no rule in it."""
    policies = of_type(stack, NETWORK_POLICY)
    for server in _servers(stack):
        nearby, more = _nearby(policies, server)
        for direction in ("Ingress", "Egress"):
            if any(_denies(policy, direction) for policy in nearby):
                continue
            if more or any(at(policy.inputs, "spec") == UNKNOWN for policy in nearby):
                yield unsure(server, f"which policies deny {direction} in its namespace")
            else:
                yield wrong(
                    server,
                    f"no policy denies {direction} by default in its namespace; what nobody named could be reached from"
                    f" there: declare a NetworkPolicy with podSelector {{}} and policyTypes {direction}, without rules",
                )


def _denies(policy: Declared, direction: str) -> bool:
    spec = at(policy.inputs, "spec")
    everyone = not at(spec, "podSelector", "matchLabels") and not at(spec, "podSelector", "matchExpressions")
    return everyone and direction in many(at(spec, "policyTypes")) and not at(spec, direction.lower())


@stack_rule(
    "disruption-budget",
    "Every server has one disruption budget, which lets one pod go and never all of them.",
)
def disruption_budget(stack: StackDeclared) -> Iterator[Finding]:
    """Without one a node drain takes all pods; with two, or with one that lets none go, it never ends."""
    for server in _servers(stack):
        labels = at(template(server), "metadata", "labels")
        nearby, more = _nearby(of_type(stack, BUDGET), server)
        found = [budget for budget in nearby if selects(at(budget.inputs, "spec", "selector"), labels)]
        if not found and (more or labels == UNKNOWN):
            yield unsure(server, "which disruption budgets are in its namespace")
            continue
        if len(found) != 1:
            yield wrong(
                server,
                f"{len(found)} disruption budgets select its pods; a drain must neither take them all nor hang: declare"
                " one PodDisruptionBudget with max_unavailable=1 and its selector",
            )
            continue
        spec, replicas = at(found[0].inputs, "spec"), number(at(server.inputs, "spec", "replicas"))
        most, least = at(spec, "maxUnavailable"), at(spec, "minAvailable")
        if UNKNOWN in (most, least):
            yield unsure(server, "its disruption budget")
        elif _none_may_go(most, least, replicas) or (number(most) or 0) >= (replicas or 2) > 1 or most == "100%":
            yield wrong(
                found[0],
                f"maxUnavailable is {most} and minAvailable {least} of {replicas} replicas; one pod may go and one"
                " stays: set max_unavailable=1",
            )


def _none_may_go(most: Any, least: Any, replicas: float | None) -> bool:
    if most is not None:
        return number(str(most).rstrip("%")) == 0
    kept = number(least)
    return least in (None, "100%") or (kept is not None and replicas is not None and kept >= replicas)


@resource_rule(
    "topology-spread",
    "The pods of a server spread over zones and over nodes.",
    *SERVERS,
)
def topology_spread(server: Declared) -> Iterator[Finding]:
    """A constraint for each, on the pods' own labels; one that selects other pods spreads nothing."""
    labels = at(template(server), "metadata", "labels")
    constraints = many(at(template(server), "spec", "topologySpreadConstraints"))
    if UNKNOWN in constraints:
        yield unsure(server, "its topology spread")
        return
    over = {
        at(constraint, "topologyKey") for constraint in constraints if selects(at(constraint, "labelSelector"), labels)
    }
    missing = [key for key in SPREAD_OVER if key not in over]
    if missing:
        yield wrong(
            server,
            f"nothing spreads its pods over {', '.join(missing)}; one lost node or zone would take them all: add a"
            " topologySpreadConstraint for each, on the pods' own labels",
        )


@resource_rule(
    "labelled-with-site",
    f"Every workload, service and namespace, and every pod of it, says its site in the label {SITE}.",
    *WORKLOADS,
    SERVICE,
    NAMESPACE,
    NETWORK_POLICY,
)
def labelled_with_site(resource: Declared) -> Iterator[Finding]:
    """What a drill, an alert or a bill is grouped by."""
    site = site_of(resource.stack)
    places = {"metadata.labels": at(resource.inputs, "metadata", "labels")}
    if resource.type in (*SERVERS, DAEMON_SET, JOB):
        places["the pods' labels"] = at(template(resource), "metadata", "labels")
    for place, labels in places.items():
        found = at(labels, SITE)
        if found == UNKNOWN:
            yield unsure(resource, f"{SITE} of {place}")
        elif found != site:
            yield wrong(
                resource,
                f"{SITE} in {place} is {found}; drills, alerts and bills group by it: set it to {site or 'the site'}"
                " with infra.naming.labels",
            )


@resource_rule(
    "namespace-restricted",
    "The namespace of an environment's workloads enforces the pod security standard `restricted`.",
    NAMESPACE,
)
def namespace_restricted(space: Declared) -> Iterator[Finding]:
    """The cluster refuses what these rules would not see."""
    labels = at(space.inputs, "metadata", "labels")
    if at(labels, ENVIRONMENT) is not None and at(labels, ENFORCED) not in ("restricted", UNKNOWN):
        yield wrong(
            space,
            f"{ENFORCED} is {at(labels, ENFORCED)}; pods of users' requests gain no privilege: set it to restricted",
        )


@resource_rule("charts-pinned", "Every chart is named with one exact version.", CHART)
def charts_pinned(chart: Declared) -> Iterator[Finding]:
    """A range installs tomorrow what nobody read today."""
    version = at(chart.inputs, "version")
    parts = str(version or "").lstrip("v").partition("+")[0].partition("-")[0].split(".")
    if version == UNKNOWN:
        yield unsure(chart, "its version")
    elif len(parts) != 3 or not all(part.isdigit() for part in parts):
        yield wrong(
            chart,
            f"version of chart {at(chart.inputs, 'chart')} is {version}; two clusters of one setting run the same: name"
            " one version, like 1.2.3",
        )


RULES: Final = (
    default_deny,
    disruption_budget,
    topology_spread,
    labelled_with_site,
    namespace_restricted,
    charts_pinned,
)
