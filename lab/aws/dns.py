"""The authoritative name server: DNS messages over UDP and TCP around the rules of zone.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import struct
from collections.abc import Callable
from typing import Final, cast

import dnslib  # type: ignore[import-untyped]  # publishes no types

from lab.aws.zone import Answer, Line

UDP_LIMIT_BYTES: Final = 512
"""What a client takes that does not say more (RFC 1035)."""
EDNS_LIMIT_BYTES: Final = 1232
"""The most sent in one datagram, whatever the client says it takes."""
TCP_IDLE_SECONDS: Final = 10.0
TCP_CONNECTIONS: Final = 128
_TXT_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_TXT_ESCAPE: Final = re.compile(r"\\(?:([0-7]{3})|(.))")

Resolve = Callable[[str, str], Answer]
"""Name and type of a question to its answer."""

log = logging.getLogger(__name__)


def respond(message: bytes, resolve: Resolve, *, over_udp: bool) -> bytes | None:
    """The response to one message; None for what is no query at all."""
    try:
        query = dnslib.DNSRecord.parse(message)
    except (dnslib.DNSError, ValueError, IndexError, struct.error):
        return _malformed(message)
    if query.header.qr:
        return None
    reply = query.reply(ra=0, aa=0)
    limit = UDP_LIMIT_BYTES
    for option in query.ar:
        if option.rtype == dnslib.QTYPE.OPT:
            limit = max(UDP_LIMIT_BYTES, min(option.edns_len, EDNS_LIMIT_BYTES))
            reply.add_ar(dnslib.EDNS0(udp_len=EDNS_LIMIT_BYTES))
            break
    if query.header.opcode != dnslib.OPCODE.QUERY:
        reply.header.rcode = dnslib.RCODE.NOTIMP
    elif len(query.questions) != 1:
        reply.header.rcode = dnslib.RCODE.FORMERR
    elif query.q.qclass != dnslib.CLASS.IN:
        reply.header.rcode = dnslib.RCODE.REFUSED
    else:
        _fill(reply, query, resolve)
    packed = bytes(reply.pack())
    if over_udp and len(packed) > limit:
        reply.rr, reply.auth = [], []
        reply.header.tc = 1
        packed = bytes(reply.pack())
    return packed


def _fill(reply: dnslib.DNSRecord, query: dnslib.DNSRecord, resolve: Resolve) -> None:
    try:
        answer = resolve(str(query.q.qname), dnslib.QTYPE.get(query.q.qtype))
        answers = [_resource(line) for line in answer.answers]
        authority = [_resource(line) for line in answer.authority]
    except Exception:  # one bad record must not silence the server
        log.exception("no answer to %s", query.q)
        reply.header.rcode = dnslib.RCODE.SERVFAIL
        return
    reply.header.rcode = getattr(dnslib.RCODE, answer.code)
    reply.header.aa = int(answer.authoritative)
    for resource in answers:
        reply.add_answer(resource)
    for resource in authority:
        reply.add_auth(resource)


def _malformed(message: bytes) -> bytes | None:
    """FORMERR with the query's id, where there is a header that says it is a query."""
    if len(message) < 12 or message[2] & 0x80:
        return None
    return message[:2] + bytes((0x80 | message[2] & 0x79, dnslib.RCODE.FORMERR)) + bytes(8)


def _resource(line: Line) -> dnslib.RR:
    return dnslib.RR(line.name, getattr(dnslib.QTYPE, line.type), ttl=line.ttl, rdata=_data(line.type, line.value))


def _data(kind: str, value: str) -> dnslib.RD:
    match kind:
        case "A":
            return dnslib.A(value)
        case "AAAA":
            return dnslib.AAAA(value)
        case "CNAME":
            return dnslib.CNAME(value)
        case "NS":
            return dnslib.NS(value)
        case "TXT":
            return dnslib.TXT(text_strings(value))
        case "SOA":
            server, mailbox, *numbers = value.split()
            return dnslib.SOA(server, mailbox, tuple(map(int, numbers)))
    raise ValueError(f"record type {kind}: this server answers A, AAAA, CNAME, NS, SOA and TXT")


def text_strings(value: str) -> list[bytes]:
    """The strings of a TXT value as Route 53 writes them: quoted, with octal escapes, side by side."""

    def unescaped(match: re.Match[str]) -> str:
        return chr(int(match[1], 8)) if match[1] else match[2]

    return [
        _TXT_ESCAPE.sub(unescaped, match[1] if match[1] is not None else match[2]).encode("latin-1", "replace")
        for match in _TXT_STRING.finditer(value)
    ]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = respond(data, self._resolve, over_udp=True)
        if response is not None and self._transport is not None:
            self._transport.sendto(response, addr)


class NameServer:
    """Listens on one address, UDP and TCP."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._datagrams: asyncio.DatagramTransport | None = None
        self._streams: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is another one than asked for when that was 0."""
        loop = asyncio.get_running_loop()
        self._streams = await asyncio.start_server(self._accept, host, port)
        port = self._streams.sockets[0].getsockname()[1]
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._resolve), local_addr=(host, port)
        )
        return port

    async def stop(self) -> None:
        """Close both, and the connections that are open."""
        if self._datagrams is not None:
            self._datagrams.close()
        if self._streams is not None:
            self._streams.close()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # lets the transports close their sockets

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= TCP_CONNECTIONS:
            writer.close()
            return
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await self._one_question(reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _one_question(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(TCP_IDLE_SECONDS):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            response = respond(await reader.readexactly(length), self._resolve, over_udp=False)
            if response is None:
                return False
            writer.write(struct.pack("!H", len(response)) + response)
            await writer.drain()
        return True
