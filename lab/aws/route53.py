"""Route 53's data plane in one process: the name server, the prober, and the prober's status over HTTP."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import time
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from lab.aws.check import HEALTHY_SHARE
from lab.aws.dns import NameServer
from lab.aws.inventory import Inventory, Snapshot
from lab.aws.prober import Prober
from lab.aws.prober_settings import DEFAULT_CHECKERS
from lab.aws.zone import Answer, Resolver
from lab.process import die_with_parent
from lab.topology import Topology

POLL_SECONDS: Final = 1.0
FULL_READ_SECONDS: Final = 30.0
"""Without a sign of change everything is read again this often."""

log = logging.getLogger(__name__)


class DataPlane:
    """Answers by the last declaration that could be read, also while the API is away."""

    def __init__(
        self, inventory: Inventory, *, source_network: str, checkers: int, clock_factor: float, healthy_share: float
    ) -> None:
        self._inventory = inventory
        self._snapshot = Snapshot()
        self._pick = random.SystemRandom().randrange
        self._version = ""
        self._read_at: float | None = None
        self._trouble = ""
        self.prober = Prober(
            self._address,
            source_network=source_network,
            checkers=checkers,
            clock_factor=clock_factor,
            healthy_share=healthy_share,
        )

    def resolve(self, name: str, kind: str) -> Answer:
        """The answer of now."""
        resolver = Resolver(
            zones=self._snapshot.zones,
            healthy=self.prober.healthy,
            pick=self._pick,
            load_balancers=self._snapshot.load_balancers or {},
        )
        return resolver.resolve(name, kind)

    def _address(self, name: str) -> str | None:
        lines = self.resolve(name, "A").answers
        return next((line.value for line in lines if line.type == "A"), None)

    async def follow(self) -> None:
        """Keep the declaration current; trouble is logged once and shown in the status, never raised."""
        while True:
            try:
                version = await asyncio.to_thread(self._inventory.version)
                stale = self._read_at is None or time.monotonic() - self._read_at >= FULL_READ_SECONDS
                if stale or version != self._version:
                    self._snapshot = await asyncio.to_thread(self._inventory.read)
                    self.prober.apply(self._snapshot.checks or {})
                    self._version, self._read_at = version, time.monotonic()
                # Their state changes by what is measured, with no write that a version could tell.
                if self.prober.goes_by_alarms:
                    self.prober.hear(await asyncio.to_thread(self._inventory.alarms, self._snapshot.checks or {}))
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - noted; a follower that ended would freeze DNS and checks unseen
                self._note(error)
            await asyncio.sleep(POLL_SECONDS)

    def _note(self, error: Exception) -> None:
        if not self._trouble:
            log.warning("the AWS API cannot be read, answering by what is known: %r", error)
        self._trouble = f"{type(error).__name__}: {error}"

    def status(self) -> dict[str, Any]:
        """What the status API tells."""
        return {
            "clock_factor": self.prober.clock_factor,
            "healthy_share": self.prober.healthy_share,
            "zones": {zone.name: len(zone.records) for zone in self._snapshot.zones},
            "declaration_age_seconds": None if self._read_at is None else time.monotonic() - self._read_at,
            "api_trouble": self._trouble,
            "checks": self.prober.report(),
        }


async def serve(topology: Topology, *, checkers: int, clock_factor: float, healthy_share: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    network = ".".join([*topology.dns_host.split(".")[:2], "1"])
    inventory = Inventory(topology.aws_url)
    plane = DataPlane(
        inventory,
        source_network=network,
        checkers=checkers,
        clock_factor=clock_factor,
        healthy_share=healthy_share,
    )
    server = NameServer(plane.resolve)
    await server.start(topology.dns_host, topology.dns_port)
    runner = web.AppRunner(_status_application(plane), access_log=None)
    await runner.setup()
    address = urlsplit(topology.prober_url)
    await web.TCPSite(runner, address.hostname, address.port).start()
    following = asyncio.create_task(plane.follow())
    print("ready", flush=True)
    try:
        await stopped.wait()
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        await plane.prober.stop()
        await server.stop()
        await runner.cleanup()
        inventory.close()


def _status_application(plane: DataPlane) -> web.Application:
    async def status(_: web.Request) -> web.Response:
        return web.json_response(plane.status())

    application = web.Application()
    application.router.add_get("/status", status)
    return application


def main(given: list[str] | None = None) -> None:
    """Serve until told to stop."""
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--home", required=True)
    parser.add_argument("--checkers", type=int, default=DEFAULT_CHECKERS)
    parser.add_argument("--clock-factor", type=float, default=1.0, help="divides the intervals of health checks")
    parser.add_argument("--healthy-share", type=float, default=HEALTHY_SHARE, help="share of checkers that is enough")
    parsed = parser.parse_args(given)
    topology = Topology.load(parsed.home)
    asyncio.run(
        serve(
            topology,
            checkers=parsed.checkers,
            clock_factor=parsed.clock_factor,
            healthy_share=parsed.healthy_share,
        )
    )


if __name__ == "__main__":
    main()
