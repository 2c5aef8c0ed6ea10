"""Jobs with real processes, asked for by the official client over HTTP, as a drill does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import kubernetes.client
import pytest
from kubelet_bench import PYTHON, WEB, Bench, Object, container, field, machines, processes_of, until
from kubernetes.client.exceptions import ApiException

from lab.kubernetes import images
from lab.kubernetes.api.kinds import CRON_JOB, JOB, MACHINE_DEPLOYMENT, POD
from lab.kubernetes.site import Site
from lab.topology import SiteAddresses

pytestmark = pytest.mark.live

client: Any = kubernetes.client  # manifests are dicts here, and what comes back is asserted on, not typed

ASKS = """
import os, sys, urllib.request
host, port = os.environ['KUBERNETES_SERVICE_HOST'], os.environ['KUBERNETES_SERVICE_PORT']
url = f'http://{host}:{port}/api/v1/namespaces/default/pods/{os.environ["NAME"]}'
body = urllib.request.urlopen(url, timeout=30).read().decode()
sys.exit(0 if os.environ['NAME'] in body and os.path.exists('lab/kubernetes/images.py') else 3)
"""


class Cluster(Bench):
    """A site in this process and the official client in threads beside it."""

    def __init__(self, site: Site, api: Any) -> None:
        super().__init__(site)
        self.batch = client.BatchV1Api(api)
        self.core = client.CoreV1Api(api)

    async def ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        async with asyncio.timeout(30):
            return await asyncio.to_thread(call, *arguments, _request_timeout=15, **more)

    async def create(self, manifest: Object) -> Any:
        return await self.ask(self.batch.create_namespaced_job, "default", manifest)

    def job(self, name: str) -> Object:
        return self.store.get(JOB, "default", name)

    def count(self, name: str, what: str) -> int:
        return int(self.job(name)["status"].get(what) or 0)

    def outcome(self, name: str) -> str:
        """`Complete` or the reason of a failure; empty while the Job goes on."""
        conditions = (self.job(name).get("status") or {}).get("conditions") or []
        found = {each["type"]: each["reason"] for each in conditions}
        return "Complete" if "Complete" in found else found.get("Failed", "")

    def of(self, name: str) -> list[Object]:
        return self.store.list(POD, "default", f"batch.kubernetes.io/job-name={name}")

    def running(self, name: str) -> list[Object]:
        return [pod for pod in self.of(name) if (pod.get("status") or {}).get("phase") == "Running"]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    addresses = SiteAddresses(name="jobs", kind="private", block="127.78")
    site = Site(addresses, tmp_path, back_off_seconds=0.2)
    await site.start()
    configuration = client.Configuration(host=addresses.api_url)
    configuration.retries = False
    api = client.ApiClient(configuration)
    try:
        site.store.create(MACHINE_DEPLOYMENT, machines(2))
        yield Cluster(site, api)
    finally:
        api.rest_client.pool_manager.clear()
        await site.stop()


def job(name: str, *command: str, policy: str = "Never", image: str = PYTHON, **spec: Any) -> Object:
    pod = {
        "restartPolicy": policy,
        "terminationGracePeriodSeconds": 2,
        "containers": [container("main", *command, image=image, env=[field("NAME", "metadata.name")])],
    }
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": {"spec": pod}, **spec}}


async def test_a_job_of_the_drills_image_reaches_the_api_succeeds_and_leaves_its_log(cluster: Cluster) -> None:
    drills = images.TABLE[images.DRILLS].reference
    made = await cluster.create(job("asks", "python", "-c", ASKS + "\nprint('seen')", image=drills))
    assert made.metadata.uid
    await until(lambda: cluster.outcome("asks") == "Complete", what="the job to succeed")
    told = await cluster.ask(cluster.batch.read_namespaced_job_status, "asks", "default")
    assert (told.status.succeeded, told.status.failed, told.status.active, told.status.ready) == (1, None, None, 0)
    assert {each.type for each in told.status.conditions} == {"SuccessCriteriaMet", "Complete"}
    assert told.status.completion_time >= told.status.start_time
    (pod,) = cluster.of("asks")
    assert pod["status"]["phase"] == "Succeeded"


async def test_a_failing_pod_is_followed_by_new_ones_until_the_limit_is_reached(cluster: Cluster) -> None:
    await cluster.create(job("bad", "sh", "-c", "echo no; exit 3", backoffLimit=1))
    await until(lambda: cluster.outcome("bad") == "BackoffLimitExceeded", what="the job to give up")
    assert (cluster.count("bad", "failed"), len(cluster.of("bad"))) == (2, 2)
    for pod in cluster.of("bad"):
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
        name = pod["metadata"]["name"]
        assert await cluster.ask(cluster.core.read_namespaced_pod_log, name, "default") == "no\n"


async def test_on_failure_restarts_in_place_and_a_later_run_may_succeed(cluster: Cluster) -> None:
    once = 'if [ -e "$HOME/tried" ]; then exit 0; fi; touch "$HOME/tried"; exit 1'
    await cluster.create(job("twice", "sh", "-c", once, policy="OnFailure", backoffLimit=3))
    await cluster.create(job("never", "false", policy="OnFailure", backoffLimit=2))
    await until(lambda: cluster.outcome("twice") == "Complete", what="the second run to succeed")
    (pod,) = cluster.of("twice")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 1
    assert cluster.count("twice", "failed") == 0
    await until(lambda: cluster.outcome("never") == "BackoffLimitExceeded", what="the other to give up")


async def test_a_job_past_its_deadline_is_killed_and_says_so(cluster: Cluster) -> None:
    await cluster.create(job("long", "sleep", "1000", activeDeadlineSeconds=3))
    (pod,) = await until(lambda: cluster.running("long"))
    await until(lambda: cluster.outcome("long") == "DeadlineExceeded", what="the deadline")
    assert processes_of(cluster.site.home) == [], "ended, and not only told so"
    await until(lambda: cluster.gone(pod["metadata"]["name"]))
    assert cluster.count("long", "failed") == 1


async def test_a_pod_that_is_deleted_or_lost_with_its_node_is_replaced(cluster: Cluster) -> None:
    await cluster.create(job("stays", "sleep", "1000"))
    (first,) = await until(lambda: cluster.running("stays"))
    await cluster.ask(cluster.core.delete_namespaced_pod, first["metadata"]["name"], "default")
    await until(lambda: cluster.gone(first["metadata"]["name"]))
    (second,) = await until(lambda: cluster.running("stays"))
    await cluster.ask(cluster.core.delete_node, second["spec"]["nodeName"])
    await until(lambda: cluster.gone(second["metadata"]["name"]))
    (third,) = await until(lambda: cluster.running("stays"))
    assert len({pod["metadata"]["uid"] for pod in (first, second, third)}) == 3
    assert (cluster.count("stays", "failed"), cluster.outcome("stays")) == (2, "")
    await cluster.ask(cluster.batch.delete_namespaced_job, "stays", "default", propagation_policy="Foreground")
    await until(lambda: not cluster.store.list(JOB) and not cluster.of("stays"), what="all of it to go")


async def test_a_finished_job_frees_what_it_asked_for_and_goes_after_its_time(cluster: Cluster) -> None:
    greedy = job("greedy", "true", parallelism=1, completions=3, ttlSecondsAfterFinished=2)
    greedy["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "7"}}
    greedy["spec"] |= {"parallelism": 3}  # two nodes of 8: the third waits for one that has ended
    await cluster.create(greedy)
    await until(lambda: cluster.outcome("greedy") == "Complete", what="three pods, two at a time")
    assert len(cluster.of("greedy")) == 3
    await until(lambda: not cluster.store.list(JOB) and not cluster.of("greedy"), what="the job to expire")


async def test_a_cron_job_runs_its_job_at_once_when_its_time_has_passed(cluster: Cluster) -> None:
    cron = {"metadata": {"name": "often"}, "spec": {"schedule": "* * * * *"}}
    cron["spec"]["jobTemplate"] = {"spec": job("x", "true")["spec"]}  # type: ignore[assignment]  # a manifest
    await cluster.ask(cluster.batch.create_namespaced_cron_job, "default", cron)
    made = cluster.store.get(CRON_JOB, "default", "often")
    made["status"] = {"lastScheduleTime": "2020-01-01T00:00:00Z"}
    cluster.store.update(CRON_JOB, made, subresource="status")
    await until(
        lambda: any(cluster.outcome(each["metadata"]["name"]) == "Complete" for each in cluster.store.list(JOB))
    )
    await until(lambda: "lastSuccessfulTime" in cluster.store.get(CRON_JOB, "default", "often")["status"])


async def test_the_proxy_of_a_pod_answers_what_the_pod_answers(cluster: Cluster) -> None:
    serving = job("serves", "python", "-c", WEB)
    serving["spec"]["template"]["spec"]["containers"][0]["env"].append(field("IP", "status.podIP"))
    await cluster.create(serving)
    (pod,) = await until(lambda: cluster.running("serves"))
    name = pod["metadata"]["name"]

    async def asked() -> bool:
        with contextlib.suppress(ApiException):
            get = cluster.core.connect_get_namespaced_pod_proxy_with_path
            return bool(await cluster.ask(get, f"{name}:8080", "default", "") == name)
        return False

    for _ in range(100):
        if await asked():
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the pod never answered through the proxy")
    with pytest.raises(ApiException) as refused:
        await cluster.ask(cluster.core.connect_get_namespaced_pod_proxy_with_path, f"{name}:8081", "default", "")
    assert refused.value.status == 503
    assert json.loads(refused.value.body or "")["reason"] == "ServiceUnavailable"
