"""One probe of one endpoint, with the timeouts and the reading rules of Route 53's checkers."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import Final

from lab.aws.check import Check, Result

CONNECT_SECONDS: Final = 4.0
"""For the TCP connection, and the TLS handshake where there is one."""
ANSWER_SECONDS: Final = 2.0
"""From the connection to the status line and headers."""
BODY_SECONDS: Final = 2.0
"""From the headers to the search string."""
SEARCHED_BYTES: Final = 5120
HEAD_LIMIT_BYTES: Final = 65536
AGENT: Final = "Amazon-Route53-Health-Check-Service (ref {id}; report http://amzn.to/1vsZADi) tandem-lab"


async def probe(check: Check, address: str, source: str | None = None) -> Result:
    """Ask `address` once, from the local address `source`; never raises for what the endpoint does."""
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        return _failure(f"{address!r} is not on this machine, and the lab probes nothing else.")
    local = (source, 0) if source is not None and ":" not in address else None
    context = _any_certificate() if check.type.startswith("HTTPS") else None
    name = (check.fqdn or None) if check.enable_sni else None
    try:
        if name:
            name.encode("idna")  # what the handshake does with it, when the connection is there and would be left open
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                address,
                check.port,
                local_addr=local,
                limit=HEAD_LIMIT_BYTES,
                ssl=context,
                server_hostname=(name or "") if context else None,
            )
    except TimeoutError:
        return _failure("The health checker could not establish a connection within the timeout limit.")
    except OSError as error:
        return _failure(f"Connection failed: {error.strerror or error}.")
    except ValueError as error:
        return _failure(f"The request cannot be made: {error}.")
    try:
        if check.type == "TCP":
            return Result(True, "Success: TCP connection established")
        return await _ask(check, address, reader, writer)
    except TimeoutError:
        return _failure("The health checker received no answer within the timeout limit.")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        return _failure(f"The endpoint's answer could not be read: {error}.")
    finally:
        writer.transport.abort()


async def _ask(check: Check, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Result:
    host = check.fqdn or address
    if check.port not in (80, 443):
        host = f"{host}:{check.port}"
    request = (
        f"GET {check.path if check.path.startswith('/') else '/' + check.path} HTTP/1.1\r\nHost: {host}\r\n"
        f"User-Agent: {AGENT.format(id=check.id)}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(ANSWER_SECONDS):
        writer.write(request.encode("latin-1", "replace"))
        await writer.drain()
        status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
    if not 200 <= status < 400:
        return _failure(f"HTTP Status Code {status}, which is not 2xx or 3xx.")
    if not check.type.endswith("_STR_MATCH"):
        return Result(True, f"Success: HTTP Status Code {status}, OK")
    async with asyncio.timeout(BODY_SECONDS):
        found = await _found(reader, headers, check.search_string.encode())
    if not found:
        return _failure(f"HTTP Status Code {status}, but the search string was not in the first 5120 bytes.")
    return Result(True, f"Success: HTTP Status Code {status}, OK")


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    line, *fields = head.decode("latin-1").split("\r\n")
    parts = line.split(" ", 2)
    if not parts[0].startswith("HTTP/") or len(parts) < 2:
        raise ValueError(f"{line[:80]!r} is no HTTP status line")
    pairs = (field.partition(":") for field in fields if field)
    return int(parts[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _found(reader: asyncio.StreamReader, headers: dict[str, str], wanted: bytes) -> bool:
    """Whether `wanted` lies within the first bytes of the body; reads no more than it has to."""
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    length = int(headers.get("content-length", SEARCHED_BYTES))
    needed = SEARCHED_BYTES if chunked else min(length, SEARCHED_BYTES)
    raw = b""
    while True:
        body, ended = unchunked(raw) if chunked else (raw, False)
        if wanted in body[:SEARCHED_BYTES]:
            return True
        if ended or len(body) >= needed:
            return False
        more = await reader.read(SEARCHED_BYTES)
        if not more:
            return False
        raw += more


def unchunked(raw: bytes) -> tuple[bytes, bool]:
    """The body received so far of a chunked answer, and whether its last chunk is there."""
    body = b""
    while True:
        size, found, rest = raw.partition(b"\r\n")
        if not found:
            return body, False
        count = int(size.partition(b";")[0], 16)
        if count == 0:
            return body, True
        body += rest[:count]
        if len(rest) < count + 2:
            return body, False
        raw = rest[count + 2 :]


def _any_certificate() -> ssl.SSLContext:
    """Route 53 does not look at certificates: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _failure(why: str) -> Result:
    return Result(False, f"Failure: {why}")
