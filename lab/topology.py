"""Where everything of the lab listens: one table, written to lab.json, read by every lab process."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

HOME_VARIABLE: Final = "TANDEM_HOME"
API_PORT: Final = 6443
STORE_PORT: Final = 9000
KINDS: Final = ("private", "public")


LOOPBACK: Final = ipaddress.IPv4Network("127.0.0.0/8")


class TopologyError(ValueError):
    """A topology that cannot be served, or a lab.json that cannot be read."""


def on_loopback(host: str) -> bool:
    """Whether this is an address that only this machine reaches; names are not."""
    try:
        return ipaddress.IPv4Address(host) in LOOPBACK
    except ValueError:
        return False


def home_directory(given: str | Path | None = None) -> Path:
    """`$TANDEM_HOME` in one spelling: as given, as the environment says, or `.tandem` under the current directory."""
    return Path(given or os.environ.get(HOME_VARIABLE) or ".tandem").resolve()


def lab_directory(home: Path) -> Path:
    """Where the lab keeps its state, logs and pods."""
    return home / "lab"


@dataclass(frozen=True, kw_only=True)
class SiteAddresses:
    """Addresses of one site: everything of it lies in its own block of 127.0.0.0/8."""

    name: str
    kind: str
    """private or public."""
    block: str
    """First two octets, for example 127.10."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise TopologyError(
                f"site {self.name!r}: kind {self.kind!r} is not one of {', '.join(KINDS)}; correct the topology"
            )
        try:
            ipaddress.IPv4Address(f"{self.block}.0.0")
        except ValueError:
            block_is_address = False
        else:
            block_is_address = self.block.startswith("127.")
        if not block_is_address:
            raise TopologyError(
                f"site {self.name!r}: block {self.block!r} is not two octets of 127.0.0.0/8; give one like 127.10"
            )

    @property
    def api_host(self) -> str:
        """Address of the site's Kubernetes API."""
        return f"{self.block}.0.1"

    @property
    def api_port(self) -> int:
        """Port of the site's Kubernetes API."""
        return API_PORT

    @property
    def api_url(self) -> str:
        """URL of the site's Kubernetes API."""
        return f"http://{self.api_host}:{self.api_port}"

    @property
    def store_host(self) -> str:
        """Address of the site's object store."""
        return f"{self.block}.0.2"

    @property
    def store_port(self) -> int:
        """Port of the site's object store."""
        return STORE_PORT

    @property
    def store_url(self) -> str:
        """S3 endpoint of the site."""
        return f"http://{self.store_host}:{self.store_port}"

    @property
    def edge_address(self) -> str:
        """Address traffic enters the site at; its port comes from the manifest."""
        return f"{self.block}.0.10"

    def node_address(self, index: int) -> str:
        """Address of the node number `index`, counted from 1."""
        if not 1 <= index <= 254:
            raise TopologyError(f"node {index} of site {self.name!r} is outside 1 to 254; declare fewer nodes")
        return f"{self.block}.1.{index}"

    def pod_addresses(self) -> Iterator[str]:
        """Addresses for pods, in order: B.64.1 up to B.127.254."""
        return self._addresses(64, 127)

    def cluster_ips(self) -> Iterator[str]:
        """Addresses for Services, in order: B.128.1 up to B.191.254."""
        return self._addresses(128, 191)

    @property
    def service_network(self) -> ipaddress.IPv4Network:
        """Where ClusterIPs may lie."""
        return ipaddress.IPv4Network(f"{self.block}.128.0/18")

    def _addresses(self, first: int, last: int) -> Iterator[str]:
        return (f"{self.block}.{third}.{fourth}" for third in range(first, last + 1) for fourth in range(1, 255))


@dataclass(frozen=True, kw_only=True)
class Topology:
    """The whole lab: its sites and what stands above them."""

    sites: dict[str, SiteAddresses]
    aws_url: str
    dns_host: str
    dns_port: int
    prober_url: str
    provider_port: int

    def __post_init__(self) -> None:
        hosts = {"aws_url": self.aws_url, "dns_host": f"//{self.dns_host}", "prober_url": self.prober_url}
        for name, url in hosts.items():
            host = urlsplit(url).hostname or ""
            if not on_loopback(host):
                raise TopologyError(f"{name}: {host!r} is not an address of {LOOPBACK}; give one like 127.30.0.1")

    @classmethod
    def default(cls) -> Topology:
        """Two sites, private and public, at the addresses the tracked settings name."""
        return cls.in_blocks({"private": ("private", "127.10"), "public": ("public", "127.20")})

    @classmethod
    def in_blocks(
        cls, sites: dict[str, tuple[str, str]], *, shared_block: str = "127.30", provider_port: int = 7301
    ) -> Topology:
        """`sites` maps a name to its kind and block; what stands above the sites lies in `shared_block`."""
        return cls(
            sites={name: SiteAddresses(name=name, kind=kind, block=block) for name, (kind, block) in sites.items()},
            aws_url=f"http://{shared_block}.0.1:5000",
            dns_host=f"{shared_block}.0.53",
            dns_port=5353,
            prober_url=f"http://{shared_block}.0.53:5380",
            provider_port=provider_port,
        )

    def site(self, name: str) -> SiteAddresses:
        """The addresses of one site."""
        if name not in self.sites:
            raise TopologyError(
                f"site {name!r} is not in this lab, which has {', '.join(sorted(self.sites)) or 'none'};"
                " name one of these or start the lab with another topology"
            )
        return self.sites[name]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        try:
            sites = {name: SiteAddresses(**site) for name, site in document["sites"].items()}
            return cls(**{**document, "sites": sites})
        except (KeyError, TypeError, AttributeError) as error:
            raise TopologyError(f"not a topology: {error}; write it anew with `tandem lab up`") from None

    @classmethod
    def load(cls, home: str | Path | None = None) -> Self:
        """The topology of the lab that runs, or starts, in this home."""
        path = lab_directory(home_directory(home)) / "lab.json"
        try:
            document = json.loads(path.read_text())
        except (OSError, ValueError):
            raise TopologyError(f"no readable {path}: the lab is not up; start it: tandem lab up") from None
        if not isinstance(document, dict) or "topology" not in document:
            raise TopologyError(f"{path} has no topology: it is not a lab's; start the lab anew: tandem lab up")
        return cls.from_json(document["topology"])
