"""Whatever is killed, and whenever: the next `tandem lab up` starts cleanly and nothing of the old lab lives on."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.live.conftest import ROOT, environment, run_tandem

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

API = "http://127.10.0.1:6443"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "listener", "namespace": "default"},
    "spec": {
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            {
                "name": "web",
                "image": "",
                "command": ["python", "-m", "http.server", "8080", "--bind", "$(POD_IP)"],
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            }
        ],
    },
}
NODE = {
    "apiVersion": "cluster.x-k8s.io/v1beta1",
    "kind": "MachineDeployment",
    "metadata": {
        "name": "small",
        "namespace": "default",
        "annotations": {
            "capacity.cluster-autoscaler.kubernetes.io/cpu": "2",
            "capacity.cluster-autoscaler.kubernetes.io/memory": "4Gi",
        },
    },
    "spec": {
        "clusterName": "private",
        "replicas": 1,
        "selector": {"matchLabels": {"pool": "small"}},
        "template": {
            "metadata": {"labels": {"pool": "small"}},
            "spec": {
                "clusterName": "private",
                "bootstrap": {"dataSecretName": "none"},
                "infrastructureRef": {
                    "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1",
                    "kind": "Metal3MachineTemplate",
                    "name": "small",
                },
            },
        },
    },
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    try:
        yield home
    finally:
        run_tandem(home, "lab", "down")


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def of_lab(home: Path) -> list[psutil.Process]:
    """Processes that carry this lab's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TANDEM_LAB_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def supervisor(home: Path) -> int:
    return int(json.loads((home / "lab" / "lab.json").read_text())["supervisor"]["pid"])


def answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def start_pod() -> str:
    """A pod that listens, on a declared node; its address."""
    printed = subprocess.run(
        [sys.executable, "-m", "lab.kubernetes.images"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    image = next(line.split()[0] for line in printed.splitlines() if "serving@" in line)
    with httpx.Client(base_url=API, timeout=10) as api:
        machines = "/apis/cluster.x-k8s.io/v1beta1/namespaces/default/machinedeployments"
        api.post(machines, json=NODE).raise_for_status()
        manifest = json.loads(json.dumps(POD))
        manifest["spec"]["containers"][0]["image"] = image
        api.post("/api/v1/namespaces/default/pods", json=manifest).raise_for_status()

        def address() -> str:
            pod = api.get("/api/v1/namespaces/default/pods/listener").json()
            return str(pod.get("status", {}).get("podIP", ""))

        until(lambda: bool(address()) and answers(address(), 8080), 60, "the pod listens")
        return address()


def test_a_killed_supervisor_takes_its_lab_and_its_pods_with_it(home: Path) -> None:
    run_tandem(home, "lab", "up")
    address = start_pod()
    os.kill(supervisor(home), signal.SIGKILL)
    until(lambda: not answers(address, 8080) and not answers("127.10.0.1", 6443), 20, "nothing listens")
    run_tandem(home, "lab", "up")
    with httpx.Client(base_url=API, timeout=10) as api:
        assert api.get("/api/v1/pods").json()["items"] == [], "a new lab starts empty"


def test_everything_killed_at_once_is_started_anew(home: Path) -> None:
    run_tandem(home, "lab", "up")
    start_pod()
    old = {process.pid for process in of_lab(home)}
    for process in of_lab(home):
        process.kill()
    run_tandem(home, "lab", "up")
    assert not old & {process.pid for process in of_lab(home)}


@pytest.mark.parametrize("seconds", [0.3, 2.0])
def test_a_start_killed_half_way_does_not_stop_the_next(home: Path, seconds: float) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "tandem", "lab", "up"], cwd=ROOT, env=environment(home), stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    starting.kill()
    starting.wait(10)
    for process in of_lab(home):
        process.kill()
    run_tandem(home, "lab", "up")
    assert answers("127.10.0.1", 6443)
    run_tandem(home, "lab", "down")
    assert of_lab(home) == []
    assert not answers("127.10.0.1", 6443)
