"""A gateway that ends TLS: with the certificate of its files, and with the renewed one once it is there."""

from __future__ import annotations

import datetime
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_stage import Stand, environment, settings, small_reference, until

from serving.gateway import application
from serving.gateway_settings import Settings, SettingsError
from serving.server import Server
from serving.tls import Certificate

HOST, PORT, NAME = "127.83.9.1", 8443, "recommend.tandem.example"


def issue(folder: Path, serial: int, *, key_of_another: bool = False) -> tuple[str, str]:
    """A self-signed certificate and its key, as cert-manager's Secret has them."""
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = (other if key_of_another else key).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tls.key").write_bytes(private)
    return str(folder / "tls.crt"), str(folder / "tls.key")


def shown() -> int:
    """Serial number of the certificate a new connection is shown."""
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((HOST, PORT), timeout=30).encode()).serial_number


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """The folder with the certificate of a gateway that runs."""
    certificate = Certificate(*issue(tmp_path, 1), pace_seconds=0.05)
    reference = small_reference()
    told = settings(pod_ip=HOST, port=PORT, accepted_digests=(reference.digest,))
    server = Server(application(told, {reference.digest: reference}, Stand(reference.digest), certificate), certificate)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield tmp_path
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def test_a_gateway_answers_over_tls_and_takes_up_a_renewed_certificate_while_connections_go_on(served: Path) -> None:
    trusted = ssl.create_default_context(cafile=str(served / "tls.crt"))
    trusted.check_hostname = False
    with httpx.Client(base_url=f"https://{HOST}:{PORT}", verify=trusted, timeout=30) as client:
        assert client.get("/livez").status_code == 200
        assert shown() == 1
        issue(served, 2)
        until(lambda: shown() == 2)
        assert client.get("/livez").status_code == 200, "the connection that was open goes on"


def test_a_certificate_that_does_not_fit_its_key_is_not_taken_up(
    served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        issue(served, 3, key_of_another=True)
        until(lambda: "not used yet" in caplog.text)
    assert shown() == 1
    issue(served, 4)
    until(lambda: shown() == 4)


def test_a_gateway_without_its_certificate_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Certificate(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))


@pytest.mark.parametrize("missing", ["TLS_CERTIFICATE", "TLS_KEY"])
def test_certificate_and_key_come_together(tmp_path: Path, missing: str) -> None:
    certificate, key = issue(tmp_path, 1)
    good = environment(Path("/models"), "sha256:" + "ab" * 32, "127.83.1.1", "127.83.1.2:8001")
    both = {**good, "TLS_CERTIFICATE": certificate, "TLS_KEY": key}
    assert Settings.read(both).tls_certificate == certificate
    with pytest.raises(SettingsError, match=f"{missing}.*certificate and key come together"):
        Settings.read({name: value for name, value in both.items() if name != missing})
