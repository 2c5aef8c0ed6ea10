"""Probes: questions about a site, its record in DNS, its pods and the API above them. They change nothing."""

from drills.probes.dns import CheckersSplit, DnsHealth, DnsNames, MarkSeen
from drills.probes.health import GoldenAnswer, Unreachable
from drills.probes.pods import PodSilent, PodsReady
from drills.probes.shedding import NothingShed
from drills.probes.writes import WritesAsked, WritesRefused

__all__ = [
    "CheckersSplit",
    "DnsHealth",
    "DnsNames",
    "GoldenAnswer",
    "MarkSeen",
    "NothingShed",
    "PodSilent",
    "PodsReady",
    "Unreachable",
    "WritesAsked",
    "WritesRefused",
]
