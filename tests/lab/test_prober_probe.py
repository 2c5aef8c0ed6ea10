"""One probe against endpoints that behave, misbehave, or do not answer."""

from __future__ import annotations

import asyncio
import datetime
import ssl

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.aws import probe as subject
from lab.aws.check import Check

ADDRESS = "127.77.0.110"
TOKEN = "tandem-golden-ok"


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(subject, "CONNECT_SECONDS", 0.4)
    monkeypatch.setattr(subject, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(subject, "BODY_SECONDS", 0.3)


@pytest_asyncio.fixture
async def endpoint():
    """Starts an endpoint that writes the given pieces after the request, then keeps the connection or ends it."""
    servers, seen = [], []

    async def start(*pieces, keep=False, context=None):
        async def answer(reader, writer):
            try:
                seen.append((await reader.readuntil(b"\r\n\r\n"), writer.get_extra_info("peername")[0]))
                for piece in pieces:
                    if isinstance(piece, float):
                        await asyncio.sleep(piece)
                    else:
                        writer.write(piece)
                        await writer.drain()
                if keep:
                    await reader.read()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(answer, ADDRESS, 0, ssl=context)
        servers.append(server)
        return server.sockets[0].getsockname()[1]

    start.seen = seen
    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def check(port, kind="HTTP_STR_MATCH", **more):
    search = TOKEN if kind.endswith("_STR_MATCH") else ""
    return Check(id="c", type=kind, ip_address=ADDRESS, port=port, path="/healthz", search_string=search, **more)


def ok(body, *, status=200, chunked=False):
    if chunked:
        parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:3], body[3:]) if part)
        return f"HTTP/1.1 {status} OK\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + parts + b"0\r\n\r\n"
    return f"HTTP/1.1 {status} OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
@pytest.mark.parametrize("keep", [False, True], ids=["closes", "keeps open"])
async def test_the_search_string_is_found(endpoint, chunked, keep) -> None:
    port = await endpoint(ok(b"{" + TOKEN.encode() + b"}", chunked=chunked), keep=keep)
    result = await subject.probe(check(port), ADDRESS, "127.77.1.1")
    assert (result.healthy, result.text) == (True, "Success: HTTP Status Code 200, OK")


@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
async def test_an_answer_without_the_search_string_is_a_failure(endpoint, chunked) -> None:
    port = await endpoint(ok(b"ill", chunked=chunked), keep=True)
    result = await subject.probe(check(port), ADDRESS)
    assert not result.healthy
    assert "search string" in result.text


@pytest.mark.parametrize(("before", "expected"), [(5120 - len(TOKEN), True), (5121 - len(TOKEN), False)])
async def test_the_search_string_has_to_lie_wholly_in_the_first_5120_bytes(endpoint, before, expected) -> None:
    port = await endpoint(ok(b"x" * before + TOKEN.encode() + b"y" * 9000))
    assert (await subject.probe(check(port), ADDRESS)).healthy is expected


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (204, True), (301, True), (399, True), (400, False), (503, False)]
)
async def test_2xx_and_3xx_are_healthy(endpoint, status, expected) -> None:
    port = await endpoint(ok(b"", status=status))
    assert (await subject.probe(check(port, "HTTP"), ADDRESS)).healthy is expected


async def test_a_bad_status_fails_whatever_the_body_says(endpoint) -> None:
    port = await endpoint(ok(TOKEN.encode(), status=503))
    assert "503" in (await subject.probe(check(port), ADDRESS)).text


async def test_an_answer_that_comes_too_late_is_a_failure(endpoint) -> None:
    port = await endpoint(1.0, ok(TOKEN.encode()))
    result = await subject.probe(check(port), ADDRESS)
    assert (result.healthy, "no answer within the timeout" in result.text) == (False, True)


async def test_a_body_that_stalls_is_a_failure_where_it_is_searched(endpoint) -> None:
    port = await endpoint(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", 1.0)
    assert not (await subject.probe(check(port), ADDRESS)).healthy
    assert (await subject.probe(check(port, "HTTP"), ADDRESS)).healthy


async def test_a_closed_port_is_refused_at_once() -> None:
    result = await subject.probe(check(1), ADDRESS)
    assert (result.healthy, result.text.startswith("Failure: Connection failed")) == (False, True)


async def test_a_connection_that_is_never_made_ends_with_the_connect_timeout() -> None:
    listener = await asyncio.start_server(lambda *_: None, ADDRESS, 0, backlog=0, start_serving=False)
    listener.sockets[0]._sock.listen(0)
    port = listener.sockets[0].getsockname()[1]
    filling = [await asyncio.open_connection(ADDRESS, port)]  # the queue takes one; further ones wait for ever
    result = await subject.probe(check(port), ADDRESS)
    for _, writer in filling:
        writer.transport.abort()
    listener.close()
    assert (result.healthy, "could not establish a connection" in result.text) == (False, True)


async def test_something_else_than_http_is_a_failure(endpoint) -> None:
    port = await endpoint(b"SSH-2.0-x\r\n\r\n")
    assert "could not be read" in (await subject.probe(check(port), ADDRESS)).text


async def test_a_name_that_no_handshake_can_carry_is_a_failure(endpoint) -> None:
    port = await endpoint(b"")
    result = await subject.probe(check(port, "HTTPS", fqdn="bad..name", enable_sni=True), ADDRESS, "127.77.1.1")
    assert not result.healthy
    assert "cannot be made" in result.text


async def test_a_tcp_check_asks_for_nothing_but_the_connection(endpoint) -> None:
    port = await endpoint()
    assert (await subject.probe(check(port, "TCP"), ADDRESS)).healthy


async def test_it_says_who_it_is_and_names_the_host_with_its_port(endpoint) -> None:
    port = await endpoint(ok(b""))
    await subject.probe(check(port, "HTTP", fqdn="private.tandem.test"), ADDRESS, "127.77.1.7")
    ((request, source),) = endpoint.seen
    assert request.startswith(b"GET /healthz HTTP/1.1\r\n")
    assert f"Host: private.tandem.test:{port}\r\n".encode() in request
    assert b"Amazon-Route53-Health-Check-Service" in request
    assert source == "127.77.1.7"


async def test_https_takes_any_certificate(endpoint, tmp_path) -> None:
    port = await endpoint(ok(TOKEN.encode()), context=_self_signed(tmp_path))
    result = await subject.probe(check(port, "HTTPS_STR_MATCH", fqdn="wrong.name", enable_sni=True), ADDRESS)
    assert result.healthy, result.text


async def test_https_against_a_plain_port_is_a_failure(endpoint) -> None:
    port = await endpoint(ok(b""))
    assert not (await subject.probe(check(port, "HTTPS"), ADDRESS)).healthy


@pytest.mark.parametrize("address", ["203.0.113.5", "10.0.0.1", "not an address"])
async def test_nothing_outside_this_machine_is_ever_probed(address) -> None:
    assert "not on this machine" in (await subject.probe(check(80), address)).text


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", (b"", False)),
        (b"3\r\nab", (b"ab", False)),
        (b"3\r\nabc\r\n", (b"abc", False)),
        (b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", (b"abcde", True)),
    ],
)
def test_chunks_are_put_together_as_far_as_they_came(raw, expected) -> None:
    assert subject.unchunked(raw) == expected


def _self_signed(folder) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody.else")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context
