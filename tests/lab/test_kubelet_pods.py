"""Pods as processes: what starts when, what is restarted, what a failure tells, what is left afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubelet_bench import (
    Bench,
    bench_site,
    container,
    deployment,
    leave_segment,
    pod,
    processes_of,
    refuses,
    segments,
    service,
    until,
    web,
)

from lab.kubernetes.api.errors import NotFound
from lab.kubernetes.api.kinds import CONFIG_MAP, DEPLOYMENT, NODE, POD, SERVICE
from lab.kubernetes.back_off import BackOff

pytestmark = pytest.mark.live


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench_site(tmp_path) as bench:
        yield bench


def mounted(name: str, *command: str, **more: Any) -> dict[str, Any]:
    return container(name, *command, volumeMounts=[{"name": "work", "mountPath": "/work"}], **more)


WORK = [{"name": "work", "emptyDir": {}}]


async def test_init_containers_run_in_order_and_before_everything_else(bench: Bench) -> None:
    inits = [mounted(name, "sh", "-c", f'echo {name} >> "$0"', "/work/order") for name in ("one", "two", "three")]
    main = mounted("main", "sh", "-c", 'echo main >> "$0"; exec sleep 1000', "/work/order")
    bench.store.create(POD, pod("p", main, initContainers=inits, volumes=WORK))
    await until(lambda: bench.ready("p"))
    order = bench.folder("p") / "volumes" / "work" / "order"
    await until(lambda: order.read_text().split() == ["one", "two", "three", "main"])
    status = bench.pod("p")["status"]
    assert status["phase"] == "Running"
    assert [each["state"]["terminated"]["reason"] for each in status["initContainerStatuses"]] == ["Completed"] * 3
    assert {each["type"]: each["status"] for each in status["conditions"]} == dict.fromkeys(
        ("PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"), "True"
    )


async def test_a_failing_init_container_names_itself_its_code_and_its_last_words(bench: Bench) -> None:
    fails = container("fetch", "sh", "-c", "echo the digest is wrong; exit 3")
    bench.store.create(POD, pod("p", initContainers=[fails]))
    await until(lambda: bench.status("p", init=True)["restartCount"] >= 2, what="restarts with a back-off")
    await until(lambda: bench.status("p", init=True)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    found = bench.pod("p")
    assert found["status"]["phase"] == "Pending"
    message = found["status"]["message"]
    for part in ("container fetch", "pod default/p", "exit code 3", "the digest is wrong", "CrashLoopBackOff"):
        assert part in message
    assert bench.status("p", init=True)["lastState"]["terminated"]["message"] == "the digest is wrong"
    assert "the digest is wrong" in bench.log("p", "fetch", previous=True)


async def test_a_pod_that_is_never_restarted_ends_succeeded_or_failed(bench: Bench) -> None:
    for name, code in (("good", 0), ("bad", 7)):
        bench.store.create(POD, pod(name, container("main", "sh", "-c", f"exit {code}"), restartPolicy="Never"))
    await until(lambda: bench.pod("good")["status"]["phase"] == "Succeeded")
    await until(lambda: bench.pod("bad")["status"]["phase"] == "Failed")
    assert bench.status("bad")["state"]["terminated"]["exitCode"] == 7
    assert bench.status("bad")["restartCount"] == 0


async def test_a_crashed_container_restarts_at_once_then_with_a_growing_delay(bench: Bench) -> None:
    bench.store.create(POD, pod("p", container("main", "sh", "-c", "exit 1")))
    await until(lambda: bench.status("p")["restartCount"] >= 3)
    assert bench.status("p")["lastState"]["terminated"]["exitCode"] == 1
    assert bench.events("BackOff") == ["Back-off restarting failed container main"]
    delays = BackOff(10.0)
    assert [delays.after(1.0) for _ in range(8)] == [0, 10, 20, 40, 80, 160, 300, 300]
    assert delays.after(601.0) == 0, "ten good minutes are forgiven"


@pytest.mark.parametrize(
    ("image", "part"),
    [
        ("docker.io/library/nginx:1", "does not exist"),
        (f"ghcr.io/tandem-recommender/serving@sha256:{'0' * 64}", "no manifest"),
    ],
    ids=["unknown repository", "wrong digest"],
)
async def test_an_image_that_cannot_be_had_is_told_with_pod_container_and_image(
    bench: Bench, image: str, part: str
) -> None:
    bench.store.create(POD, pod("p", container("main", image=image)))
    await until(lambda: bench.status("p")["state"].get("waiting", {}).get("reason") == "ImagePullBackOff")
    waiting = bench.status("p")["state"]["waiting"]["message"]
    for expected in ("container main", "pod default/p", image, part):
        assert expected in waiting
        assert expected in bench.pod("p")["status"]["message"]
    assert bench.events("Failed")


async def test_a_missing_config_map_key_holds_the_container_until_it_is_there(bench: Bench) -> None:
    key = {"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}
    bench.store.create(POD, pod("p", container("main", "sh", "-c", "echo $X; exec sleep 1000", env=[key])))
    await until(lambda: bench.status("p")["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError")
    assert 'configmap "settings" not found' in bench.pod("p")["status"]["message"]
    bench.store.create(CONFIG_MAP, {"metadata": {"name": "settings", "namespace": "default"}, "data": {"x": "here"}})
    await until(lambda: bench.ready("p"))
    await until(lambda: bench.log("p") == "here\n")


async def test_a_command_the_image_lacks_fails_the_start_with_its_name(bench: Bench) -> None:
    bench.store.create(POD, pod("p", container("main", "tritonserver"), restartPolicy="Never"))
    await until(lambda: bench.pod("p")["status"]["phase"] == "Failed")
    ended = bench.status("p")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert '"tritonserver": executable file not found' in ended["message"]


async def test_a_container_sees_its_own_environment_and_nothing_of_the_hosts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_SECRET", "1")
    own = [{"name": "MINE", "value": "$(POD)"}]
    entry = {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    bench.store.create(POD, pod("p", container("main", "env", env=[entry, *own]), restartPolicy="Never"))
    await until(lambda: bench.pod("p")["status"]["phase"] == "Succeeded")
    seen = dict(line.split("=", 1) for line in bench.log("p").splitlines())
    assert "HOST_SECRET" not in seen
    assert (seen["MINE"], seen["HOME"], seen["HOSTNAME"]) == ("p", str(bench.folder("p")), "p")
    assert seen["KUBERNETES_SERVICE_PORT"] == "6443"


async def test_liveness_restarts_a_container_and_readiness_only_takes_it_out(bench: Bench) -> None:
    def probe(path: str, **more: int) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1, "failureThreshold": 1, **more}

    alive = probe("/alive", initialDelaySeconds=2)
    bench.store.create(POD, pod("p", web(livenessProbe=alive, readinessProbe=probe("/ready"))))
    await until(lambda: bench.status("p").get("started"))
    for name in ("alive", "ready"):
        (bench.folder("p") / name).touch()
    await until(lambda: bench.ready("p"))
    (bench.folder("p") / "ready").unlink()
    await until(lambda: not bench.ready("p"))
    assert bench.status("p")["restartCount"] == 0
    (bench.folder("p") / "alive").unlink()
    await until(lambda: bench.status("p")["restartCount"] == 1)
    assert any("failed liveness probe" in message and "503" in message for message in bench.events("Killing"))


async def test_readiness_is_asked_until_a_container_that_failed_liveness_has_ended(bench: Bench) -> None:
    def probe(path: str) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}

    hook = {"preStop": {"sleep": {"seconds": 20}}}
    ill = {**probe("/alive"), "initialDelaySeconds": 1}
    bench.store.create(POD, pod("p", web(livenessProbe=ill, readinessProbe=probe("/ready"), lifecycle=hook)))
    await until(lambda: bench.status("p").get("started"))
    (bench.folder("p") / "ready").touch()
    await until(lambda: bench.events("Killing"))
    await until(lambda: bench.ready("p"), 9, "as with a kubelet, liveness takes nothing out of the endpoints")
    (bench.folder("p") / "ready").unlink()
    await until(lambda: not bench.ready("p"), 10)
    assert bench.status("p")["restartCount"] == 0
    assert "running" in bench.status("p")["state"], "its preStop hook has not ended"
    assert len([each for each in bench.events("Unhealthy") if each.startswith("Liveness")]) == 1


async def test_a_startup_probe_that_never_succeeds_restarts_the_container_and_is_told(bench: Bench) -> None:
    never = {"httpGet": {"path": "/absent", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2}
    bench.store.create(POD, pod("p", web(startupProbe=never)))
    await until(lambda: bench.status("p")["restartCount"] == 1)
    assert not bench.ready("p")
    assert any("/absent" in message and "Startup probe failed" in message for message in bench.events("Unhealthy"))


async def test_exec_and_tcp_probes_ask_the_container(bench: Bench) -> None:
    ready = {"exec": {"command": ["test", "-e", "/work/flag"]}, "periodSeconds": 1}
    bench.store.create(POD, pod("p", mounted("main", readinessProbe=ready), volumes=WORK))
    closed = {"tcpSocket": {"port": 9}, "periodSeconds": 1}
    bench.store.create(POD, pod("q", container("main", readinessProbe=closed)))
    await until(lambda: any("exited with 1" in message for message in bench.events("Unhealthy")))
    await until(lambda: any("dial tcp" in message and "refused" in message for message in bench.events("Unhealthy")))
    (bench.folder("p") / "volumes" / "work" / "flag").touch()
    await until(lambda: bench.ready("p"))
    assert not bench.ready("q")


STUBBORN = "import signal, time, sys; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(1000)"
POLITE = """
import os, signal, sys, time
def end(*_):
    with open(sys.argv[1], 'a') as file: file.write('term ')
    sys.exit(0)
