"""The object store of one site: moto's S3 in a process of its own, so that losing a site loses its store."""

from __future__ import annotations

from lab.aws.server import arguments, moto_application, serve
from lab.process import die_with_parent
from lab.topology import Topology


def main(given: list[str] | None = None) -> None:
    """Serve until told to stop."""
    die_with_parent()
    home, site = arguments(given, with_site=True)
    addresses = Topology.load(home).site(site)
    serve(addresses.store_host, addresses.store_port, moto_application(), warm_up=("s3",))


if __name__ == "__main__":
    main()
