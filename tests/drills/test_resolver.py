"""The stub resolver against a real DNS server on loopback."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from dnslib import DNSRecord

from drills.resolver import CachedName, ResolutionError, Resolver
from tests.drills.answering import FIRST, NAME, NAME_SERVER, SECOND, Zone

pytestmark = pytest.mark.live


async def test_the_resolver_gives_addresses_and_time_to_live(resolver: str, zone: Zone) -> None:
    zone.ttl = 17
    found = await Resolver(resolver).resolve(NAME)
    assert (found.addresses, found.ttl_seconds) == ((FIRST,), 17)


async def test_an_answer_too_long_for_udp_is_fetched_over_tcp(resolver: str, zone: Zone) -> None:
    zone.long = True
    assert len((await Resolver(resolver).resolve(NAME)).addresses) == 100


@pytest.mark.parametrize(
    ("change", "said"),
    [({"rcode": 3}, "NXDOMAIN"), ({"rcode": 5}, "REFUSED"), ({"addresses": []}, "no address")],
    ids=["nxdomain", "refused", "empty"],
)
async def test_what_a_name_server_cannot_answer_is_named(
    resolver: str, zone: Zone, change: dict[str, Any], said: str
) -> None:
    for field_name, value in change.items():
        setattr(zone, field_name, value)
    with pytest.raises(ResolutionError, match=said):
        await Resolver(resolver).resolve(NAME)
    assert zone.questions == 1, "an answer is an answer: it is not asked again"


async def test_a_lost_question_is_asked_once_more(zone: Zone) -> None:
    class Lossy(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.seen = transport, 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.seen += 1
            if self.seen == 2:
                self.transport.sendto(zone.resolve(DNSRecord.parse(data), None).pack(), addr)

    transport, lossy = await asyncio.get_running_loop().create_datagram_endpoint(Lossy, local_addr=(NAME_SERVER, 0))
    port = transport.get_extra_info("sockname")[1]
    found = await Resolver(f"{NAME_SERVER}:{port}", timeout_seconds=0.2).resolve(NAME)
    assert (found.addresses, lossy.seen) == ((FIRST,), 2)
    transport.close()


async def test_an_answer_is_used_until_its_time_to_live_ends_and_then_asked_for_once(resolver: str, zone: Zone) -> None:
    name = CachedName(Resolver(resolver, timeout_seconds=20), NAME)
    begun = time.monotonic()
    assert await name.address() == FIRST
    zone.addresses, zone.ttl = [SECOND], 60
    while await name.address() == FIRST:
        assert zone.questions == 1
        assert time.monotonic() - begun < 20, "an answer that never expires"
        await asyncio.sleep(0.05)
    assert time.monotonic() - begun >= 1.0
    assert [await name.address() for _ in range(5)] == [SECOND] * 5
    assert zone.questions == 2


def test_a_resolver_without_address_or_port_is_refused() -> None:
    for bad in ("resolver.example:53", "127.0.0.1", "127.0.0.1:dns"):
        with pytest.raises(ResolutionError, match="no address:port"):
            Resolver(bad)
