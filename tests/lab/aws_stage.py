"""The lab's AWS API inside a test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from lab.aws.api import Api
from lab.aws.server import moto_application


@contextmanager
def served(host: str, application: Any) -> Iterator[str]:
    """The URL of an application on a free port of a loopback address."""
    server = make_server(host, 0, application, threaded=True, request_handler=MotoRequestHandler)
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://{host}:{server.port}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join(30)


@contextmanager
def served_api(host: str) -> Iterator[tuple[Api, str]]:
    """The API and its URL. Its account is that of every other in the process."""
    api = Api(moto_application(), f"http://{host}:1")
    with served(host, api) as url:
        yield api, url
