"""The mark of a site that is being emptied, looked for in a store that behaves, misbehaves or is away."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import pytest_asyncio
from botocore.credentials import ContainerProvider
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_stage import until_async
from store_stage import moto_server

from serving.drain_mark import DrainMark
from serving.own_store import CredentialsError, signer

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


@pytest.mark.parametrize("store", [Store(answer(), 10.0), Store(answer(), stays_open=True)], ids=["slow", "open"])
async def test_a_store_that_takes_too_long_says_nothing(url: str, store: Store) -> None:
    start = time.monotonic()
    assert not await DrainMark(url, TOKEN, deadline_seconds=0.2).look()
    assert time.monotonic() - start < 8


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


async def test_a_store_is_asked_as_whom_the_pod_is(store: Store, url: str) -> None:
    store.said = answer()
    given = signer("eu-central-1", {"AWS_ACCESS_KEY_ID": "AKEY", "AWS_SECRET_ACCESS_KEY": "canary"})
    assert given is not None
    assert await DrainMark(url, TOKEN, sign=given.headers).look()
    [heard] = store.heard
    assert b"AWS4-HMAC-SHA256 Credential=AKEY/" in heard
    assert b"/eu-central-1/s3/aws4_request" in heard
    assert b"SignedHeaders=host;x-amz-content-sha256;x-amz-date," in heard
    assert heard.count(b"Host: ") == 1
    assert b"canary" not in heard
    assert given.headers("https://store.example:443/x")["Host"] == "store.example:443", "signed as it is sent"


async def test_a_store_that_lets_nobody_look_openly_shows_the_mark_to_who_has_a_key() -> None:
    with moto_server(ADDRESS) as endpoint:
        keys: dict[str, Any] = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
        s3.create_bucket(Bucket="signals")
        s3.put_object(Bucket="signals", Key="drain/private", Body=BODY)
        url = f"{endpoint}/signals/drain/private"
        given = signer("us-east-1", {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"})
        assert given is not None
        assert not await DrainMark(url, TOKEN).look()
        assert await DrainMark(url, TOKEN, sign=given.headers).look()


async def test_credentials_that_are_refused_or_not_to_be_had_are_told_once(
    store: Store, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.said = answer("403 Forbidden")
    refused = DrainMark(url, TOKEN, sign=lambda _: {})
    openly = DrainMark(url, TOKEN)
    assert [await openly.look(), await refused.look(), await refused.look()] == [False] * 3
    assert caplog.text.count("no drain mark can be seen: the store answers 403") == 1
    elsewhere = signer("eu-central-1", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://agent.example/v1"})
    assert elsewhere is not None
    nobody = DrainMark(url, TOKEN, sign=elsewhere.headers)
    assert [await nobody.look(), await nobody.look()] == [False] * 2
    assert caplog.text.count("the pod's credentials cannot be had: Unsupported host 'agent.example'") == 1
    silent = threading.Event()
    late = DrainMark(url, TOKEN, sign=lambda _: {"X": str(silent.wait(5))}, deadline_seconds=0.05)
    try:
        assert [await late.look(), await late.look()] == [False] * 2
    finally:
        silent.set()
    assert caplog.text.count("no credentials within 0.05 s") == 1


async def test_one_question_at_a_time_waits_for_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def slow(_: object) -> None:
        asked.set()
        answered.wait(30)

    monkeypatch.setattr(ContainerProvider, "load", slow)
    given = signer("eu-central-1", {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"})
    assert given is not None
    first = asyncio.create_task(asyncio.to_thread(given.headers, "http://store/x"))
    assert await asyncio.to_thread(asked.wait, 30)
    with pytest.raises(CredentialsError, match="have not come yet"):
        given.headers("http://store/x")
    answered.set()
    with pytest.raises(CredentialsError, match="no agent is named"):
        await first


@pytest.mark.parametrize(
    ("region", "environment"),
    [("", {"AWS_ACCESS_KEY_ID": "a"}), ("eu-central-1", {}), ("eu-central-1", {"AWS_PROFILE": "mine"})],
)
def test_a_pod_that_is_given_nothing_to_sign_with_asks_openly(region: str, environment: dict[str, str]) -> None:
    assert signer(region, environment) is None


async def test_without_a_url_nobody_looks() -> None:
    mark = DrainMark("", "")
    await asyncio.wait_for(mark.run(), 30)
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
