"""The thin true line: programs, engine, providers, two sites, a real Triton, DNS, a site lost, a recovery measured."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from drills.journal import unfinished
from drills.load import LATE
from stacks.contract import LAYERS, Deployment, StackName
from tests.live.conftest import ROOT, Line, environment
from trials.line import RATE
from trials.table import TRIES

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

DRILL_DEADLINE_SECONDS = 240
PATH = "/v1/recommendations"


def site_client(deployment: Deployment, site: str) -> httpx.Client:
    endpoint = deployment.traffic.sites[site]
    return httpx.Client(
        base_url=f"http://{endpoint.address}:{endpoint.port}",
        headers={"Host": deployment.traffic.service_name},
        timeout=10,
    )


@pytest.fixture(scope="module")
def deployment(line: Line) -> Deployment:
    return Deployment.read("lab", line.outputs())


def wait_for(condition: object, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.2)


@contextmanager
def broken_file(path: Path, whole: str, broken: str) -> Iterator[None]:
    """The file with one pattern replaced, until the block ends."""
    kept = path.read_text()
    changed = re.sub(whole, broken, kept)
    assert changed != kept, f"{whole} is not in {path}"
    path.write_text(changed)
    try:
        yield
    finally:
        path.write_text(kept)


def start_drill(line: Line, *arguments: str) -> subprocess.Popen[str]:
    users = ("--rate", f"{RATE:g}")
    return subprocess.Popen(
        [sys.executable, "-m", "tandem", "drill", "run", "switchover", "--env", "lab", *users, *arguments],
        cwd=ROOT,
        env=environment(line.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def changed_by(line: Line, zone: str) -> Path | None:
    """The journal of a drill that has set out to change something and has not put it back, once there is one."""
    left = unfinished(line.home / "lab" / "drills", zone)
    return left[-1] if left else None


def answers(deployment: Deployment) -> bool:
    """Whether the private site's golden answer is right."""
    try:
        with site_client(deployment, "private") as client:
            return client.get("/healthz").status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def test_every_stack_exports_exactly_its_contract(line: Line) -> None:
    outputs = line.outputs()
    assert {name: sorted(values) for name, values in outputs.items()} == {
        name: sorted(LAYERS[StackName.parse(name).layer].keys()) for name in outputs
    }
    assert len(outputs) == 9


def test_a_second_up_changes_nothing(line: Line) -> None:
    counts = json.loads(line.tandem("up", "--env", "lab", "--json").stdout)
    assert {op for changes in counts.values() for op in changes} == {"same"}


def test_both_sites_rank_the_same_request_alike_and_name_themselves(deployment: Deployment, line: Line) -> None:
    answers = {}
    for site in deployment.traffic.sites:
        with site_client(deployment, site) as client:
            known = [item["id"] for item in client.post(PATH, json={"history": [], "k": 20}).json()["items"]]
            answers[site] = client.post(PATH, json={"history": known[3:9], "k": 10}).json()
    assert {answer["site"] for answer in answers.values()} == {"private", "public"}
    assert {answer["model_digest"] for answer in answers.values()} == {line.digest}
    rankings = [[item["id"] for item in answer["items"]] for answer in answers.values()]
    assert rankings[0] == rankings[1]
    assert len(rankings[0]) == 10


BAD_REQUESTS = {
    "no JSON": (b"{", {}, 400),
    "not an object": (b"[]", {}, 422),
    "no history": (b"{}", {}, 422),
    "unknown item": (b'{"history": ["no such item"]}', {}, 422),
    "k of zero": (b'{"history": [], "k": 0}', {}, 422),
    "k too large": (b'{"history": [], "k": 5000}', {}, 422),
    "unknown surface": (b'{"history": [], "surface": "billboard"}', {}, 422),
    "wrong content type": (b"{}", {"Content-Type": "text/plain"}, 415),
    "oversized": (b'{"history": ["' + b"x" * 200_000 + b'"]}', {}, 413),
    "binary": (bytes(range(256)), {}, 400),
}


