"""The lab talks to this machine only: any other host is refused before a byte is sent."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from lab.providers.errors import ConfigurationError


def require_loopback(url: str, setting: str) -> None:
    """Raise ConfigurationError unless `url` names a literal address of 127.0.0.0/8."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
        inside = parts.scheme in {"http", "https"} and ipaddress.IPv4Address(host) in ipaddress.ip_network(
            "127.0.0.0/8"
        )
    except ValueError:
        inside = False
    if not inside:
        raise ConfigurationError(
            f"{setting} is {url!r}; the lab's providers talk to 127.0.0.0/8 only:"
            " use a loopback address of the lab, or the real provider with --env prod"
        )
