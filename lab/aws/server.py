"""A moto application served by threads on one loopback address; prints `ready` once it listens."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from lab.topology import home_directory

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

ACCOUNT: Final = "123456789012"
"""moto's default account, which the lab's dummy credentials belong to."""


def arguments(given: list[str] | None, *, with_site: bool = False) -> tuple[Path, str]:
    """Home and, where asked for, site, from the command line of a lab process."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--home", required=True)
    parser.add_argument("--site", required=with_site, default="")
    parsed = parser.parse_args(given)
    return home_directory(parsed.home), parsed.site


def moto_application() -> WSGIApplication:
    """moto, told apart by service through the credential scope of each request, as real endpoints are by host."""
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


def serve(host: str, port: int, application: WSGIApplication) -> NoReturn:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server(host, port, application, threaded=True, request_handler=MotoRequestHandler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # all state is in memory: there is nothing to put away
    print("ready", flush=True)
    server.serve_forever()
    sys.exit(0)


def preload(application: WSGIApplication, services: Iterable[str]) -> None:
    """Load moto's backends now: the first request of each service would wait for it otherwise."""
    if isinstance(application, DomainDispatcherApplication):
        for service in services:
            application.app_instances[service] = create_backend_app(service)  # type: ignore[arg-type]  # moto's Literal