signal.signal(15, end)
print('up', flush=True)
time.sleep(1000)
"""


async def test_pre_stop_comes_before_sigterm_and_both_within_the_grace_period(bench: Bench, tmp_path: Path) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", 'printf "hook " >> "$0"', str(tmp_path / "order")]}}}
    bench.store.create(
        POD, pod("p", container("main", "python", "-c", POLITE, str(tmp_path / "order"), lifecycle=hook))
    )
    await until(lambda: bench.ready("p") and "up" in bench.log("p"))
    bench.store.delete(POD, "default", "p")
    assert bench.pod("p")["metadata"]["deletionTimestamp"], "the kubelet removes it, when it has ended"
    await until(lambda: bench.gone("p"))
    assert (tmp_path / "order").read_text() == "hook term "


async def test_a_pre_stop_sleep_keeps_the_container_serving(bench: Bench) -> None:
    bench.store.create(POD, pod("p", web(lifecycle={"preStop": {"sleep": {"seconds": 1}}})))
    await until(lambda: bench.ready("p"))
    ip, began = bench.pod("p")["status"]["podIP"], time.monotonic()
    bench.store.delete(POD, "default", "p")
    await asyncio.sleep(0.5)
    assert not await refuses(ip, 8080)
    await until(lambda: bench.gone("p"))
    assert time.monotonic() - began >= 1.0
    assert await refuses(ip, 8080)


async def test_what_ignores_sigterm_is_killed_when_its_grace_is_over(bench: Bench) -> None:
    stubborn = container("main", "python", "-c", STUBBORN)
    bench.store.create(POD, pod("p", stubborn, terminationGracePeriodSeconds=1))
    await until(lambda: bench.ready("p") and "up" in bench.log("p"))
    began = time.monotonic()
    bench.store.delete(POD, "default", "p")
    await until(lambda: bench.gone("p"))
    assert time.monotonic() - began >= 0.9


async def test_a_forced_deletion_shortens_one_that_has_begun(bench: Bench) -> None:
    stubborn = container("main", "python", "-c", STUBBORN)
    bench.store.create(POD, pod("p", stubborn, terminationGracePeriodSeconds=60))
    await until(lambda: bench.ready("p") and "up" in bench.log("p"))
    bench.store.delete(POD, "default", "p")
    await asyncio.sleep(0.2)
    bench.store.delete(POD, "default", "p", grace_period_seconds=0)
    await until(lambda: not processes_of(bench.site.home), seconds=30)


ESCAPE = """
import subprocess, sys, time
subprocess.Popen(['sleep', '1001'])
subprocess.Popen(['sleep', '1002'], start_new_session=True)
print('up', flush=True)
time.sleep(1000)
"""


async def test_what_a_container_started_goes_with_it_even_out_of_its_process_group(bench: Bench) -> None:
    bench.store.create(POD, pod("p", container("main", "python", "-c", ESCAPE)))
    await until(lambda: bench.ready("p") and "up" in bench.log("p"))
    before = processes_of(bench.site.home)
    assert len(before) == 3
    main = next(pid for pid in before if "python" in psutil.Process(pid).name())
    os.kill(main, signal.SIGKILL)
    await until(lambda: bench.status("p")["restartCount"] == 1)
    assert bench.status("p")["lastState"]["terminated"]["exitCode"] == 137
    await until(
        lambda: len(processes_of(bench.site.home)) == 3 and not set(before) & set(processes_of(bench.site.home))
    )


async def test_an_empty_dir_dies_with_its_pod_and_a_claim_does_not(bench: Bench) -> None:
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("work", "data")]
    claim = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    main = container("main", "sh", "-c", "touch $0 $1; exec sleep 1000", "/work/x", "/data/x", volumeMounts=mounts)
    bench.store.create(POD, pod("p", main, volumes=[*WORK, claim]))
    kept = bench.site.folder / "volumes" / "default" / "data" / "x"
    await until(kept.exists)
    folder = bench.folder("p")
    bench.store.delete(POD, "default", "p")
    await until(lambda: bench.gone("p"))
    assert not folder.exists()
    assert kept.exists()


async def test_shared_memory_goes_with_its_pod(bench: Bench) -> None:
    bench.store.create(POD, pod("kubelet-test-pod"))
    await until(lambda: bench.ready("kubelet-test-pod"))
    leave_segment("kubelet-test-pod-region")
    bench.store.delete(POD, "default", "kubelet-test-pod")
    await until(lambda: bench.gone("kubelet-test-pod"))
    assert not segments("kubelet-test-pod")


async def test_a_sidecar_starts_before_the_containers_and_stops_after_them(bench: Bench) -> None:
    sidecar = mounted("side", "sh", "-c", 'echo side >> "$0"; exec sleep 1000', "/work/order", restartPolicy="Always")
    main = mounted("main", "sh", "-c", 'echo main >> "$0"', "/work/order")
    bench.store.create(POD, pod("p", main, initContainers=[sidecar], volumes=WORK, restartPolicy="Never"))
    await until(lambda: bench.pod("p")["status"]["phase"] == "Succeeded")
    order = bench.folder("p") / "volumes" / "work" / "order"
    assert sorted(order.read_text().split()) == ["main", "side"]
    assert "terminated" in bench.status("p", init=True)["state"], "a sidecar ends when the containers have"


async def test_a_sidecar_ends_when_a_later_init_container_fails_for_good(bench: Bench) -> None:
    sidecar = container("side", restartPolicy="Always")
    fails = container("fetch", "sh", "-c", "exit 3")
    bench.store.create(POD, pod("p", initContainers=[sidecar, fails], restartPolicy="Never"))
    await until(lambda: bench.pod("p").get("status", {}).get("phase") == "Failed")
    assert "terminated" in bench.status("p", init=True)["state"]
    assert processes_of(bench.site.home) == []


async def test_a_pod_that_is_deleted_shortens_the_end_of_a_sidecar(bench: Bench) -> None:
    stubborn = container("side", "python", "-c", STUBBORN, restartPolicy="Always")
    fails = container("fetch", "sh", "-c", "sleep 1; exit 3")
    spec = pod("p", initContainers=[stubborn, fails], restartPolicy="Never", terminationGracePeriodSeconds=60)
    bench.store.create(POD, spec)
    await until(lambda: "terminated" in bench.status("p", 1, init=True)["state"])
    bench.store.delete(POD, "default", "p", grace_period_seconds=1)
    await until(lambda: bench.gone("p"), 30)
    assert processes_of(bench.site.home) == []


async def test_temporary_files_lie_in_the_pods_folder_and_go_with_it(bench: Bench) -> None:
    bench.store.create(POD, pod("p", container("main", "sh", "-c", "mktemp; exec sleep 1000")))
    await until(lambda: bench.ready("p") and bench.log("p"))
    made = Path(bench.log("p").strip())
    await until(made.is_file)
    assert made.is_relative_to(bench.folder("p"))
    bench.store.delete(POD, "default", "p", grace_period_seconds=0)
    await until(lambda: bench.gone("p") and not made.exists())


async def test_a_lost_node_takes_its_pods_with_it(bench: Bench) -> None:
    bench.store.create(DEPLOYMENT, deployment("d", 2))
    await until(lambda: bench.settled("d"))
    lost = {each["metadata"]["uid"] for each in bench.pods("d")}
    bench.store.delete(NODE, None, bench.pods("d")[0]["spec"]["nodeName"])
    await until(lambda: not processes_of(bench.site.home))
    await until(lambda: len(bench.pods("d")) == 2 and not lost & {each["metadata"]["uid"] for each in bench.pods("d")})
    assert all(not each["spec"].get("nodeName") for each in bench.pods("d")), "there is no node for the new ones"


async def test_logs_are_those_of_the_run_that_is_asked_for(bench: Bench) -> None:
    bench.store.create(
        POD, pod("p", container("main", "sh", "-c", "echo $$; for i in 1 2 3; do echo $i; done; exec sleep 1000"))
    )
    await until(lambda: bench.ready("p") and "3" in bench.log("p"))
    logs = bench.site.kubelet.logs
    assert logs("default", "p", None, False, 2) == b"2\n3\n"
    with pytest.raises(NotFound, match='previous terminated container "main"'):
        logs("default", "p", "main", True, None)
    with pytest.raises(NotFound, match="has no logs"):
        logs("default", "absent", None, False, None)


async def test_service_links_of_a_service_that_exists_reach_the_container(bench: Bench) -> None:
    bench.store.create(SERVICE, service("triton", 8001))
    bench.store.create(
        POD,
        pod(
            "p",
            container("main", "sh", "-c", 'echo "$0"', "$(TRITON_SERVICE_HOST):$(TRITON_SERVICE_PORT_HTTP)"),
            restartPolicy="Never",
        ),
    )
    await until(lambda: bench.pod("p")["status"]["phase"] == "Succeeded")
    assert bench.log("p").strip() == f"{bench.store.get(SERVICE, 'default', 'triton')['spec']['clusterIP']}:8001"
