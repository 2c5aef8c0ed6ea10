"""Route 53's selection rules: shares, weight 0, health, aliases, negative answers."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.aws.zone import ALIAS_TTL_SECONDS, Alias, Line, Record, Resolver, Zone, choose

SOA = Record(
    name="tandem.test", type="SOA", ttl=900, values=("ns.example.com. host.example.com. 1 7200 900 1209600 300",)
)
NS = Record(name="tandem.test", type="NS", ttl=172800, values=("ns.example.com.",))


def weighted(weights, checks=None):
    return [
        Record(
            name="api.tandem.test",
            type="A",
            ttl=5,
            set_identifier=str(number),
            weight=weight,
            values=(f"127.0.{number}.1",),
            health_check_id=checks[number] if checks else "",
        )
        for number, weight in enumerate(weights)
    ]


def shares(records, healthy):
    """How often each record is chosen when chance takes every value once."""
    able = [record for record in records if healthy(record)] or records
    total = sum(record.weight for record in able) or len(able)
    return Counter(choose(records, healthy, lambda _, mark=mark: mark).set_identifier for mark in range(total))


weights_and_health = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=1, max_size=6)


@given(weights_and_health)
def test_the_share_of_a_record_is_its_weight_among_the_healthy_ones(drawn) -> None:
    records = weighted([weight for weight, _ in drawn])
    health = {str(number): well for number, (_, well) in enumerate(drawn)}
    counted = shares(records, lambda record: health[record.set_identifier])
    able = [record for record in records if health[record.set_identifier]] or records
    if any(record.weight for record in able):
        assert counted == {record.set_identifier: record.weight for record in able if record.weight}
    else:
        assert counted == {record.set_identifier: 1 for record in able}


@given(weights_and_health)
def test_an_unhealthy_record_is_answered_only_when_no_record_is_healthy(drawn) -> None:
    records = weighted([weight for weight, _ in drawn])
    health = {str(number): well for number, (_, well) in enumerate(drawn)}
    chosen = set(shares(records, lambda record: health[record.set_identifier]))
    if any(health.values()):
        assert all(health[identifier] for identifier in chosen)


@given(st.lists(st.integers(1, 255), min_size=1, max_size=4), st.integers(1, 3))
def test_weight_zero_is_used_only_when_every_other_record_is_unhealthy(heavy, zeros) -> None:
    records = weighted([*heavy, *[0] * zeros])
    with_all = set(shares(records, lambda _: True))
    assert with_all == {str(number) for number in range(len(heavy))}
    without_heavy = shares(records, lambda record: record.weight == 0)
    assert without_heavy == {str(len(heavy) + number): 1 for number in range(zeros)}


@given(st.lists(st.integers(0, 255), min_size=1, max_size=6))
def test_when_all_are_unhealthy_all_count_as_healthy(weights) -> None:
    records = weighted(weights)
    assert shares(records, lambda _: False) == shares(records, lambda _: True)


@given(st.integers(1, 8))
def test_when_all_weights_are_zero_shares_are_equal(count) -> None:
    assert shares(weighted([0] * count), lambda _: True) == {str(number): 1 for number in range(count)}


def resolver(*records, healthy=lambda _: True, pick=lambda _: 0, **more) -> Resolver:
    return Resolver(zones=[Zone("tandem.test", (SOA, NS, *records))], healthy=healthy, pick=pick, **more)


def test_a_record_without_a_check_is_healthy() -> None:
    records = weighted([1, 1], ["", "ill"])
    answers = {
        resolver(*records, healthy=lambda check: check != "ill", pick=lambda _, n=n: n if _ > n else 0)
        .resolve("api.tandem.test", "A")
        .answers[0]
        .value
        for n in range(2)
    }
    assert answers == {"127.0.0.1"}


def test_names_are_compared_without_case_and_answered_as_asked() -> None:
    answer = resolver(*weighted([1])).resolve("API.Tandem.TEST.", "A")
    assert answer.answers == (Line("API.Tandem.TEST", "A", 5, "127.0.0.1"),)
    assert answer.authoritative


def test_a_name_outside_every_zone_is_refused() -> None:
    answer = resolver().resolve("example.org", "A")
    assert (answer.code, answer.authoritative) == ("REFUSED", False)


def test_a_zone_does_not_hold_names_that_only_end_like_it() -> None:
    assert resolver().resolve("nottandem.test", "A").code == "REFUSED"


def test_a_missing_name_is_nxdomain_with_the_smaller_ttl_of_the_soa() -> None:
    answer = resolver().resolve("nothing.tandem.test", "A")
    assert answer.code == "NXDOMAIN"
    assert [(line.type, line.ttl) for line in answer.authority] == [("SOA", 300)]


@pytest.mark.parametrize("name", ["api.tandem.test", "tandem.test", "b.tandem.test"])
def test_a_name_that_exists_without_the_type_has_no_data(name) -> None:
    deep = Record(name="a.b.tandem.test", type="A", ttl=5, values=("127.0.0.9",))
    answer = resolver(*weighted([1]), deep).resolve(name, "AAAA")
    assert (answer.code, answer.answers) == ("NOERROR", ())
    assert answer.authority[0].type == "SOA"


def test_a_cname_is_followed_within_the_zones() -> None:
    cname = Record(name="www.tandem.test", type="CNAME", ttl=30, values=("api.tandem.test.",))
    answer = resolver(cname, *weighted([1])).resolve("www.tandem.test", "A")
    assert [(line.type, line.value) for line in answer.answers] == [("CNAME", "api.tandem.test."), ("A", "127.0.0.1")]
    out = Record(name="out.tandem.test", type="CNAME", ttl=30, values=("example.org.",))
    assert len(resolver(out).resolve("out.tandem.test", "A").answers) == 1


def test_cnames_in_a_circle_fail_instead_of_turning_for_ever() -> None:
    one = Record(name="one.tandem.test", type="CNAME", ttl=30, values=("two.tandem.test",))
    two = Record(name="two.tandem.test", type="CNAME", ttl=30, values=("one.tandem.test",))
    assert resolver(one, two).resolve("one.tandem.test", "A").code == "SERVFAIL"


def test_a_wildcard_answers_for_what_has_no_records_of_its_own() -> None:
    wild = Record(name="*.tandem.test", type="A", ttl=5, values=("127.0.0.7",))
    subject = resolver(wild, *weighted([1]))
    assert subject.resolve("any.thing.tandem.test", "A").answers[0].value == "127.0.0.7"
    assert subject.resolve("api.tandem.test", "A").answers[0].value == "127.0.0.1"


def test_a_delegated_name_is_referred_without_authority() -> None:
    below = Record(name="sub.tandem.test", type="NS", ttl=60, values=("ns.other.example.",))
    answer = resolver(below).resolve("www.sub.tandem.test", "A")
    assert (answer.code, answer.authoritative, answer.answers) == ("NOERROR", False, ())
    assert answer.authority == (Line("sub.tandem.test", "NS", 60, "ns.other.example."),)


def alias(target, evaluates=False, identifier="a"):
    return Record(
        name="api.tandem.test",
        type="A",
        set_identifier=identifier,
        weight=1,
        alias=Alias(target=target, evaluates_target_health=evaluates),
    )


def test_an_alias_to_a_load_balancer_is_answered_with_its_addresses() -> None:
    balancer = "edge-1.eu-central-1.elb.amazonaws.com"
    subject = resolver(alias(balancer), load_balancers={balancer: ("127.20.0.10",)})
    assert subject.resolve("api.tandem.test", "A").answers == (
        Line("api.tandem.test", "A", ALIAS_TTL_SECONDS, "127.20.0.10"),
    )
    assert resolver(alias(balancer)).resolve("api.tandem.test", "A").answers == ()


def test_an_alias_to_a_record_takes_its_values_and_may_take_its_health() -> None:
    ill = Record(name="ill.tandem.test", type="A", ttl=5, values=("127.0.0.8",), health_check_id="ill")
    well = Record(name="well.tandem.test", type="A", ttl=5, values=("127.0.0.9",))
    records = (
        ill,
        well,
        alias("ill.tandem.test", evaluates=True, identifier="a"),
        alias("well.tandem.test", True, "b"),
    )
    answer = resolver(*records, healthy=lambda check: check != "ill").resolve("api.tandem.test", "A")
    assert [line.value for line in answer.answers] == ["127.0.0.9"]
    blind = resolver(
        ill, well, alias("ill.tandem.test"), alias("well.tandem.test", False, "b"), healthy=lambda _: False
    )
    assert blind.resolve("api.tandem.test", "A").answers[0].value == "127.0.0.8"


def test_the_longest_zone_answers() -> None:
    inner = Zone("eu.tandem.test", (Record(name="eu.tandem.test", type="A", ttl=5, values=("127.0.0.2",)),))
    subject = Resolver(zones=[Zone("tandem.test", (SOA,)), inner], healthy=lambda _: True, pick=lambda _: 0)
    assert subject.resolve("eu.tandem.test", "A").answers[0].value == "127.0.0.2"


def test_records_are_read_as_the_api_lists_them() -> None:
    record = Record.from_aws(
        {
            "Name": "\\052.Tandem.test.",
            "Type": "A",
            "SetIdentifier": "private",
            "Weight": 0,
            "HealthCheckId": "h",
            "AliasTarget": {"DNSName": "Edge.elb.amazonaws.com.", "HostedZoneId": "Z", "EvaluateTargetHealth": False},
        }
    )
    assert record == Record(
        name="*.tandem.test",
        type="A",
        set_identifier="private",
        weight=0,
        health_check_id="h",
        alias=Alias(target="edge.elb.amazonaws.com"),
    )
