"""The real Pulumi CLI on the lab: every stack comes up as previewed, stays, changes by one setting, and goes."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from stacks.contract import LAYERS, StackName, TrafficOutputs
from stacks.workspace import Workspace
from tests.live.conftest import ROOT, environment, run_tandem
from trials import line as trials_line
from trials.inventory import different, held
from trials.up_kill import override

pytestmark = [
    pytest.mark.live,
    pytest.mark.pulumi,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(shutil.which("pulumi") is None, reason="the Pulumi CLI is not on PATH"),
]

Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Change:
    """Settings of one stack, and everything a preview may show of them: resources with the properties that change."""

    settings: dict[str, Any]
    shows: dict[str, set[str]]


def room(stack: str) -> dict[str, Any]:
    """The settings of a stack's GPU pools, with room for one more machine in each."""
    pools = Workspace("lab", ROOT, Path()).settings(StackName.parse(f"{stack}.lab"))["tandem:gpu_pools"]
    return {"gpu_pools": [{**pool, "max": pool["max"] + 1} for pool in pools]}


KEPT_SHORTER = {"rules[1].expiration.days", "rules[2].noncurrentVersionExpiration.noncurrentDays"}
MOST_MACHINES = {'metadata.annotations["cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size"]'}
GPUS = {'spec.hard["requests.nvidia.com/gpu"]'}
SHARE = {"weightedRoutingPolicies[0].weight"}
RECORDS = ("traffic-private", "traffic-private-shadow", "traffic-public", "traffic-public-shadow")
CHANGES = {
    "storage-private": Change({"raw_events_days": 29}, {"private-raw-events-life": KEPT_SHORTER}),
    "storage-public": Change({"raw_events_days": 29}, {"public-raw-events-life": KEPT_SHORTER}),
    "pool-private": Change(room("pool-private"), {"private-gpu": MOST_MACHINES}),
    "pool-public": Change(room("pool-public"), {"public-gpu": {"scalingConfig.maxSize"}}),
    "platform-private": Change({"gpu_quota": 5}, {"private-quota": GPUS}),
    "platform-public": Change({"gpu_quota": 5}, {"public-quota": GPUS}),
    "serving-private": Change({"gateway_replicas": 3}, {"gateway-deployment": {"spec.replicas"}}),
    "serving-public": Change({"gateway_replicas": 3}, {"gateway-deployment": {"spec.replicas"}}),
    "traffic": Change({"sites": {"private": 60, "public": 40}}, dict.fromkeys(RECORDS, SHARE)),
}
"""Every stack, and one change of it."""
STORES = ("storage-private", "storage-public")
PROTECTED = (*STORES, "pool-public", "traffic")
"""Stacks whose settings protect what would be missed, in prod; the lab's leave it off, and this test asks for it."""


