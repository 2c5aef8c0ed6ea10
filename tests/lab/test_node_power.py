"""Machines that lose their power and get it back: what stands still, what stays, what starts anew."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from kubelet_bench import Bench, container, leave_segment, pod, segments, until, web
from node_bench import (
    back,
    lab_of,
    missed,
    node_of,
    nodes_of,
    off,
    on,
    pods_of,
    powered,
    processes,
    ready_of,
    silent,
    states,
    switch,
)

from lab.kubernetes import run
from lab.kubernetes.api.errors import ApiError
from lab.kubernetes.api.kinds import BARE_METAL_HOST, MACHINE, MACHINE_DEPLOYMENT, NODE, POD
from lab.process import wait_until

pytestmark = pytest.mark.live

FAMILY = """
import subprocess, sys, time
subprocess.Popen(['sleep', '1001'])
subprocess.Popen(['sleep', '1002'], start_new_session=True)
while True:
    print(time.monotonic(), flush=True)
    time.sleep(0.02)
"""
DISK = {"name": "disk", "emptyDir": {}}
MEMORY = {"name": "memory", "emptyDir": {"medium": "Memory"}}
MOUNTS = [{"name": "disk", "mountPath": "/disk"}, {"name": "memory", "mountPath": "/memory"}]


DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with lab_of(tmp_path) as bench:
        yield bench


async def test_every_machine_has_a_host_and_its_node_names_both(bench: Bench) -> None:
    machine = bench.store.list(MACHINE)[0]
    name = machine["metadata"]["name"]
    node = bench.store.get(NODE, None, name)
    host = bench.store.get(BARE_METAL_HOST, "default", f"{name}-host")
    assert node["spec"]["providerID"] == f"metal3://default/{name}-host/{name}"
    await until(lambda: bench.store.get(MACHINE, "default", name)["spec"].get("providerID"))
    assert bench.store.get(MACHINE, "default", name)["spec"]["providerID"] == node["spec"]["providerID"]
    assert host["spec"]["online"] is True
    assert (host["spec"]["consumerRef"]["kind"], host["spec"]["consumerRef"]["name"]) == ("Machine", name)
    await until(lambda: powered(bench, name) is True)
    bench.store.delete(BARE_METAL_HOST, "default", f"{name}-host")
    await until(lambda: powered(bench, name) is True, what="there is one per machine")
    bench.change(MACHINE_DEPLOYMENT, "bench", lambda spec: spec.update(replicas=0))
    await until(lambda: not bench.store.list(BARE_METAL_HOST), what="the host goes with its machine")


async def test_without_power_every_process_stands_still_and_no_connection_is_reset(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    bench.store.create(POD, pod("web", web(), container("family", "python", "-c", FAMILY)))
    await until(lambda: bench.ready("web") and len(processes(bench, "web")) == 4)
    ip = bench.pod("web")["status"]["podIP"]
    reader, writer = await asyncio.open_connection(ip, 8080)
    before = processes(bench, "web")
    await off(bench, node)
    await until(lambda: states(before) == {psutil.STATUS_STOPPED}, 10, "all of them")
    log = bench.folder("web") / "logs" / "family.0.log"
    written = log.stat().st_size
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert await silent(reader), "an open connection is silent"
    again, other = await asyncio.open_connection(ip, 8080)
    other.write(b"GET / HTTP/1.0\r\n\r\n")
    assert await silent(again), "a new one is taken by the kernel's queue and never answered"
    assert log.stat().st_size == written
    assert processes(bench, "web") == before
    for each in (writer, other):
        each.close()


async def test_without_power_nothing_is_probed_restarted_ended_or_told(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    probe = {"exec": {"command": ["true"]}, "periodSeconds": 1, "failureThreshold": 1}
    bench.store.create(POD, pod("p", container(livenessProbe=probe)))
    bench.store.create(POD, pod("ending", container("main", "python", "-c", DEAF)))
    await until(lambda: bench.ready("p") and bench.ready("ending") and bench.log("ending") == "deaf\n")
    for grace_seconds in (30, 1):  # the second deletion shortens the first: SIGKILL is due in the dark
        bench.store.delete(POD, "default", "ending", grace_period_seconds=grace_seconds)
        await asyncio.sleep(0.05)
    await off(bench, node)
    told = bench.pod("p")["status"]["containerStatuses"]
    running = processes(bench, "p") + processes(bench, "ending")
    assert len(running) == 2
    bench.store.create(POD, pod("late", nodeName=node))
    bench.store.delete(POD, "default", "p", grace_period_seconds=1)
    await missed(bench, node)
    await asyncio.sleep(1.2)  # the grace periods of both deletions are over by now
    assert states(running) == {psutil.STATUS_STOPPED}
    assert bench.pod("p")["status"]["containerStatuses"] == told
    assert bench.pod("p")["metadata"]["deletionTimestamp"], "it stays until the machine is back"
    assert bench.pod("ending")["metadata"]["deletionTimestamp"]
    assert processes(bench, "late") == []
    assert not bench.events("Unhealthy")
    with pytest.raises(ApiError, match=f"node {node} of pod .* does not answer") as refused:
        bench.log("p")
    assert refused.value.code == 500
    await on(bench, node)
    await until(lambda: bench.gone("p") and bench.gone("ending"), what="what was being deleted vanishes")
    assert not any(psutil.pid_exists(pid) for pid in running)
    await until(lambda: bench.ready("late"), what="what was bound meanwhile starts")


async def test_a_machine_that_boots_starts_its_pods_from_their_beginning(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    boot_id = bench.store.get(NODE, None, node)["status"]["nodeInfo"]["bootID"]
    script = 'echo x >> /disk/"$0"; echo x >> /memory/"$0"; '.replace("/disk/", "$D/").replace("/memory/", "$M/")
    env = [{"name": "D", "value": "/disk"}, {"name": "M", "value": "/memory"}]
    init = container("init", "sh", "-c", script, "init", env=env, volumeMounts=MOUNTS)
    main = container("main", "sh", "-c", script + "exec sleep 1000", "main", env=env, volumeMounts=MOUNTS)
    bench.store.create(POD, pod("p", main, initContainers=[init], volumes=[DISK, MEMORY]))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    volumes = bench.folder("p") / "volumes"
    await until(lambda: (volumes / "memory" / "main").exists())
    leave_segment("p-region")
    old, address = processes(bench, "p"), bench.pod("p")["status"]["podIP"]
    await off(bench, node)
    await missed(bench, node)
    assert not bench.ready("p")
    assert segments("p-region")
    await on(bench, node)
    await back(bench, node)
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    await until(lambda: (volumes / "disk" / "main").read_text() == "x\nx\n")
    assert (volumes / "disk" / "init").read_text() == "x\nx\n", "the init container ran again; its disk is as it was"
    assert (volumes / "memory" / "main").read_text() == "x\n", "what was in memory is not there any more"
    assert not segments("p-region")
    assert not set(old) & set(processes(bench, "p"))
    status = bench.status("p")
    assert status["restartCount"] == 1
    assert (status["lastState"]["terminated"]["exitCode"], status["lastState"]["terminated"]["reason"]) == (
        255,
        "Unknown",
    )
    assert bench.status("p", init=True)["restartCount"] == 1
    assert bench.pod("p")["status"]["podIP"] != address, "its network is a new one"
    assert bench.store.get(NODE, None, node)["status"]["nodeInfo"]["bootID"] != boot_id
    assert bench.events("Rebooted")


async def test_a_machine_that_is_back_before_it_is_missed_has_booted_all_the_same(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    bench.store.create(POD, pod("p"))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    await off(bench, node)
    await on(bench, node)
    await until(lambda: bench.status("p")["restartCount"] == 1 and bench.ready("p"))
    assert not bench.events("NodeNotReady")


async def test_a_switch_that_is_thrown_again_and_again_ends_where_it_was_left(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    bench.store.create(POD, pod("p"))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    for _ in range(3):
        switch(bench, node, on=False)
        await asyncio.sleep(0)
        switch(bench, node, on=True)
        await asyncio.sleep(0.01)
    await off(bench, node)
    kubelet = bench.site.kubelet
    kubelet.power_on(node)
    await asyncio.sleep(0)
    kubelet.power_off(node)  # in the middle of the boot
    await missed(bench, node)
    assert not [pid for pid in processes(bench, "p") if psutil.Process(pid).status() != psutil.STATUS_STOPPED]
    await on(bench, node)
    await back(bench, node)
    await until(lambda: bench.ready("p") and len(processes(bench, "p")) == 1)


@pytest.mark.parametrize(
    ("policy", "phase", "restarts"), [("Never", "Failed", 0), ("OnFailure", "Running", 1), ("Always", "Running", 1)]
)
async def test_whether_what_was_lost_runs_again_is_the_restart_policys_to_say(
    bench: Bench, policy: str, phase: str, restarts: int
) -> None:
    node = nodes_of(bench)[0]
    done = container("done", "sh", "-c", "echo $$")
    pair = [container("main", "sh", "-c", "echo up; exec sleep 1000"), done] if policy == "OnFailure" else [container()]
    bench.store.create(POD, pod("p", *pair, restartPolicy=policy))
    bench.store.create(POD, pod("over", container("main", "echo", "said"), restartPolicy="Never"))
    await until(lambda: bench.pod("over").get("status", {}).get("phase") == "Succeeded")
    await until(lambda: "running" in bench.status("p")["state"])
    if len(pair) > 1:
        await until(lambda: "terminated" in bench.status("p", 1)["state"])
    await off(bench, node)
    await on(bench, node)
    await until(lambda: bench.store.get(NODE, None, node) and bench.events("Rebooted"))
    await until(lambda: bench.pod("p")["status"]["phase"] == phase and bench.status("p")["restartCount"] == restarts)
    if policy == "Never":
        assert bench.status("p")["state"]["terminated"]["exitCode"] == 255
        assert processes(bench, "p") == []
    if len(pair) > 1:
        await until(lambda: bench.log("p") == "up\n")
        assert bench.status("p", 1)["restartCount"] == 0, "what has succeeded does not run again"
        assert bench.status("p", 1)["state"]["terminated"]["containerID"].endswith("/done/0")
        await asyncio.sleep(0.2)
        assert len(bench.log("p", "done").splitlines()) == 1
    assert bench.pod("over")["status"]["phase"] == "Succeeded"
    assert bench.log("over") == "said\n"


async def test_a_command_that_runs_beside_a_container_stands_still_too(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    hook = {"preStop": {"exec": {"command": ["sleep", "1004"]}}}
    probe = {"exec": {"command": ["sleep", "1005"]}, "timeoutSeconds": 1000}
    bench.store.create(POD, pod("p", container(lifecycle=hook, livenessProbe=probe), terminationGracePeriodSeconds=60))
    await until(lambda: len(processes(bench, "p")) == 2)
    bench.store.delete(POD, "default", "p")
    await until(lambda: len(processes(bench, "p")) == 3)
    before = processes(bench, "p")
    await off(bench, node)
    await missed(bench, node)
    assert processes(bench, "p") == before
    assert states(before) == {psutil.STATUS_STOPPED}
    await on(bench, node)
    await until(lambda: bench.gone("p"))
    assert not any(psutil.pid_exists(pid) for pid in before)


async def test_a_pod_deleted_by_force_goes_on_standing_still_until_its_machine_boots(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    bench.store.create(POD, pod("p"))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    folder, old = bench.folder("p"), processes(bench, "p")
    await off(bench, node)
    bench.store.delete(POD, "default", "p", grace_period_seconds=0)
    await missed(bench, node)
    assert states(old) == {psutil.STATUS_STOPPED}
    await on(bench, node)
    await until(lambda: not folder.exists() and not any(psutil.pid_exists(pid) for pid in old))


async def test_a_machine_that_is_given_up_in_the_dark_leaves_nothing(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    bench.store.create(POD, pod("p"))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    folder, old = bench.folder("p"), processes(bench, "p")
    await off(bench, node)
    await missed(bench, node)
    bench.change(MACHINE_DEPLOYMENT, "bench", lambda spec: spec.update(replicas=0))
    await until(lambda: not bench.store.list(MACHINE) and not bench.store.list(BARE_METAL_HOST))
    assert not bench.store.list(NODE)
    assert bench.gone("p")
    await until(lambda: not folder.exists() and not any(psutil.pid_exists(pid) for pid in old))


async def test_a_site_that_stops_leaves_nothing_of_a_machine_without_power(tmp_path: Path) -> None:
    async with lab_of(tmp_path) as bench:
        node = nodes_of(bench)[0]
        bench.store.create(POD, pod("dark", container("family", "python", "-c", FAMILY)))
        bench.store.create(POD, pod("going"))
        await until(lambda: len(processes(bench, "dark")) == 3 and bench.ready("going"))
        leave_segment("dark-region")
        bench.store.delete(POD, "default", "going")
        await off(bench, node)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 3, "what stands still is given no time"
    assert not segments("dark-region")


async def test_only_the_machine_that_is_switched_off_stands_still(tmp_path: Path) -> None:
    async with lab_of(tmp_path, 2) as bench:
        one, two = nodes_of(bench)
        for name, node in (("a", one), ("b", two)):
            bench.store.create(POD, pod(name, nodeName=node))
        await until(lambda: all(bench.ready(name) and processes(bench, name) for name in "ab"))
        await off(bench, one)
        await missed(bench, one)
        assert states(processes(bench, "a")) == {psutil.STATUS_STOPPED}
        assert psutil.STATUS_STOPPED not in states(processes(bench, "b"))
        assert (ready_of(bench, two), node_of(bench, "b"), pods_of(bench, two)) == ("True", two, ["b"])
        assert bench.ready("b")


async def test_a_process_that_keeps_starting_others_is_frozen_with_all_of_them(bench: Bench) -> None:
    bench.store.create(POD, pod("p", container("main", "sh", "-c", "while :; do sleep 0.01 & sleep 0.001; done")))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    await asyncio.sleep(0.2)
    await off(bench, nodes_of(bench)[0])
    frozen = processes(bench, "p")
    assert frozen
    await asyncio.sleep(0.2)
    assert processes(bench, "p") == frozen
    # A shell that is starting a program by vfork waits, deaf to signals, until that goes on: it stands as well.
    waiting = [
        pid for pid in frozen if psutil.STATUS_STOPPED in states([c.pid for c in psutil.Process(pid).children()])
    ]
    assert states([pid for pid in frozen if pid not in waiting]) == {psutil.STATUS_STOPPED}


def test_processes_are_looked_for_until_none_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [subprocess.Popen(["sleep", "1006"]) for _ in range(2)]
    looks = iter([[pair[0].pid], [pair[0].pid, pair[1].pid], [pair[0].pid, pair[1].pid]])
    monkeypatch.setattr(run, "_carriers", lambda _wanted: next(looks))
    try:
        assert run.freeze_marked("X", ["1"]) == sorted(each.pid for each in pair)
        assert wait_until(lambda: states([each.pid for each in pair]) == {psutil.STATUS_STOPPED}, 30)
    finally:
        for each in pair:
            each.kill()
            each.wait()


async def test_a_node_that_was_deleted_in_the_dark_is_registered_again(bench: Bench) -> None:
    node = nodes_of(bench)[0]
    bench.store.create(POD, pod("p"))
    await until(lambda: bench.ready("p") and processes(bench, "p"))
    old = processes(bench, "p")
    await off(bench, node)
    bench.store.delete(NODE, None, node)
    await until(lambda: bench.gone("p"), what="the pods of a node that is not there are forgotten")
    assert states(old) == {psutil.STATUS_STOPPED}, "a machine that is off learns of nothing"
    host = bench.store.list(BARE_METAL_HOST)[0]["metadata"]["name"]
    bench.store.patch(BARE_METAL_HOST, "default", host, {"spec": {"online": True}}, "application/merge-patch+json")
    await until(lambda: not any(psutil.pid_exists(pid) for pid in old))
    await until(lambda: nodes_of(bench) == [node], what="a machine that boots registers")
    assert bench.gone("p")
    bench.store.create(POD, pod("q"))
    await until(lambda: bench.ready("q"))
