"""Objectives: each holds one measurement of a drill's evidence against what was promised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from drills import load, measure
from drills.drill import Finding, failed
from drills.evidence import Evidence

Objective = Callable[[Evidence], Finding]
LEAST_FOR_QUANTILE: Final = 100
"""A p99 of fewer requests is one request's latency."""


def recovered(evidence: Evidence) -> Finding:
    """The last failure of any user lies within the environment's recovery time."""
    seconds, limit = evidence.recovery_seconds(), evidence.deployment.traffic.objectives.recovery_seconds
    return Finding("recovery, against the objective", f"{seconds:.1f} s", f"<= {limit:.1f} s", seconds <= limit)


def recovered_within(limit: float, title: str) -> Objective:
    """The last failure lies within a limit of the drill's own."""

    def judge(evidence: Evidence) -> Finding:
        seconds = evidence.recovery_seconds()
        return Finding(title, f"{seconds:.1f} s", f"<= {limit:.1f} s", seconds <= limit)

    return judge


def none_wrong(evidence: Evidence) -> Finding:
    """No user got a wrong answer."""
    wrong = [sample for sample in evidence.samples if sample.outcome == load.Outcome.WRONG]
    allowed = evidence.deployment.traffic.objectives.wrong_answers
    return Finding("wrong answers", str(len(wrong)), str(allowed), len(wrong) <= allowed)


def none_failed(evidence: Evidence) -> Finding:
    """No request failed at all."""
    bad = measure.failures(evidence.samples)
    return Finding("failed requests, all client classes", str(len(bad)), "0", not bad)


def none_failed_elsewhere(evidence: Evidence) -> Finding:
    """No request failed of a user who asks from an address that was not cut off."""
    bad = [sample for sample in measure.failures(evidence.samples) if not sample.source]
    return Finding("failed requests of users not cut off", str(len(bad)), "0", not bad)


def cut_off_noticed(evidence: Evidence) -> Finding:
    """What users behind the cut saw; where this machine has no address behind it, nobody was asked."""
    behind = [sample for sample in evidence.samples if sample.source]
    bad = measure.failures(behind)
    asked = behind or evidence.source_addresses
    shown = f"{len(bad)} of {len(behind)}" if asked else "nobody asked"
    return Finding("failed requests of users behind the cut", shown, ">= 1 if asked", bool(bad) or not asked)


def hurt(evidence: Evidence) -> Finding:
    """Users who asked the disturbed site felt it: without that, nothing was tested."""
    begun = evidence.broken or math.inf
    end = evidence.restored or math.inf
    bad = [
        s
        for s in measure.failures(evidence.samples)
        if s.finished >= begun and s.intended < end and _asked_the_site(evidence, s)
    ]
    return Finding("requests the fault hurt", str(len(bad)), ">= 1", bool(bad))


def lasted(evidence: Evidence) -> Finding:
    """The fault was there until it was lifted."""
    held = bool(evidence.stages) and all(stage.lasted for stage in evidence.stages)
    return Finding("fault still there when it was lifted", _word(held), "yes", held)


def dropped(evidence: Evidence) -> Finding:
    """The DNS service stopped leading users to the site."""
    moment = evidence.stages[0].effect if evidence.stages else None
    after = f"after {moment - evidence.stages[0].broken:.1f} s" if moment is not None else "no"
    return Finding("DNS dropped the site", after, "yes", moment is not None)


def effect_within(seconds: float, title: str) -> Objective:
    """The stage's effect was there in time."""

    def judge(evidence: Evidence) -> Finding:
        stage = evidence.stages[0]
        if stage.effect is None:
            return Finding(title, "never", f"<= {seconds:.1f} s", held=False)
        taken = stage.effect - stage.broken
        return Finding(title, f"{taken:.1f} s", f"<= {seconds:.1f} s", taken <= seconds)

    return judge


def unvisited(evidence: Evidence) -> Finding:
    """Once dropped and forgotten by every cache, the site answered nobody, while others were answered."""
    stage, traffic = evidence.stages[0], evidence.deployment.traffic
    end = stage.restored or math.inf
    gone = (stage.effect or end) + traffic.ttl_seconds + traffic.request_timeout_seconds
    asked = [s for s in evidence.samples if gone < s.intended < end]
    seen = [s for s in asked if s.site == evidence.site]
    shown = str(len(seen)) if asked else "nobody asked"
    return Finding("answers of the lost site after that", shown, "0", bool(asked) and not seen)


def emptied_within(seconds: float) -> Objective:
    """The drained site answered its last request in time, over old connections too."""

    def judge(evidence: Evidence) -> Finding:
        stage = evidence.stages[0]
        ends = [
            s.finished
            for s in evidence.samples
            if s.site == evidence.site and stage.broken <= s.finished and s.intended < (stage.restored or math.inf)
        ]
        taken = max(ends, default=stage.broken) - stage.broken
        served = any(s.site == evidence.site and s.finished < stage.broken for s in evidence.samples)
        shown = f"{taken:.1f} s" if served else "it served nobody before"
        return Finding("last answer of the drained site", shown, f"<= {seconds:.1f} s", served and taken <= seconds)

    return judge


