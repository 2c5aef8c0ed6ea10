"""The mark of a site that is being emptied, looked for in a store that behaves, misbehaves or is away."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_stage import until_async

from serving.drain_mark import DrainMark

TOKEN = "tandem-drain-mark"
ADDRESS = "127.83.6.20"
BODY = f'{TOKEN}\n{{"who": "an engineer"}}\n'.encode()


def answer(status: str = "200 OK", body: bytes = BODY) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ntandem-\r\n" + b"a\r\ndrain-mark\r\n0\r\n\r\n"


@dataclass
class Store:
    """Says the same to whoever asks, in two parts with a pause between them."""

    said: bytes = b""
    pause_seconds: float = 0.0
    stays_open: bool = False
    heard: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.said[:20])
            await writer.drain()
            await asyncio.sleep(self.pause_seconds)
            writer.write(self.said[20:])
            await writer.drain()
            if self.stays_open:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest_asyncio.fixture
async def url(store: Store) -> AsyncIterator[str]:
    server = await asyncio.start_server(store, ADDRESS, 0)
    yield f"http://{ADDRESS}:{server.sockets[0].getsockname()[1]}/signals/drain/private"
    server.close()


@pytest.mark.parametrize(
    ("said", "present"),
    [
        pytest.param(answer(), True, id="mark"),
        pytest.param(CHUNKED, True, id="mark-in-chunks"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + BODY, True, id="mark-without-a-length"),
        pytest.param(answer(body=b"x" * 4000 + BODY), True, id="mark-within-5120-bytes"),
        pytest.param(answer(body=b"x" * 6000 + BODY), False, id="mark-too-late"),
        pytest.param(answer(body=b"x" * 1_000_000 + BODY), False, id="endless"),
        pytest.param(answer(body=b"<html>all is well</html>"), False, id="another-page"),
        pytest.param(answer(body=b""), False, id="empty"),
        pytest.param(answer("404 Not Found"), False, id="404"),
        pytest.param(answer("403 Forbidden"), False, id="403"),
        pytest.param(answer("503 Slow Down"), False, id="503"),
        pytest.param(answer("206 Partial Content"), False, id="206"),
        pytest.param(answer("307 Temporary Redirect"), False, id="redirect"),
        pytest.param(TOKEN.encode() + b"\r\n\r\n", False, id="no-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n" + BODY, False, id="endless-head"),
        pytest.param(b"", False, id="hangs-up"),
    ],
)
async def test_only_a_200_whose_body_has_the_token_is_a_mark(
    store: Store, url: str, said: bytes, *, present: bool
) -> None:
    store.said = said
    assert await DrainMark(url, TOKEN).look() is present
    assert store.heard[0].startswith(b"GET /signals/drain/private HTTP/1.1\r\nHost: 127.83.6.20:")


@pytest.mark.parametrize("store", [Store(answer(), 3.0), Store(answer(), stays_open=True)], ids=["slow", "open"])
async def test_a_store_that_takes_too_long_says_nothing(url: str, store: Store) -> None:
    start = time.monotonic()
    assert not await DrainMark(url, TOKEN, deadline_seconds=0.2).look()
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("away", ["http://127.83.6.21:1/x", "https://127.83.6.21:1/x", "http://nobody.invalid/x"])
async def test_a_store_that_is_away_says_nothing(away: str) -> None:
    assert not await DrainMark(away, TOKEN).look()


async def test_the_mark_is_seen_when_it_comes_and_when_it_goes(store: Store, url: str) -> None:
    mark = DrainMark(url, TOKEN, pace_seconds=0.05)
    store.said = answer("404 Not Found")
    watch = asyncio.create_task(mark.run())
    try:
        await until_async(lambda: len(store.heard) >= 2)
        assert not mark.present
        store.said = answer()
        await until_async(lambda: mark.present)
        store.said = answer("403 Forbidden")
        await until_async(lambda: not mark.present)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def test_without_a_url_nobody_looks() -> None:
    mark = DrainMark("", "")
    await asyncio.wait_for(mark.run(), 1)
    assert not mark.present


async def test_a_store_behind_tls_is_believed_only_with_a_certificate_that_is_trusted(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    store.said = answer()
    server = await asyncio.start_server(store, ADDRESS, 0, ssl=context)
    url = f"https://{ADDRESS}:{server.sockets[0].getsockname()[1]}/drain/private"
    try:
        assert not await DrainMark(url, TOKEN).look()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert await DrainMark(url, TOKEN).look()
    finally:
        server.close()


def _certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file
