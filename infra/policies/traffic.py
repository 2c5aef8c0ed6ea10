"""Rules of names, weights and health checks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from infra.policies.inputs import at, known, many, number, of_type, truth
from infra.policies.rule import Finding, resource_rule, stack_rule, unsure, wrong

RECORD: Final = "aws:route53/record:Record"
HEALTH_CHECK: Final = "aws:route53/healthCheck:HealthCheck"
ALARM: Final = "aws:cloudwatch/metricAlarm:MetricAlarm"
LONGEST_TTL_SECONDS: Final = 60
WEIGHT_LIMIT: Final = 255
ADDRESSES: Final = ("A", "AAAA", "CNAME")
MATCHING: Final = ("HTTP_STR_MATCH", "HTTPS_STR_MATCH")
UNMATCHED: Final = ("HTTP", "HTTPS", "TCP")


def _weight(record: Declared) -> Any:
    """The weight of a weighted record; None where it is not weighted."""
    policies = many(at(record.inputs, "weightedRoutingPolicies"))
    return at(policies[0], "weight") if policies else None


@resource_rule(
    "weighted-record-checked",
    "Every weighted record has a health check; one without counts as healthy for ever.",
    RECORD,
)
def weighted_record_checked(record: Declared) -> Iterator[Finding]:
    """https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/health-checks-how-route-53-chooses-records.html."""
    if _weight(record) is not None and not at(record.inputs, "healthCheckId"):
        yield wrong(
            record,
            f"healthCheckId of {at(record.inputs, 'name')} is not set; a lost site would go on getting its share: give"
            " it the check of its site",
        )


@resource_rule(
    "ttl-short",
    f"A name users ask for is kept by resolvers for at most {LONGEST_TTL_SECONDS} s.",
    RECORD,
)
def ttl_short(record: Declared) -> Iterator[Finding]:
    """Aliases have the TTL of their target, which is 60 s at a load balancer; validation records answer nobody."""
    answers_users = at(record.inputs, "type") in ADDRESSES and not str(at(record.inputs, "name")).startswith("_")
    if at(record.inputs, "aliases") or not (answers_users or _weight(record) is not None):
        return
    ttl = at(record.inputs, "ttl")
    seconds = number(ttl)
    if ttl == UNKNOWN:
        # The name of a validation record is not known before its certificate.
        if at(record.inputs, "name") != UNKNOWN:
            yield unsure(record, "ttl")
    elif (seconds is None or not 0 < seconds <= LONGEST_TTL_SECONDS) and at(record.inputs, "name") != UNKNOWN:
        yield wrong(
            record,
            f"ttl is {ttl}; after a site is lost, users go on asking it for that long: set ttl_seconds to 1 to"
            f" {LONGEST_TTL_SECONDS}",
        )


@stack_rule(
    "weights-sane",
    f"Weights are whole numbers from 0 to {WEIGHT_LIMIT}, each name has one above 0, and each record an identifier.",
)
def weights_sane(stack: StackDeclared) -> Iterator[Finding]:
    """With every weight 0 all sites would share alike, which nobody meant."""
    groups: dict[tuple[str, str], list[Declared]] = defaultdict(list)
    for record in of_type(stack, RECORD):
        if _weight(record) is not None:
            groups[str(at(record.inputs, "name")), str(at(record.inputs, "type"))].append(record)
    for (name, _), records in groups.items():
        weights = [_weight(record) for record in records]
        for record, weight in zip(records, weights, strict=True):
            value = number(weight)
            if weight == UNKNOWN:
                yield unsure(record, "its weight")
            elif value is None or value != int(value) or not 0 <= value <= WEIGHT_LIMIT:
                yield wrong(
                    record, f"weight is {weight}; a weight is a whole number from 0 to {WEIGHT_LIMIT}: correct it"
                )
        if known(*weights) and not any(number(weight) for weight in weights):
            yield wrong(
                records[0],
                f"weights of {name} are {[number(weight) for weight in weights]}; with every weight 0 no site is"
                " preferred: give at least one site a weight above 0",
            )
        identifiers = [at(record.inputs, "setIdentifier") for record in records]
        for record, identifier in zip(records, identifiers, strict=True):
            if not identifier or (identifier != UNKNOWN and identifiers.count(identifier) > 1):
                yield wrong(
                    record,
                    f"setIdentifier is {identifier!r}; each weighted record of {name} has its own: name its site",
                )


@resource_rule(
    "check-means-something",
    "A health check asks for the golden word, a calculated one needs all of its children, and an alarm without data is"
    " ill.",
    HEALTH_CHECK,
)
def check_means_something(check: Declared) -> Iterator[Finding]:
    """A page that says 200 is not an answer; silence is not health."""
    kind = at(check.inputs, "type")
    if kind in UNMATCHED or (kind in MATCHING and not at(check.inputs, "searchString")):
        yield wrong(
            check,
            f"type is {kind} with searchString {at(check.inputs, 'searchString')}; a wrong answer would count as"
            " healthy: use HTTPS_STR_MATCH with the token of a golden answer",
        )
    elif kind == "CLOUDWATCH_METRIC" and at(check.inputs, "insufficientDataHealthStatus") not in ("Unhealthy", UNKNOWN):
        yield wrong(
            check,
            f"insufficientDataHealthStatus is {at(check.inputs, 'insufficientDataHealthStatus')}; a site nobody hears"
            " from is lost: set Unhealthy",
        )
    elif kind == "CALCULATED":
        children, threshold = at(check.inputs, "childHealthchecks"), number(at(check.inputs, "childHealthThreshold"))
        if children != UNKNOWN and threshold is not None and threshold < len(many(children)):
            yield wrong(
                check,
                f"childHealthThreshold is {threshold:g} of {len(many(children))} children; golden AND NOT drained needs"
                " them all: set it to their number",
            )
    elif kind == UNKNOWN and not at(check.inputs, "searchString"):
        yield unsure(check, "its type")
    if truth(at(check.inputs, "disabled")):
        yield wrong(check, "disabled is true; a disabled check is healthy for ever: remove it")


@resource_rule(
    "alarm-explains-silence", "Every alarm says what it makes of missing data, instead of leaving it to AWS.", ALARM
)
def alarm_explains_silence(alarm: Declared) -> Iterator[Finding]:
    """What is not said means `missing`: an alarm that holds its last state while nothing is heard."""
    if not at(alarm.inputs, "treatMissingData"):
        yield wrong(
            alarm,
            "treatMissingData is not set; whoever is lost says nothing, and the alarm would stay as it was: set"
            " breaching, or another of the four on purpose",
        )


RULES: Final = (weighted_record_checked, ttl_short, weights_sane, check_means_something, alarm_explains_silence)
