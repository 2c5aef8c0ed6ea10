"""Object stores on loopback and a small package, for the tests of publishing and fetching."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from serving import repository
from serving.store import Store


@contextlib.contextmanager
def moto_server(address: str) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def a_store(endpoint: str, name: str, bucket: str) -> Store:
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    return Store(name=name, endpoint=endpoint, bucket=bucket)


def absent_endpoint() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.83.0.9", 0))
        return f"http://127.83.0.9:{probe.getsockname()[1]}"


def a_package(into: Path, onnx: bytes = b"onnx" * 1000) -> Path:
    return repository.build(
        into,
        onnx=onnx,
        catalogue=b'{"items":[]}\n',
        golden={"request": {"history": [[0]]}},
        catalogue_size=120,
        metrics={"model": {"ndcg@10": 0.1}},
        training={"seed": 0},
    )


def use_credentials(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("AWS_ACCESS_KEY_ID", "test")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
