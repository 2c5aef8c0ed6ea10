"""Checkers run at their own pace; declarations come and go while they do."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import time

import pytest
import pytest_asyncio

from lab.aws.check import Check, Result
from lab.aws.prober import Prober
from lab.aws.prober_settings import CHECKER_LIMIT, REGIONS

FAST = 1000.0
"""10 s become 10 ms."""


class Endpoint:
    def __init__(self) -> None:
        self.well = True
        self.asked = []

    async def ask(self, check, address, source):
        self.asked.append((time.monotonic(), check.id, address, source))
        return Result(self.well, "Success" if self.well else "Failure")


@pytest.fixture
def endpoint():
    return Endpoint()


@pytest_asyncio.fixture
async def prober(endpoint):
    subject = Prober(
        lambda name: "127.77.0.10" if name == "known.test" else None,
        source_network="127.77.1",
        clock_factor=FAST,
        ask=endpoint.ask,
    )
    yield subject
    await subject.stop()


async def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was not met in time"
        await asyncio.sleep(0.002)


def declared(name="a", **more):
    return {name: Check(id=name, type="HTTP", interval_seconds=10, failure_threshold=2, **more)}


async def test_an_endpoint_that_turns_bad_and_good_again_is_noticed(prober, endpoint) -> None:
    prober.apply(declared(ip_address="127.77.0.10"))
    assert prober.healthy("a")
    await until(lambda: len(endpoint.asked) >= 16)
    endpoint.well = False
    await until(lambda: not prober.healthy("a"))
    changed = prober.report()["a"]["since"]
    endpoint.well = True
    await until(lambda: prober.healthy("a"))
    assert prober.report()["a"]["since"] > changed


async def test_each_checker_has_its_own_address_and_each_half_stands_in_every_region(prober, endpoint) -> None:
    prober.apply(declared(ip_address="127.77.0.10"))
    await until(lambda: len({source for *_, source in endpoint.asked}) == 16)
    report = prober.report()["a"]["checkers"]
    assert [checker["address"] for checker in report] == [f"127.77.1.{number}" for number in range(16, 32)]
    for half in map(ipaddress.IPv4Network, ("127.77.1.16/29", "127.77.1.24/29")):
        regions = [one["region"] for one in report if ipaddress.IPv4Address(one["address"]) in half]
        assert sorted(regions) == sorted(REGIONS)


async def test_only_checkers_of_the_named_regions_probe_and_decide(prober, endpoint) -> None:
    named = ("eu-west-1", "us-east-1", "sa-east-1")
    prober.apply(declared(ip_address="127.77.0.10", regions=named))
    expected = {f"127.77.1.{octet}" for octet in (16, 19, 23, 24, 27, 31)}
    await until(lambda: {source for *_, source in endpoint.asked} == expected)
    await until(lambda: len(endpoint.asked) > 60)
    assert {source for *_, source in endpoint.asked} == expected
    assert {checker["region"] for checker in prober.report()["a"]["checkers"]} == set(named)


async def test_two_of_six_checkers_are_enough_and_one_is_not(prober, endpoint) -> None:
    cut = set()

    async def ask(check, address, source):
        return Result(source not in cut, "")

    subject = Prober(lambda _: None, source_network="127.77.1", clock_factor=FAST, ask=ask)
    subject.apply(declared(ip_address="127.77.0.10", regions=("us-east-1", "us-west-1", "us-west-2")))
    cut |= {f"127.77.1.{octet}" for octet in (16, 17, 18, 24)}
    seen = lambda: [one["healthy"] for one in subject.report()["a"]["checkers"]]  # noqa: E731
    await until(lambda: seen().count(False) == 4)
    assert subject.healthy("a"), "2 of 6 is more than 18 %"
    cut.add("127.77.1.25")
    await until(lambda: seen().count(False) == 5)
    assert not subject.healthy("a"), "1 of 6 is less than 18 %, whatever the ten other checkers of the lab would see"
    await subject.stop()


async def test_regions_named_later_keep_the_views_of_those_that_stay(prober, endpoint) -> None:
    endpoint.well = False
    prober.apply(declared(ip_address="127.77.0.10"))
    await until(lambda: not prober.healthy("a"))
    prober.apply(declared(ip_address="127.77.0.10", regions=REGIONS[:3]))
    assert not prober.healthy("a")
    prober.apply(declared(ip_address="127.77.0.10"))
    assert [one["address"] for one in prober.report()["a"]["checkers"]] == [f"127.77.1.{n}" for n in range(16, 32)]


async def test_a_check_whose_regions_have_no_checker_is_probed_all_the_same(endpoint) -> None:
    endpoint.well = False
    subject = Prober(lambda _: None, source_network="127.77.1", checkers=1, clock_factor=FAST, ask=endpoint.ask)
    subject.apply(declared(ip_address="127.77.0.10", regions=REGIONS[5:]))
    await until(lambda: not subject.healthy("a"))
    await subject.stop()


async def test_the_last_checker_of_all_has_an_address_in_the_same_network() -> None:
    subject = Prober(lambda _: None, source_network="127.77.1", checkers=CHECKER_LIMIT)
    subject.apply(declared(ip_address="127.77.0.10"))
    assert subject.report()["a"]["checkers"][-1]["address"] == "127.77.1.254"
    await subject.stop()


async def test_a_host_name_is_looked_up_in_the_zones_only(prober, endpoint) -> None:
    prober.apply({**declared("a", fqdn="known.test"), **declared("b", fqdn="unknown.test")})
    await until(lambda: not prober.healthy("b"))
    assert {(check, address) for _, check, address, _ in endpoint.asked} == {("a", "127.77.0.10")}
    assert "DNS resolution" in prober.report()["b"]["checkers"][0]["last_result"]


async def test_a_probe_that_breaks_counts_as_a_failure_and_is_made_again() -> None:
    asked = []

    async def broken(check, address, source):
        asked.append(address)
        raise UnicodeError("label empty or too long")

    def lookup(name):
        asked.append(name)
        raise LookupError(name)

    subject = Prober(lookup, checkers=1, clock_factor=FAST, ask=broken)
    subject.apply({**declared("a", ip_address="127.77.0.10"), **declared("b", fqdn="known.test")})
    await until(lambda: not subject.healthy("a") and not subject.healthy("b"))
    await until(lambda: asked.count("127.77.0.10") > 3 and asked.count("known.test") > 3)
    assert "label empty" in subject.report()["a"]["checkers"][0]["last_result"]
    await subject.stop()


async def test_a_changed_declaration_keeps_what_was_seen(prober, endpoint) -> None:
    endpoint.well = False
    prober.apply(declared(ip_address="127.77.0.10"))
    await until(lambda: not prober.healthy("a"))
    prober.apply(declared(ip_address="127.77.0.10", path="/other"))
    assert not prober.healthy("a")


async def test_a_check_that_is_gone_or_disabled_is_probed_no_more(prober, endpoint) -> None:
    prober.apply({**declared("a", ip_address="127.77.0.10"), **declared("b", ip_address="127.77.0.10")})
    await until(lambda: len(endpoint.asked) >= 16)
    prober.apply(declared("b", ip_address="127.77.0.10", disabled=True))
    await asyncio.sleep(0)
    count = len(endpoint.asked)
    await asyncio.sleep(0.05)
    assert len(endpoint.asked) == count
    assert set(prober.report()) == {"b"}


async def test_the_interval_runs_from_a_result_to_the_next_request() -> None:
    moments = []

    async def slow(check, address, source):
        moments.append(time.monotonic())
        await asyncio.sleep(0.05)
        return Result(True, "Success")

    subject = Prober(lambda _: None, checkers=1, clock_factor=100, ask=slow)
    subject.apply(declared(ip_address="127.77.0.10"))
    await until(lambda: len(moments) >= 4)
    await subject.stop()
    assert min(after - before for before, after in itertools.pairwise(moments)) >= 0.149


@pytest.mark.parametrize(
    ("more", "complaint"),
    [({"checkers": 0}, "checkers is 0"), ({"checkers": 240}, "from 1 to 239"), ({"clock_factor": 0.5}, "0.5")],
)
def test_settings_that_make_no_sense_are_refused(more, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        Prober(lambda _: None, **more)
