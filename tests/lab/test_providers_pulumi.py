"""The real Pulumi CLI on the lab's providers: up, no change, one change, destroy; two S3 endpoints in one stack."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from test_providers_kubernetes import Site
from test_providers_protocol import free_port

from lab.providers.server import serve
from lab.topology import Topology

pytestmark = [
    pytest.mark.pulumi,
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="no pulumi CLI on PATH"),
]

PROGRAM = """
import os
import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as kubernetes

def provider(name, url):
    services = ["s3", "route53", "sts"]
    return aws.Provider(
        name, region="eu-central-1", access_key="lab", secret_key=pulumi.Output.secret("lab"), s3_use_path_style=True,
        skip_credentials_validation=True, skip_metadata_api_check=True, skip_requesting_account_id=True,
        endpoints=[{service: url for service in services}], default_tags={"tags": {"team": "search"}})

one, two = (provider(name, os.environ[f"STORE_{name.upper()}"]) for name in ("one", "two"))
first = aws.s3.Bucket("models", force_destroy=True, opts=pulumi.ResourceOptions(provider=one))
aws.s3.BucketVersioning("models", bucket=first.bucket, versioning_configuration={"status": "Enabled"},
                        opts=pulumi.ResourceOptions(provider=one))
second = aws.s3.Bucket("copies", force_destroy=True, opts=pulumi.ResourceOptions(provider=two))
on_two = pulumi.ResourceOptions(provider=two)
zone = aws.route53.Zone("zone", name="tandem.example", opts=on_two)
records = []
for site, address, weight in (("private", "127.10.0.10", 100), ("public", "127.20.0.10", int(os.environ["WEIGHT"]))):
    check = aws.route53.HealthCheck(
        f"{site}-golden", type="HTTP_STR_MATCH", ip_address=address, port=8080, resource_path="/healthz",
        search_string="tandem-golden-ok", request_interval=10, failure_threshold=2, opts=on_two)
    records.append(aws.route53.Record(
        f"{site}-share", zone_id=zone.zone_id, name="recommend.tandem.example", type="A", ttl=5, records=[address],
        set_identifier=site, weighted_routing_policies=[{"weight": weight}], health_check_id=check.id, opts=on_two))
cluster = kubernetes.Provider("cluster", kubeconfig=os.environ["CLUSTER"])
on_cluster = pulumi.ResourceOptions(provider=cluster)
namespace = kubernetes.core.v1.Namespace("serving", metadata={"name": "serving"}, opts=on_cluster)
kubernetes.core.v1.Secret("keys", metadata={"namespace": namespace.metadata.name},
                          string_data={"key": pulumi.Output.secret("hunter2")}, opts=on_cluster)
pulumi.export("buckets", [first.bucket, second.bucket])
pulumi.export("name", records[0].fqdn)
pulumi.export("namespace", namespace.metadata.name)
"""


class Cli:
    """One stack of one small program."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def __call__(self, *arguments: str, **changes: str) -> str:
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=self.folder,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def store() -> Iterator[str]:
    """moto in a process of its own, as a site's store is."""
    port = free_port("127.82.0.3")
    command = [sys.executable, "-m", "moto.server", "-H", "127.82.0.3", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.82.0.3", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.82.0.3:{port}"
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    runtime = {"name": "python", "options": {"virtualenv": sys.prefix}}
    folder = tmp_path / "program"
    for path in (folder, tmp_path / "state", tmp_path / "home"):
        path.mkdir()
    (folder / "Pulumi.yaml").write_text(json.dumps({"name": "tandem", "runtime": runtime}), encoding="utf-8")
    (folder / "__main__.py").write_text(PROGRAM, encoding="utf-8")
    port, site = free_port(), Site()
    server = serve(port, Topology.default())
    with store() as one, store() as two:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "home"),
            "PULUMI_HOME": str(tmp_path / "home"),
            "PULUMI_BACKEND_URL": f"file://{tmp_path}/state",
            "PULUMI_CONFIG_PASSPHRASE": "lab",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_PROVIDERS": f"aws:{port},kubernetes:{port}",
            "STORE_ONE": one,
            "STORE_TWO": two,
            "CLUSTER": site.kubeconfig,
            "WEIGHT": "100",
        }
        yield Cli(folder, environment)
    server.stop(0).wait()
    site.stop()


def buckets(url: str) -> list[str]:
    keys: dict[str, Any] = {"aws_access_key_id": "lab", "aws_secret_access_key": "lab", "region_name": "eu-central-1"}
    return [bucket["Name"] for bucket in boto3.client("s3", endpoint_url=url, **keys).list_buckets()["Buckets"]]


def test_the_real_cli_takes_a_stack_up_changes_it_and_destroys_it(cli: Cli) -> None:
    cli("stack", "init", "lab")
    previewed = cli("preview")
    assert "expected to have version" not in previewed
    cli("up", "--yes", "--skip-preview")
    outputs = json.loads(cli("stack", "output", "--json"))
    one, two = (cli.environment[name] for name in ("STORE_ONE", "STORE_TWO"))
    assert [buckets(one), buckets(two)] == [[outputs["buckets"][0]], [outputs["buckets"][1]]], "each in its own store"
    assert outputs["name"] == "recommend.tandem.example"
    cli("preview", "--expect-no-changes")
    change = json.loads(cli("preview", "--json", WEIGHT="0"))
    assert change["changeSummary"] == {"same": change["changeSummary"]["same"], "update": 1}
    cli("up", "--yes", "--skip-preview", WEIGHT="0")
    cli("refresh", "--yes", "--skip-preview", WEIGHT="0")
    cli("preview", "--expect-no-changes", WEIGHT="0")
    state = cli("stack", "export")
    assert "hunter2" not in state
    cli("destroy", "--yes", "--skip-preview")
    assert buckets(one) == buckets(two) == []
    assert (
        httpx.get(
            f"{json.loads(cli.environment['CLUSTER'])['clusters'][0]['cluster']['server']}/api/v1/namespaces/serving",
            trust_env=False,
        ).status_code
        == 404
    )
