"""How virtual users reach the service: one file and one line in CLASSES for each kind of client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from drills.clients.dns import DnsClient
from drills.clients.exchange import Client, Exchange, Target
from drills.clients.keepalive import KeepAliveClient

CLASSES: Final[dict[str, Callable[[Target], Client]]] = {
    "dns": DnsClient,
    "dns-keepalive": KeepAliveClient,
}
"""By the name that settings, samples and journals carry."""

__all__ = ["CLASSES", "Client", "Exchange", "Target"]
