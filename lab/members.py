"""The processes of a lab: which module each runs, what it waits for, where it listens. One table."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lab.aws.check import HEALTHY_SHARE
from lab.process import MARKER
from lab.topology import HOME_VARIABLE, Topology, lab_directory

PROVIDER_HOST: Final = "127.0.0.1"
"""The Pulumi CLI attaches to plugins nowhere else."""
PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "TZ")
"""What a member gets to know of the user's environment."""


@dataclass(frozen=True, kw_only=True)
class Listener:
    """An address that must be free before the lab starts."""

    host: str
    port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}/{self.protocol}"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One process: `python -m <module> --home HOME <arguments>`; it prints `ready` once it serves."""

    name: str
    module: str
    arguments: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Members that are ready before this one starts, and that end after it."""
    listens: tuple[Listener, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Member:
        """The inverse of `to_json`."""
        return cls(
            name=document["name"],
            module=document["module"],
            arguments=tuple(document["arguments"]),
            needs=tuple(document["needs"]),
            listens=tuple(Listener(**listener) for listener in document["listens"]),
        )


def table(
    topology: Topology, *, checkers: int, clock_factor: float, healthy_share: float = HEALTHY_SHARE
) -> tuple[Member, ...]:
    """Everything a lab of this topology runs; `clock_factor` other than 1 shortens intervals of checks and alarms."""
    dns = topology.dns_host
    members = [
        Member(
            name="aws",
            module="lab.aws.api",
            arguments=("--clock-factor", str(clock_factor)),
            listens=(_of_url(topology.aws_url),),
        ),
        Member(
            name="route53",
            module="lab.aws.route53",
            arguments=(
                *("--checkers", str(checkers), "--clock-factor", str(clock_factor)),
                *("--healthy-share", str(healthy_share)),
            ),
            needs=("aws",),
            listens=(
                Listener(host=dns, port=topology.dns_port),
                Listener(host=dns, port=topology.dns_port, protocol="udp"),
                _of_url(topology.prober_url),
            ),
        ),
    ]
    for name, site in sorted(topology.sites.items()):
        of_site = ("--site", name)
        cloud = ("aws",) if site.kind == "public" else ()
        members += [
            Member(name=f"store-{name}", module="lab.aws.store", arguments=of_site, listens=(_of_url(site.store_url),)),
            Member(
                name=f"site-{name}",
                module="lab.kubernetes.site",
                arguments=of_site,
                needs=cloud,
                listens=(_of_url(site.api_url),),
            ),
            Member(name=f"edge-{name}", module="lab.network", arguments=of_site, needs=(*cloud, f"site-{name}")),
        ]
    members.append(
        Member(
            name="providers",
            module="lab.providers",
            listens=(Listener(host=PROVIDER_HOST, port=topology.provider_port),),
        )
    )
    return tuple(members)


def _of_url(url: str) -> Listener:
    parts = urlsplit(url)
    return Listener(host=parts.hostname or "", port=parts.port or 0)


def environment(home: Path) -> dict[str, str]:
    """All that a lab process knows of the user's environment, and credentials that open nothing anywhere."""
    return {
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        "HOME": str(lab_directory(home)),
        "TMPDIR": str(lab_directory(home) / "tmp"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
        HOME_VARIABLE: str(home),
        MARKER: str(home),
        "AWS_ACCESS_KEY_ID": "lab",
        "AWS_SECRET_ACCESS_KEY": "lab",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
