"""Every objective held once and missed once, on evidence made by hand."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from drills import objective
from drills.drill import Observation
from drills.evidence import Evidence, Moments
from drills.objective import Objective
from drills.sample import Outcome, Sample
from stacks.contract import Deployment
from tests.drills.worlds import DIGEST, a_deployment

ADDRESSES = {"private": "192.0.2.1", "public": "192.0.2.2"}
BROKEN, EFFECT, RESTORED, WELL, END = 100.0, 101.0, 110.0, 131.0, 140.0


def asked(at: float, outcome: Outcome = Outcome.OK, site: str = "public", **given: object) -> Sample:
    """A request that took 10 ms."""
    answered = outcome in (Outcome.OK, Outcome.WRONG)
    fields = {"client_class": "dns", "status": 200 if answered else None, "detail": "", **given}
    took = fields.pop("took", 0.01)
    return Sample(
        at,
        at,
        at + took,
        0,
        outcome=outcome,
        site=site if answered else None,
        digest=DIGEST,
        **{"address": ADDRESSES["private"], **fields},
    )


def deployed() -> Deployment:
    deployment = a_deployment()
    sites = {name: replace(site, address=ADDRESSES[name]) for name, site in deployment.traffic.sites.items()}
    return replace(deployment, traffic=replace(deployment.traffic, sites=sites))


def aliased(found: Evidence) -> Evidence:
    """The disturbed site is entered through a load balancer."""
    pool = found.deployment.pool
    balanced = {**pool, found.site: replace(pool[found.site], edge_dns_name="edge.elb.example")}
    found.deployment = replace(found.deployment, pool=balanced)
    return found


def evidence(*extra: Sample, site_until: float = BROKEN, **moments: object) -> Evidence:
    """A site that was lost at 100 and put back at 110: its users were answered by the other one at once."""
    given = {"bitten": 100.2, "effect": EFFECT, "restored": RESTORED, "well": WELL, "lasted": True, "looks": 5}
    found = Evidence(deployed(), "private", started=90.0)
    found.stages = [Moments("lost", BROKEN, **{**given, **moments})]
    for step in range(int((END - 90) * 10)):
        at = 90 + step / 10
        found.add(asked(at, site="private" if at < site_until else "public"))
    for sample in extra:
        found.add(sample)
    found.after = [Observation("steady", held=True, detail="")]
    found.facts = {"aws_writes": []}
    return found


def failed_at(at: float, **given: object) -> Sample:
    return asked(at, Outcome.REFUSED, **given)


def ill(found: Evidence) -> Evidence:
    found.after = [Observation("steady", held=False, detail="")]
    return found


def wrote(found: Evidence, *calls: str, counted: bool = True) -> Evidence:
    found.facts = {"aws_writes": list(calls)} if counted else {}
    return found


def littered(found: Evidence) -> Evidence:
    found.residue = ["NetworkPolicy gateway is cut"]
    return found


def breached(found: Evidence) -> Evidence:
    found.stages[0].breaches.append(Observation("DNS leads", held=False, detail="nobody"))
    return found


def only(found: Evidence, keep: Callable[[Sample], bool]) -> Evidence:
    found.samples = [sample for sample in found.samples if keep(sample)]
    return found


def unbroken() -> Evidence:
    found = evidence()
    found.stages = []
    return found


HURT = failed_at(100.05)
LATE = failed_at(130.0)


@dataclass
class Case:
    name: str
    objective: Objective
    holds: list[Evidence]
    misses: list[Evidence] = field(default_factory=list)


CASES = [
    Case("recovered", objective.recovered, [evidence(HURT), evidence()], [evidence(HURT, failed_at(101.5))]),
    Case(
        "recovered_within",
        objective.recovered_within(2.0, "recovery"),
        [evidence(failed_at(101.5)), evidence(failed_at(99.0))],
        [evidence(failed_at(102.5)), evidence(failed_at(101.0, took=1.5))],
    ),
    Case("none_wrong", objective.none_wrong, [evidence(HURT)], [evidence(asked(105.0, Outcome.WRONG))]),
    Case("none_failed", objective.none_failed, [evidence()], [evidence(failed_at(95.0)), evidence(HURT)]),
    Case(
        "none_failed_elsewhere",
        objective.none_failed_elsewhere,
        [evidence(failed_at(105.0, source="127.30.1.17"))],
        [evidence(failed_at(105.0))],
    ),
    Case(
        "cut_off_noticed",
        objective.cut_off_noticed,
        [evidence(failed_at(105.0, source="127.30.1.17")), evidence()],
        [evidence(asked(105.0, source="127.30.1.17"))],
    ),
    Case(
        "hurt",
        objective.hurt,
        [evidence(HURT), aliased(evidence(failed_at(100.05, address="192.0.2.9")))],
        [
            evidence(),
            evidence(failed_at(95.0)),
            evidence(LATE),
            unbroken(),
            evidence(failed_at(100.05, address=ADDRESSES["public"])),
            evidence(failed_at(100.05, address=None)),
            aliased(evidence(failed_at(100.05, address=ADDRESSES["public"]))),
            aliased(evidence(failed_at(100.05, address=None))),
        ],
    ),
    Case("lasted", objective.lasted, [evidence()], [evidence(lasted=False), unbroken()]),
    Case("dropped", objective.dropped, [evidence()], [evidence(effect=None), unbroken()]),
    Case(
        "effect_within",
        objective.effect_within(2.0, "effect"),
        [evidence()],
        [evidence(effect=None), evidence(effect=103.0)],
    ),
    Case(
        "unvisited",
        objective.unvisited,
        [evidence()],
        [
            evidence(asked(105.0, site="private")),
            only(evidence(), lambda sample: sample.intended < 101.0),
            evidence(effect=None),
        ],
    ),
    Case(
        "emptied_within",
        objective.emptied_within(3.0),
        [evidence(site_until=102.5)],
        [evidence(site_until=104.0), only(evidence(), lambda sample: sample.site != "private")],
    ),
    Case(
        "served_by_site",
        objective.served_by_site,
        [evidence(HURT, site_until=END)],
        [evidence(HURT), evidence(*(failed_at(100 + n / 10) for n in range(100)), site_until=END)],
    ),
    Case(
        "nothing_written",
        objective.nothing_written,
        [evidence()],
        [wrote(evidence(), "route53 X 503"), wrote(evidence(), counted=False)],
    ),
    Case("carried", objective.carried, [evidence(HURT)], [evidence(HURT, site_until=END)]),
    Case("stayed", objective.stayed("in DNS"), [evidence()], [breached(evidence()), evidence(looks=0)]),
    Case("none_late", objective.none_late, [evidence(HURT)], [evidence(LATE)]),
    Case(
        "no_second_outage",
        objective.no_second_outage,
        [evidence(HURT)],
        [evidence(HURT, LATE)],
    ),
    Case(
        "returned_not_before",
        objective.returned_not_before,
        [evidence()],
        [evidence(well=120.0), evidence(well=None)],
    ),
    Case(
        "available",
        objective.available,
        [evidence(HURT)],
        [evidence(*(failed_at(120 + n / 10) for n in range(10))), only(evidence(), lambda _: False)],
    ),
    Case(
        "fast",
        objective.fast,
        [evidence()],
        [
            evidence(*(asked(120 + n / 10, took=0.9) for n in range(20))),
            only(evidence(), lambda sample: sample.intended < 95.0),
            only(evidence(), lambda _: False),
        ],
    ),
    Case("steady_again", objective.steady_again, [evidence()], [ill(evidence())]),
    Case("clean", objective.clean, [evidence()], [littered(evidence())]),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_objective_is_held_by_what_earns_it_and_missed_by_what_does_not(case: Case) -> None:
    for found in case.holds:
        finding = case.objective(found)
        assert finding.held, finding
    assert case.misses
    for found in case.misses:
        finding = case.objective(found)
        assert not finding.held, finding


def test_no_objective_is_left_out() -> None:
    there = {
        name
        for name, each in vars(objective).items()
        if inspect.isfunction(each) and each.__module__ == objective.__name__ and not name.startswith("_")
    }
    assert there == {case.name for case in CASES}


def test_what_every_drill_is_held_to_is_the_promise() -> None:
    assert {each.__name__ for each in objective.ALWAYS} == {"none_wrong", "fast", "available", "steady_again", "clean"}  # type: ignore[attr-defined]
