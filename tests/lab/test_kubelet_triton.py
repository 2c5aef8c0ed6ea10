"""A real tritonserver as a pod: started, killed, rolled, scaled to zero, and nothing left."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from kubelet_bench import PYTHON, TRITON, Object, SiteProcess, field, processes_of, refuses, segments, site_process

from lab.kubernetes.volumes import SHARED_MEMORY

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]

CONFIG = """
name: "double"
backend: "python"
max_batch_size: 8
input [{ name: "x" data_type: TYPE_FP32 dims: [1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [1] }]
"""
MODEL = """
import numpy, onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def execute(self, requests):
        given = (numpy.from_dlpack(triton.get_input_tensor_by_name(each, "x")) for each in requests)
        doubled = (triton.Tensor.from_dlpack("y", x * numpy.float32(2)) for x in given)  # numpy 2 needs DLPack
        return [triton.InferenceResponse([each]) for each in doubled]
"""
FETCH = """
import pathlib, sys
version = pathlib.Path(sys.argv[1], "repository", "double", "1")
version.mkdir(parents=True)
(version / "model.py").write_text(sys.argv[2])
(version.parent / "config.pbtxt").write_text(sys.argv[3])
"""
DEPLOYMENT = "/apis/apps/v1/namespaces/default/deployments"


def manifest(replicas: int) -> Object:
    ready = {"httpGet": {"path": "/v2/models/double/ready", "port": "http"}, "periodSeconds": 1}
    server: Object = {
        "name": "triton",
        "image": TRITON,
        "command": ["tritonserver"],
        "args": [
            "--model-repository=/models/repository",
            "--model-control-mode=none",
            *(f"--{each}-address=$(POD_IP)" for each in ("http", "grpc", "metrics")),
            *("--http-port=8000", "--grpc-port=8001", "--metrics-port=8002", "--exit-timeout-secs=10"),
            "--backend-config=python,shm-region-prefix-name=$(POD_NAME)",
        ],
        "env": [field("POD_IP", "status.podIP"), field("POD_NAME", "metadata.name"), {"name": "ROLL", "value": "1"}],
        "ports": [{"name": "http", "containerPort": 8000}, {"name": "grpc", "containerPort": 8001}],
        "startupProbe": {**ready, "failureThreshold": 60},
        "readinessProbe": ready,
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": "http"}, "periodSeconds": 5},
        "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
        "volumeMounts": [
            {"name": "models", "mountPath": "/models", "readOnly": True},
            {"name": "shm", "mountPath": str(SHARED_MEMORY)},
        ],
    }
    fetch = {
        "name": "fetch",
        "image": PYTHON,
        "command": ["python", "-c", FETCH, "/models", MODEL, CONFIG],
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    return {
        "metadata": {"name": "triton", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "triton"}},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": "triton"}},
                "spec": {
                    "terminationGracePeriodSeconds": 20,
                    "initContainers": [fetch],
                    "containers": [server],
                    "volumes": [
                        {"name": "models", "emptyDir": {}},
                        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
                    ],
                },
            },
        },
    }


async def settled(site: SiteProcess) -> bool:
    found = await site.get(f"{DEPLOYMENT}/triton")
    status, wanted = found.get("status") or {}, found["spec"]["replicas"]
    pods = (await site.get("/api/v1/namespaces/default/pods"))["items"]
    counts = [status.get(key) or 0 for key in ("replicas", "updatedReplicas", "availableReplicas")]
    current = status.get("observedGeneration") == found["metadata"]["generation"]
    return current and counts == [wanted] * 3 and len(pods) == wanted


async def doubled(url: str, value: float) -> Any:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [value]}
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        answer = await client.post(f"{url}/v2/models/double/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"][0]["data"]


def servers(home: Path) -> list[int]:
    return [pid for pid in processes_of(home) if psutil.Process(pid).name() == "tritonserver"]


def segments_of(pods: list[Object]) -> list[str]:
    return segments(*(each["metadata"]["name"] for each in pods))


async def test_a_triton_deployment_is_served_killed_rolled_and_scaled_to_zero_without_a_trace(tmp_path: Path) -> None:
    async with site_process(tmp_path) as site:
        ports = [{"name": "http", "port": 8000, "targetPort": "http"}]
        service = {"metadata": {"name": "triton"}, "spec": {"selector": {"app": "triton"}, "ports": ports}}
        await site.create("/api/v1/namespaces/default/services", service)
        await site.create(DEPLOYMENT, manifest(2))
        await site.until(lambda: settled(site), 60, "two servers that are ready")
        cluster_ip = (await site.get("/api/v1/namespaces/default/services/triton"))["spec"]["clusterIP"]
        assert await doubled(f"http://{cluster_ip}:8000", 21.0) == [42.0]
        assert len(servers(tmp_path)) == 2
        first = (await site.get("/api/v1/namespaces/default/pods"))["items"]
        assert segments_of(first), "the Python backend's shared memory carries the pod's name"

        os.kill(servers(tmp_path)[0], signal.SIGKILL)

        async def restarted() -> bool:
            pods = (await site.get("/api/v1/namespaces/default/pods"))["items"]
            counts = [status["restartCount"] for each in pods for status in each["status"]["containerStatuses"]]
            return sorted(counts) == [0, 1] and await settled(site)

        await site.until(restarted, 40, "the killed server started again in its pod")
        again = (await site.get("/api/v1/namespaces/default/pods"))["items"]
        assert {each["metadata"]["uid"] for each in again} == {each["metadata"]["uid"] for each in first}
        ended = [each["status"]["containerStatuses"][0]["lastState"].get("terminated") for each in again]
        assert [each["exitCode"] for each in ended if each] == [137]

        environment = [{"name": "ROLL", "value": "2"}]
        containers = [{"name": "triton", "env": environment}]
        await site.patch(f"{DEPLOYMENT}/triton", {"spec": {"template": {"spec": {"containers": containers}}}})
        rolling = asyncio.create_task(site.until(lambda: settled(site), 90, "two servers of the new template"))
        answers = 0
        while not rolling.done():
            assert await doubled(f"http://{cluster_ip}:8000", 1.0) == [2.0]
            answers += 1
            await asyncio.sleep(0.05)
        await rolling
        assert answers > 10, "the Service answered all through the rollout"
        assert not segments_of(first), "shared memory goes with its pod"

        second = (await site.get("/api/v1/namespaces/default/pods"))["items"]
        await site.patch(f"{DEPLOYMENT}/triton", {"spec": {"replicas": 0}})

        async def refused() -> bool:
            return await refuses(cluster_ip, 8000)

        await site.until(refused, 2, "a Service without a ready pod refuses at once, before the pods have ended")
        await site.until(lambda: settled(site), 30, "no pod")
        assert processes_of(tmp_path) == []
        assert not segments_of(second)
        assert await refuses(second[0]["status"]["podIP"], 8000)
    assert not list((tmp_path / "lab" / "sites" / "bench").glob("pods/*"))