def served_by_site(evidence: Evidence) -> Finding:
    """The site itself went on answering after the recovery: the loss stayed inside it."""
    stage = evidence.stages[0]
    over = stage.broken + evidence.recovery_seconds()
    right = [
        s
        for s in evidence.samples
        if s.outcome == measure.OK and s.site == evidence.site and over < s.intended < (stage.restored or math.inf)
    ]
    return Finding("answers of the site itself after that", str(len(right)), ">= 1", bool(right))


def nothing_written(evidence: Evidence) -> Finding:
    """Nobody asked the AWS API to write anything, in vain or not."""
    asked = evidence.facts.get("aws_writes")
    shown = "not counted" if asked is None else f"{len(asked)}{f', the first: {asked[0]}' if asked else ''}"
    return Finding("writes asked of the AWS API", shown, "0", asked == [])


def carried(evidence: Evidence) -> Finding:
    """The other sites answered after the recovery."""
    stage = evidence.stages[0]
    over = stage.broken + evidence.recovery_seconds()
    right = [
        s
        for s in evidence.samples
        if s.outcome == measure.OK and s.site != evidence.site and over < s.intended < (stage.restored or math.inf)
    ]
    return Finding("answers of the survivors after recovery", str(len(right)), ">= 1", bool(right))


def stayed(title: str) -> Objective:
    """What had to hold all the time did."""

    def judge(evidence: Evidence) -> Finding:
        breaches = [str(each) for stage in evidence.stages for each in stage.breaches]
        looks = sum(stage.looks for stage in evidence.stages)
        shown = f"{len(breaches)} times not: {breaches[0][:120]}" if breaches else f"always, {looks} looks"
        return Finding(title, shown if looks else "nobody looked", "always", bool(looks) and not breaches)

    return judge


def none_late(evidence: Evidence) -> Finding:
    """Nothing failed after everything was put back."""
    end = evidence.restored or math.inf
    late = [sample for sample in measure.failures(evidence.samples) if sample.intended >= end]
    return Finding("failures after restoration", str(len(late)), "0", not late)


def no_second_outage(evidence: Evidence) -> Finding:
    """Nothing failed from the first recovery to the end, whatever the site did meanwhile."""
    over = (evidence.broken or math.inf) + evidence.recovery_seconds()
    late = [sample for sample in measure.failures(evidence.samples) if sample.intended > over]
    return Finding("failures after the first recovery", str(len(late)), "0", not late)


def returned_not_before(evidence: Evidence) -> Finding:
    """DNS led to the site again, and not before its hold-down was over."""
    hold = evidence.deployment.serving[evidence.site].hold_down_seconds
    last = evidence.stages[-1]
    title = "site back in DNS after the last lift"
    if last.well is None or last.restored is None:
        return Finding(title, "never", f">= {hold} s", held=False)
    taken = last.well - last.restored
    return Finding(title, f"{taken:.1f} s", f">= {hold} s", taken >= hold > 0)


def available(evidence: Evidence) -> Finding:
    """The share of right answers outside of the recovery is what is promised."""
    samples = evidence.outside_recovery()
    limit = evidence.deployment.traffic.objectives.availability_percent
    share = 100 * (1 - len(measure.failures(samples)) / len(samples)) if samples else 0.0
    # Cut, not rounded: only what never failed reads 100.
    shown = f"{math.floor(share * 1000) / 1000:.3f} %"
    return Finding("available outside of the recovery", shown, f">= {limit:g} %", share >= limit)


def fast(evidence: Evidence) -> Finding:
    """Right answers outside of the recovery are as fast as is promised."""
    samples = evidence.outside_recovery()
    limit = evidence.deployment.traffic.objectives.p99_ms
    p99 = measure.latency_ms(samples)["p99"]
    shown = f"{p99:.0f} ms" if p99 is not None else "no answer"
    held = p99 is not None and len(samples) >= LEAST_FOR_QUANTILE and p99 <= limit
    return Finding("p99 outside of the recovery", shown, f"<= {limit:g} ms", held)


def steady_again(evidence: Evidence) -> Finding:
    """Every probe of the steady state holds at the end."""
    bad = failed(evidence.after)
    return Finding("probes of the steady state that fail after", str(len(bad)), "0", not bad)


def clean(evidence: Evidence) -> Finding:
    """Nothing of the drill is left in any site."""
    shown = "; ".join(evidence.residue)[:160] or "nothing"
    return Finding("left behind by the drill", shown, "nothing", not evidence.residue)


WITHOUT_AVAILABILITY: Final[Sequence[Objective]] = (none_wrong, fast, steady_again, clean)
"""For drills that let some of their users fail on purpose."""
ALWAYS: Final[Sequence[Objective]] = (*WITHOUT_AVAILABILITY, available)
"""What every other drill is held to."""


def _word(held: bool) -> str:
    return "yes" if held else "no"


def _asked_the_site(evidence: Evidence, sample: load.Sample) -> bool:
    """Whether a request went to the disturbed site; a load balancer has more addresses than the one that is known."""
    sites = evidence.deployment.traffic.sites
    if not evidence.deployment.pool[evidence.site].edge_dns_name or sample.address is None:
        return sample.address == sites[evidence.site].address
    return sample.address not in {endpoint.address for name, endpoint in sites.items() if name != evidence.site}