@dataclass(frozen=True)
class Lab:
    """A lab of this test's own, and the commands of somebody who has the real CLI."""

    home: Path

    def tandem(self, *arguments: str, engine: str = "cli", code: int = 0) -> subprocess.CompletedProcess[str]:
        done = run_tandem(self.home, *arguments, "--env", "lab", "--engine", engine, check=False)
        assert done.returncode == code, f"{' '.join(arguments)}: {done.returncode}\n{done.stderr[-4000:]}"
        return done

    def preview(self, *options: str) -> dict[str, dict[str, Any]]:
        return json.loads(self.tandem("preview", "--format", "json", *options).stdout)

    def up(self, *options: str) -> Counts:
        return json.loads(self.tandem("up", "--json", *options).stdout)

    def outputs(self, engine: str = "cli") -> dict[str, dict[str, Any]]:
        return json.loads(self.tandem("outputs", "--json", engine=engine).stdout)

    def set(self, stack: str, **settings: Any) -> None:
        override(trials_line.Line(self.home, print), stack, settings)

    def pulumi(self, *arguments: str) -> str:
        """What `pulumi ...` prints, typed by hand as docs/lab.md says."""
        lab = json.loads((self.home / "lab" / "lab.json").read_text())
        by_hand = {
            **environment(self.home),
            **lab["engine_environment"],
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PULUMI_BACKEND_URL": f"file://{self.home}/lab/pulumi",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_HOME": str(self.home / "lab" / "pulumi-home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        command = ["pulumi", *arguments, "--non-interactive"]
        done = subprocess.run(command, cwd=ROOT, env=by_hand, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def refresh(self, stack: str, *options: str) -> None:
        self.pulumi("refresh", "--yes", "--skip-preview", *self.where(stack), *options)

    def where(self, stack: str) -> tuple[str, ...]:
        """The stack, and the settings `tandem` merged for it."""
        settings = self.home / "lab" / "config" / "merged" / "cli" / f"Pulumi.{stack}.lab.yaml"
        return "--stack", f"{stack}.lab", "--config-file", str(settings)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    home = tmp_path / "home"
    try:
        run_tandem(home, "lab", "up")
        yield Lab(home)
    finally:
        run_tandem(home, "lab", "down")


def operations(counts: Counts) -> set[str]:
    return {op for each in counts.values() for op in each}


def summaries(digests: dict[str, dict[str, Any]]) -> Counts:
    return {stack: digest["changeSummary"] for stack, digest in digests.items()}


def shown(digest: dict[str, Any]) -> dict[str, tuple[str, set[str]]]:
    """Each resource a preview would touch: what it would do to it, and which properties change."""
    return {
        step["urn"].rpartition("::")[2]: (step["op"], set(step.get("detailedDiff") or {}))
        for step in digest["steps"]
        if step["op"] not in {"same", "read"}
    }


def comes_up(lab: Lab, layer: str) -> list[str]:
    """All of a layer is new, and made as previewed; its stacks, without the environment."""
    previewed = summaries(lab.preview("--layer", layer))
    assert operations(previewed) == {"create"}, previewed
    assert lab.up("--layer", layer) == previewed
    return [stack.removesuffix(".lab") for stack in previewed]


def stays(lab: Lab, layer: str, stacks: list[str], plans: Path) -> None:
    """What was just made is found in the clouds as it was recorded, and nothing would change."""
    for stack in stacks:
        lab.refresh(stack, "--expect-no-changes")
    again = lab.preview("--layer", layer, "--plans", str(plans), "--refresh", "--expect-no-changes")
    assert operations(summaries(again)) == {"same"}


def changes(lab: Lab, layer: str, stacks: list[str]) -> None:
    """A setting shows as what hangs on it, in place and nothing else, and that is done."""
    for stack in stacks:
        lab.set(stack, **CHANGES[stack].settings)
    previewed = lab.preview("--layer", layer)
    assert {stack: shown(digest) for stack, digest in previewed.items()} == {
        f"{stack}.lab": {name: ("update", paths) for name, paths in CHANGES[stack].shows.items()} for stack in stacks
    }
    assert lab.up("--layer", layer) == summaries(previewed)


def keeps_to_the_rules(lab: Lab) -> None:
    """docs/policies.md: the CLI runs them over every stack, with values only a cloud knows."""
    for stack in CHANGES:
        pack = ("--policy-pack", "infra/policies/pack")
        assert "tandem@" in lab.pulumi("preview", "--expect-no-changes", *pack, *lab.where(stack))


def is_found_when_changed_by_hand(lab: Lab) -> None:
    """docs/day-2.md, "Read the nightly drift": two hands that should not have, in two clouds."""
    traffic = TrafficOutputs.read(lab.outputs()["traffic.lab"])
    sites = json.loads((lab.home / "lab" / "lab.json").read_text())["topology"]["sites"]
    scale = f"http://{sites['private']['block']}.0.1:6443/apis/apps/v1/namespaces/tandem/deployments/gateway/scale"
    with httpx.Client(trust_env=False, timeout=10) as api:
        merge = {"Content-Type": "application/merge-patch+json"}
        api.patch(scale, json={"spec": {"replicas": 2}}, headers=merge).raise_for_status()
    dns = boto3.client(
        "route53", endpoint_url=traffic.dns_api, region_name="us-east-1",
        aws_access_key_id="lab", aws_secret_access_key="lab",
    )  # fmt: skip
    found = dns.list_resource_record_sets(HostedZoneId=traffic.zone_id)["ResourceRecordSets"]
    name = f"{traffic.service_name}."
    record = next(each for each in found if each["Name"] == name and each.get("SetIdentifier") == "public")
    upsert = {"Action": "UPSERT", "ResourceRecordSet": {**record, "Weight": 0}}
    dns.change_resource_record_sets(HostedZoneId=traffic.zone_id, ChangeBatch={"Changes": [upsert]})

    said = lab.tandem("preview", "--refresh", "--expect-no-changes", code=1).stderr
    assert "serving-private.lab, traffic.lab: no change was expected" in said
    for stack in ("serving-private", "traffic"):
        lab.refresh(stack)
    put_back = lab.up("--layer", "serving", "--layer", "traffic")
    assert {stack: counts.get("update", 0) for stack, counts in put_back.items()} == {
        "serving-private.lab": 1,
        "serving-public.lab": 0,
        "traffic.lab": 1,
    }
    assert operations(put_back) == {"same", "update"}


def is_the_same_to_the_embedded_engine(lab: Lab, folder: Path) -> None:
    """With the CLI's records it finds nothing to do to any cloud, and exports to the last key what the CLI does."""
    folder.mkdir()
    for stack in CHANGES:
        record = folder / f"{stack}.json"
        record.write_text(lab.pulumi("stack", "export", "--show-secrets", "--stack", f"{stack}.lab"))
        subprocess.run(
            [sys.executable, "-m", "lab.engine", "import", "--stack", f"{stack}.lab", "--file", str(record)],
            cwd=ROOT, env=environment(lab.home), check=True, timeout=60,
        )  # fmt: skip
    said = lab.tandem("up", engine="embedded").stderr.splitlines()
    done = [line for line in said if re.match(r"\S+ +(created|updated|replaced|deleted|let go) ", line)]
    assert [line for line in done if " pulumi:" not in line] == [], "only each engine's own records differ"
    assert len([line for line in said if re.match(r"\S+ +done in ", line)]) == len(CHANGES)
    assert lab.outputs("embedded") == lab.outputs("cli")


def is_taken_down(lab: Lab) -> None:
    """docs/day-2.md, "Take it down": what is protected is named, and stays until settings let go of it."""
    whole = held(lab.home)
    refused = lab.tandem("destroy", code=1).stderr
    assert "aws:route53/zone:Zone::traffic-zone" in refused
    assert [stack for stack in PROTECTED if f"{stack}.lab: " not in refused] == []
    assert different(whole, held(lab.home)) == []
    for stack in PROTECTED:
        lab.set(stack, protect=False)
    stacks = [option for stack in PROTECTED for option in ("--stack", stack)]
    assert operations(lab.up(*stacks)) == {"same", "update"}
    for stack in STORES:
        lab.set(stack, force_destroy=True)
    assert operations(lab.up("--layer", "storage")) == {"same", "update"}
    gone = json.loads(lab.tandem("destroy", "--json").stdout)
    assert sorted(gone) == sorted(f"{stack}.lab" for stack in CHANGES)
    assert operations(gone) == {"delete", "discard"}, "what is discarded was only read: outputs of other stacks"
    for stack in CHANGES:
        # By itself it would delete the tracked settings of the stack too.
        lab.pulumi("stack", "rm", "--yes", "--preserve-config", "--stack", f"{stack}.lab")


def test_every_stack_comes_up_stays_changes_and_goes(lab: Lab, package: str, tmp_path: Path) -> None:
    bare = held(lab.home)
    model = json.loads(package)
    for stack in PROTECTED:
        lab.set(stack, protect=True)
    for stack in STORES:
        lab.set(stack, force_destroy=False)
    for layer in LAYERS:
        stacks = comes_up(lab, layer)
        stays(lab, layer, stacks, tmp_path / "plans")
        changes(lab, layer, stacks)
        if layer == "storage":
            run_tandem(lab.home, "model", "publish", model["package"], "--env", "lab")
            run_tandem(lab.home, "model", "promote", model["digest"], "--env", "lab", "--all-sites")
    assert sorted(path.stem for path in (tmp_path / "plans").glob("*.json")) == sorted(
        f"{stack}.lab" for stack in CHANGES
    )
    keeps_to_the_rules(lab)
    is_found_when_changed_by_hand(lab)
    is_the_same_to_the_embedded_engine(lab, tmp_path / "records")
    is_taken_down(lab)
    assert different(bare, held(lab.home)) == []
