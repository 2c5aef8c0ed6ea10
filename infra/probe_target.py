"""What a health check has to be told to ask one URL."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from infra.checks import SettingError


@dataclass(frozen=True)
class ProbeTarget:
    """A URL in the pieces a health check takes: either a name, which it looks up itself, or an address."""

    scheme: str
    host: str | None
    address: str | None
    port: int
    path: str


def target_of(url: str) -> ProbeTarget:
    """The pieces of `url`."""
    parsed = urlsplit(url)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise SettingError(f"{url!r} cannot be probed; a health check asks http or https at a host: correct the URL")
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    path = parsed.path or "/"
    try:
        address = str(ipaddress.IPv4Address(parsed.hostname))
    except ValueError:
        return ProbeTarget(parsed.scheme, parsed.hostname, None, port, path)
    return ProbeTarget(parsed.scheme, None, address, port, path)