@pytest.mark.parametrize("case", sorted(BAD_REQUESTS))
def test_a_bad_request_is_told_what_is_wrong_and_never_a_5xx(deployment: Deployment, case: str) -> None:
    body, headers, status = BAD_REQUESTS[case]
    with site_client(deployment, "private") as client:
        answer = client.post(PATH, content=body, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"], "the answer says what is wrong"


BREAKAGES = {
    "a probe path": (
        "infra/triton.py",
        'ready = f"/v2/models/.*/ready"',
        'ready = "/v2/models/absent/ready"',
        r"/v2/models/absent/ready",
        20,
    ),
    "a Triton flag": (
        "infra/triton.py",
        "--model-control-mode=none",
        "--model-control-mode=nothing",
        r"Bad option: .--model-control-mode",
        12,
    ),
    "a missing volume": (
        "infra/triton.py",
        r'VolumeMountArgs\(name="shm", mount_path="/dev/shm"\)',
        'VolumeMountArgs(name="shared", mount_path="/dev/shm")',
        r"volumeMounts.*shared",
        12,
    ),
}


def test_a_manifest_broken_on_purpose_fails_the_up_and_names_the_resource(line: Line, programs: Path) -> None:
    override = line.home / "lab" / "config" / "Pulumi.serving-private.lab.yaml"
    kept = override.read_text()
    settings = programs / "stacks" / "config" / "Pulumi.serving-private.lab.yaml"

    def failed_up(rollout_seconds: int, digest: str = line.digest) -> str:
        """What an `up` of the broken programs says; it has to fail."""
        wanted = f"{kept}  tandem:rollout_timeout_seconds: {rollout_seconds}\n"
        override.write_text(wanted.replace(line.digest, digest))
        done = line.tandem("up", "--env", "lab", "--stack", "serving-private", root=programs, check=False)
        assert done.returncode == 1, done.stderr
        return done.stderr

    try:
        for name, (source, whole, broken, cause, rollout_seconds) in BREAKAGES.items():
            with broken_file(programs / source, whole, broken):
                said = failed_up(rollout_seconds)
            assert re.search(r"triton-deployment|tandem/triton", said), f"{name}: names no resource: {said}"
            assert re.search(cause, said, re.DOTALL), f"{name}: {said}"
        with broken_file(settings, r"(tritonserver@sha256:)[0-9a-f]{64}", rf"\g<1>{'0' * 64}"):
            said = failed_up(10)
        assert re.search(r"triton.*nvcr\.io/nvidia/tritonserver@sha256:000", said, re.DOTALL), said
        said = failed_up(30, digest=f"sha256:{'1' * 64}")
        assert re.search(r"container fetch.*manifest\.json", said, re.DOTALL), said
    finally:
        override.write_text(kept)
        line.tandem("up", "--env", "lab", "--stack", "serving-private")


def test_the_switchover_holds_when_every_pod_of_a_site_is_gone(line: Line) -> None:
    for _ in range(TRIES):  # of a drill that calls itself no evidence, as its own users were late
        with start_drill(line, "--fault", "down", "--json") as process:
            printed, said = process.communicate(timeout=DRILL_DEADLINE_SECONDS)
        if LATE not in said + printed:
            break
    assert process.returncode == 0, f"{said}\n{printed[:20_000]}"
    journal = json.loads(printed)
    measures = journal["measures"]
    assert journal["status"] == "held"
    assert 0 < measures["recovery_seconds"] <= measures["recovery_bound_seconds"]
    assert measures["during"]["failures"] > 0, "a fault nobody felt proves nothing"
    assert "wrong" not in measures["whole"]["outcomes"]
    assert measures["during"]["answers_by_site"]["public"] > 0
    assert measures["digests"]["public"] == {"declared": line.digest, "answered": [line.digest]}


def test_an_interrupted_drill_puts_back_what_it_changed(line: Line, deployment: Deployment) -> None:
    zone = deployment.traffic.zone_id
    with start_drill(line) as process:
        wait_for(lambda: changed_by(line, zone) or process.poll() is not None, 120, "the fault")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 3, said
    assert changed_by(line, zone) is None, "the undo is journalled"
    wait_for(lambda: answers(deployment), 60, "the private site answers again")


def test_a_killed_drill_is_undone_by_the_site_and_its_journal_closed(line: Line, deployment: Deployment) -> None:
    zone = deployment.traffic.zone_id
    with start_drill(line) as process:
        wait_for(lambda: changed_by(line, zone) or process.poll() is not None, 120, "the undo to stand")
        process.kill()
        process.communicate(timeout=30)
    done = line.tandem("drill", "undo", "--env", "lab")
    assert "the lease has run out: nobody renewed it" in done.stderr, "the Job's own log is shown"
    assert "nothing of the drill is left" in done.stderr
    assert changed_by(line, zone) is None
    wait_for(lambda: answers(deployment), 60, "the private site answers again")
