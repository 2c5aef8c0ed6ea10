"""The name server, asked with real packets by another implementation (dnspython)."""

from __future__ import annotations

import asyncio
import struct

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest
import pytest_asyncio

from lab.aws import dns as subject
from lab.aws.zone import Answer, Line, Record, Resolver, Zone

ADDRESS = "127.77.0.153"
MANY = tuple(f"127.9.{number}.1" for number in range(100))
ZONE = Zone(
    "tandem.test",
    (
        Record(
            name="tandem.test",
            type="SOA",
            ttl=900,
            values=("ns.example.com. host.example.com. 1 7200 900 1209600 86400",),
        ),
        Record(name="tandem.test", type="NS", ttl=172800, values=("ns.example.com.",)),
        Record(name="one.tandem.test", type="A", ttl=5, values=("127.10.0.10",)),
        Record(name="six.tandem.test", type="AAAA", ttl=5, values=("::1",)),
        Record(name="text.tandem.test", type="TXT", ttl=5, values=(r'"hello \"you\"" "caf\351"',)),
        Record(name="many.tandem.test", type="A", ttl=5, values=MANY),
        Record(name="bad.tandem.test", type="A", ttl=5, values=("not an address",)),
    ),
)


@pytest_asyncio.fixture
async def port():
    resolver = Resolver(zones=[ZONE], healthy=lambda _: True, pick=lambda _: 0)
    server = subject.NameServer(resolver.resolve)
    yield await server.start(ADDRESS, 0)
    await server.stop()


async def ask(port, name, kind="A", *, tcp=False, **more):
    query = dns.message.make_query(name, kind, **more)
    ask_by = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await ask_by(query, ADDRESS, port=port, timeout=30)


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_an_address_is_answered_with_authority_and_its_ttl(port, tcp) -> None:
    answer = await ask(port, "ONE.tandem.test", tcp=tcp)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    assert not answer.flags & dns.flags.RA
    assert answer.answer[0].ttl == 5
    assert [str(item) for item in answer.answer[0]] == ["127.10.0.10"]


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [
        ("six.tandem.test", "AAAA", ["::1"]),
        ("tandem.test", "NS", ["ns.example.com."]),
        ("tandem.test", "SOA", ["ns.example.com. host.example.com. 1 7200 900 1209600 86400"]),
        ("text.tandem.test", "TXT", [r'"hello \"you\"" "caf\233"']),
    ],
)
async def test_each_type_is_written_as_it_was_declared(port, name, kind, values) -> None:
    assert [str(item) for item in (await ask(port, name, kind)).answer[0]] == values


async def test_a_missing_name_and_a_missing_type_differ(port) -> None:
    missing = await ask(port, "none.tandem.test")
    empty = await ask(port, "one.tandem.test", "AAAA")
    assert (missing.rcode(), empty.rcode()) == (dns.rcode.NXDOMAIN, dns.rcode.NOERROR)
    assert missing.authority[0].ttl == empty.authority[0].ttl == 900
    assert not empty.answer


async def test_outside_its_zones_it_refuses(port) -> None:
    answer = await ask(port, "example.org")
    assert answer.rcode() == dns.rcode.REFUSED
    assert not answer.flags & dns.flags.AA
    chaos = await ask(port, "version.bind", "TXT", rdclass=dns.rdataclass.CH)
    assert chaos.rcode() == dns.rcode.REFUSED


async def test_a_long_answer_is_cut_over_udp_and_whole_over_tcp(port) -> None:
    cut = await ask(port, "many.tandem.test")
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    whole = await ask(port, "many.tandem.test", tcp=True)
    assert len(whole.answer[0]) == len(MANY)


async def test_a_client_that_takes_more_gets_more_in_one_datagram(port) -> None:
    answer = Answer(code="NOERROR", answers=tuple(Line("x.test", "A", 5, address) for address in MANY[:60]))
    plain = dns.message.make_query("x.test", "A").to_wire()
    large = dns.message.make_query("x.test", "A", use_edns=0, payload=4096).to_wire()
    assert len(subject.respond(plain, lambda *_: answer, over_udp=True)) <= 512
    whole = dns.message.from_wire(subject.respond(large, lambda *_: answer, over_udp=True))
    assert not whole.flags & dns.flags.TC
    assert whole.payload == subject.EDNS_LIMIT_BYTES


async def test_a_record_that_cannot_be_written_is_servfail_and_the_server_goes_on(port) -> None:
    assert (await ask(port, "bad.tandem.test")).rcode() == dns.rcode.SERVFAIL
    assert (await ask(port, "one.tandem.test")).rcode() == dns.rcode.NOERROR


async def test_another_opcode_is_not_implemented() -> None:
    query = dns.message.make_query("one.tandem.test", "A")
    query.set_opcode(dns.opcode.NOTIFY)
    answer = dns.message.from_wire(subject.respond(query.to_wire(), lambda *_: None, over_udp=True))
    assert answer.rcode() == dns.rcode.NOTIMP


@pytest.mark.parametrize("junk", [b"", b"\x00", b"x" * 11], ids=["empty", "one byte", "short"])
def test_what_is_no_message_gets_no_answer(junk) -> None:
    assert subject.respond(junk, lambda *_: None, over_udp=True) is None


def test_a_broken_query_gets_formerr_with_its_id() -> None:
    query = b"\xab\xcd\x01\x00" + struct.pack("!4H", 1, 0, 0, 0) + b"\x3fshort"
    answer = subject.respond(query, lambda *_: None, over_udp=True)
    assert answer[:2] == b"\xab\xcd"
    assert answer[3] & 0x0F == dns.rcode.FORMERR


def test_a_response_is_not_answered_so_two_servers_cannot_talk_for_ever() -> None:
    reply = dns.message.make_response(dns.message.make_query("one.tandem.test", "A"))
    assert subject.respond(reply.to_wire(), lambda *_: None, over_udp=True) is None


async def test_several_questions_pass_over_one_tcp_connection(port) -> None:
    reader, writer = await asyncio.open_connection(ADDRESS, port)
    for _ in range(3):
        wire = dns.message.make_query("one.tandem.test", "A").to_wire()
        writer.write(struct.pack("!H", len(wire)) + wire)
        (length,) = struct.unpack("!H", await asyncio.wait_for(reader.readexactly(2), 30))
        answer = dns.message.from_wire(await asyncio.wait_for(reader.readexactly(length), 30))
        assert answer.rcode() == dns.rcode.NOERROR
    writer.close()
    await writer.wait_closed()
