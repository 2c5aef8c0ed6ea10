"""`python -m lab.providers --home H`: the plugin server of a lab."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from lab.process import die_with_parent
from lab.providers.errors import ConfigurationError
from lab.providers.server import serve
from lab.topology import Topology, home_directory

GRACE_SECONDS = 2.0


def main() -> int:
    """Serve until told to stop; exit 1 when the port is taken."""
    parser = argparse.ArgumentParser(prog="python -m lab.providers", description=__doc__)
    parser.add_argument("--home", type=Path, default=None, help="the lab's home, default $TANDEM_HOME")
    home = home_directory(parser.parse_args().home)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells every request
    die_with_parent()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    topology = Topology.load(home)
    try:
        server = serve(topology.provider_port, topology)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    print("ready", flush=True)
    stopped.wait()
    server.stop(GRACE_SECONDS).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
