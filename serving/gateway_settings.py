"""The gateway's environment, read once."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from serving import PackageError, ServingError
from serving.manifest import check_digest

BACKENDS: Final = ("cpu", "gpu")
TOKEN_LENGTHS: Final = range(8, 257)


class SettingsError(ServingError):
    """An environment the gateway cannot start in; the message names every variable that is wrong."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the gateway listens, whom it asks, and what it accepts."""

    pod_ip: str
    port: int
    site: str
    model_dir: str
    model_name: str
    accepted_digests: tuple[str, ...]
    triton_url: str
    """host:port of Triton's gRPC service."""
    health_token: str
    golden_interval_seconds: float
    request_timeout_seconds: float
    backend: str = "cpu"
    """Which of the golden answer's tolerances holds: cpu or gpu."""
    drain_seconds: float = 1.0
    """How long it goes on answering after SIGTERM, red."""
    concurrency_limit: int = 128
    """Requests for recommendations this gateway has in flight at most; more get 429 at once."""
    hold_down_seconds: float = 0.0
    """How long golden answers have to be right again after a fault before it says it is healthy."""
    drain_url: str = ""
    """Where the mark of a site that is being emptied appears; empty: nobody looks for it."""
    drain_token: str = ""
    """What has to stand in that mark."""
    drain_region: str = ""
    """Region of the store it lies in, for whoever signs; empty: it is asked openly."""
    tls_certificate: str = ""
    """File with the certificate and its chain; empty: plain HTTP, and whoever stands before it ends TLS."""
    tls_key: str = ""
    access_log: bool = False

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """From environment variables. Raises SettingsError."""
        reader = _Reader(environment)
        settings = cls(
            pod_ip=reader.address("POD_IP"),
            port=int(reader.number("PORT", 1, 65535)),
            site=reader.text("SITE"),
            model_dir=reader.text("MODEL_DIR"),
            model_name=reader.text("MODEL_NAME"),
            accepted_digests=reader.digests("ACCEPTED_DIGESTS"),
            triton_url=reader.host_and_port("TRITON_URL"),
            health_token=reader.token("HEALTH_TOKEN"),
            golden_interval_seconds=reader.number("GOLDEN_INTERVAL_SECONDS", 0.05, 300),
            request_timeout_seconds=reader.number("REQUEST_TIMEOUT_SECONDS", 0.01, 60),
            backend=reader.one_of("BACKEND", BACKENDS, "cpu"),
            drain_seconds=reader.number("DRAIN_SECONDS", 0, 60, "1"),
            concurrency_limit=int(reader.number("CONCURRENCY_LIMIT", 1, 10_000, "128")),
            hold_down_seconds=reader.number("HOLD_DOWN_SECONDS", 0, 600, "0"),
            drain_url=reader.url("DRAIN_URL"),
            drain_token=reader.token("DRAIN_TOKEN") if environment.get("DRAIN_URL") else "",
            drain_region=reader.text("DRAIN_REGION") if environment.get("DRAIN_REGION") else "",
            tls_certificate=reader.file("TLS_CERTIFICATE", needed=bool(environment.get("TLS_KEY"))),
            tls_key=reader.file("TLS_KEY", needed=bool(environment.get("TLS_CERTIFICATE"))),
            access_log=reader.one_of("ACCESS_LOG", ("0", "1"), "0") == "1",
        )
        if reader.faults:
            raise SettingsError("; ".join(reader.faults) + "; set them in the gateway's container")
        return settings


class _Reader:
    """Variables with their rules; what breaks one is collected, so that all of it is told at once."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.faults: list[str] = []

    def _fault(self, name: str, rule: str) -> None:
        given = self._environment.get(name)
        self.faults.append(
            f"{name} is not set: must be {rule}" if given is None else f"{name}={given!r}: must be {rule}"
        )

    def text(self, name: str) -> str:
        value = self._environment.get(name, "")
        if not value or not value.isascii() or not value.isprintable():
            self._fault(name, "printable ASCII, not empty")
        return value

    def token(self, name: str) -> str:
        value = self._environment.get(name, "")
        if len(value) not in TOKEN_LENGTHS or not value.isascii() or not value.replace("-", "").isalnum():
            self.faults.append(f"{name}: must be 8 to 256 letters, digits and dashes")
        return value

    def number(self, name: str, least: float, most: float, default: str | None = None) -> float:
        try:
            value = float(self._environment.get(name, default or ""))
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            self._fault(name, f"a number from {least:g} to {most:g}")
            return least
        return value

    def address(self, name: str) -> str:
        value = self._environment.get(name, "")
        try:
            ipaddress.ip_address(value)
        except ValueError:
            self._fault(name, "the pod's IP address (fieldRef status.podIP)")
        return value

    def host_and_port(self, name: str) -> str:
        value = self._environment.get(name, "")
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or "://" in value or "$" in value:
            self._fault(name, "host:port of Triton's gRPC service")
        return value

    def url(self, name: str) -> str:
        """A URL that may be absent or empty."""
        value = self._environment.get(name, "")
        try:
            parts = urlsplit(value)
            sound = (
                parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not parts.username
            )
        except ValueError:
            sound = False
        if value and (not sound or not value.isascii() or not value.isprintable() or set(value) & set("$ #")):
            self._fault(name, "empty, or the http or https URL of an object")
        return value

    def file(self, name: str, *, needed: bool) -> str:
        """A file that can be read; may be absent where its companion is."""
        value = self._environment.get(name, "")
        if (value or needed) and not os.access(value, os.R_OK):
            self._fault(name, "a file that can be read; certificate and key come together")
        return value

    def digests(self, name: str) -> tuple[str, ...]:
        values = tuple(part.strip() for part in self._environment.get(name, "").split(",") if part.strip())
        try:
            if not values or len(set(values)) != len(values):
                raise PackageError("none, or one twice")
            for value in values:
                check_digest(value)
        except PackageError:
            self._fault(name, "sha256:<64 hexadecimal digits>, several separated by commas, the served one first")
        return values

    def one_of(self, name: str, values: tuple[str, ...], default: str) -> str:
        value = self._environment.get(name, default)
        if value not in values:
            self._fault(name, f"one of {', '.join(values)}")
        return value
