"""Signal buckets on loopback, a deployment that declares them, and no way to credentials of the machine's own."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import boto3
import pytest
from moto.server import ThreadedMotoServer

from signals.store import SignalStore
from stacks.contract import Deployment, Objectives, SiteEndpoint, StorageOutputs, TrafficOutputs
from tests.declared import filled

HOST = "127.85.0.1"
REGION = "us-east-1"
SITES = ("private", "public", "third")


def client(endpoint: str):
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id="none", aws_secret_access_key="none"
    )


@dataclass
class Stores:
    """One server with a bucket for each site; a site can be cut off from it."""

    endpoint: str

    def outputs(self, *cut: str) -> dict[str, StorageOutputs]:
        nothing = absent_endpoint()
        return {
            site: filled(
                StorageOutputs,
                site=site,
                region=REGION,
                endpoint=nothing if site in cut else self.endpoint,
                model_bucket=f"models-{site}",
                signal_bucket=f"signals-{site}",
                signal_url=f"{self.endpoint}/signals-{site}",
            )
            for site in SITES
        }

    def stores(self, *cut: str, only: tuple[str, ...] = ("private", "public")) -> list[SignalStore]:
        return [SignalStore.of(outputs) for site, outputs in self.outputs(*cut).items() if site in only]

    def empty(self) -> None:
        s3 = client(self.endpoint)
        for site in SITES:
            bucket = f"signals-{site}"
            for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
                s3.delete_object(Bucket=bucket, Key=each["Key"])


@contextlib.contextmanager
def running() -> Iterator[Stores]:
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        stores = Stores(f"http://{host}:{port}")
        for site in SITES:
            client(stores.endpoint).create_bucket(Bucket=f"signals-{site}")
        yield stores
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[Stores]:
    """One for a module's tests; a conftest offers it to a folder of them."""
    with running() as stores:
        yield stores


@pytest.fixture
def stores(server: Stores) -> Stores:
    """The same, with nothing in it."""
    server.empty()
    return server


def absent_endpoint() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.85.0.9", 0))
        return f"http://127.85.0.9:{probe.getsockname()[1]}"


def traffic(**changes: object) -> TrafficOutputs:
    sites = {
        site: filled(
            SiteEndpoint,
            name=f"{site}.recommend.tandem.test",
            address=HOST,
            port=8080,
            weight=50,
            golden_check_id=f"golden-{site}",
            drain_check_ids=[f"drain-{site}"],
            drain_stores=[other for other in SITES if other != site],
            shadow_drain_check_ids=[],
        )
        for site in SITES
    }
    declared = {
        "zone_id": "Z1",
        "zone_name": "tandem.test",
        "name_servers": [],
        "service_name": "recommend.tandem.test",
        "shadow_name": "shadow.tandem.test",
        "resolver": "127.85.0.53:5353",
        "dns_api": "http://127.85.0.1:1",
        "scheme": "http",
        "ttl_seconds": 1,
        "health_path": "/healthz",
        "health_token": "tandem-golden-ok",
        "health_interval_seconds": 1,
        "health_threshold": 1,
        "probe_timeout_seconds": 1,
        "request_timeout_seconds": 2.0,
        "checker_cidrs": [],
        "objectives": Objectives(recovery_seconds=30, availability_percent=99.9, p99_ms=500, wrong_answers=0),
        "bake_seconds": 0,
        "burn_rate_limit": 2.0,
        "sites": sites,
    }
    return filled(TrafficOutputs, **{**declared, **changes})


def a_deployment(storage: dict[str, StorageOutputs]) -> Deployment:
    return Deployment("lab", storage, {}, {}, {}, traffic())
