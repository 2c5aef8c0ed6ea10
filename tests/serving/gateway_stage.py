"""A small model package, the real tritonserver of the wheel and a gateway process, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from lab.process import parent_binding_command
from serving.gateway_settings import Settings
from serving.inference import Answer, Encode, InferenceError, Lane
from serving.manifest import FileEntry, Manifest, version_number
from serving.reference import Golden, Reference

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ROOT / "serving" / "backends"
TOKEN = "tandem-golden-ok"
ITEMS = 120
STEP = 1e-4
"""How much every score grows with the sum of the history's indices: answers depend on the history."""


def base_scores(seed: int = 1) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).permutation(ITEMS).astype(np.float32) / np.float32(10)


def answer_of(histories: np.ndarray[Any, Any], seed: int = 1) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the small model answers, computed without it."""
    scores = base_scores(seed)[None, :] + np.float32(STEP) * histories.sum(axis=1, keepdims=True).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :50]
    return order + 1, np.take_along_axis(scores, order, axis=1).astype(np.float32)


def golden_history() -> np.ndarray[Any, Any]:
    history = np.zeros((1, 50), dtype=np.int64)
    history[0, -3:] = [7, 50, 99]
    return history


def item_ids(shift: int = 0) -> list[str]:
    """Ids of a catalogue in the order of its indices 1..N; another shift, other words for the same history."""
    return [str(10 * ((n + shift) % ITEMS + 1)) for n in range(ITEMS)]


def build_package(folder: Path, *, seed: int = 1, golden_seed: int | None = None, shift: int = 0) -> str:
    """A package with a TopK over fixed scores; `golden_seed` gives it a golden answer of another model. Its digest."""
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, np.ndarray[Any, Any]] = {
        "base": base_scores(seed).reshape(1, ITEMS),
        "axes": np.array([1], np.int64),
        "step": np.array([STEP], np.float32),
        "k": np.array([50], np.int64),
        "one": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceSum", ["history", "axes"], ["sum"], keepdims=1),
        helper.make_node("Cast", ["sum"], ["float_sum"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float_sum", "step"], ["shift"]),
        helper.make_node("Add", ["base", "shift"], ["all"]),
        helper.make_node("TopK", ["all", "k"], ["scores", "positions"], axis=1),
        helper.make_node("Add", ["positions", "one"], ["items"]),
    ]
    graph = helper.make_graph(
        nodes,
        "ranker",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["n", 50])],
        [
            helper.make_tensor_value_info("items", TensorProto.INT64, ["n", 50]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 50]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    items, scores = answer_of(golden_history(), seed if golden_seed is None else golden_seed)
    catalogue = {
        "items": [{"id": item, "title": f"Item {int(item) // 10}", "genres": ["Test"]} for item in item_ids(shift)]
    }
    golden = {
        "request": {"history": golden_history().tolist()},
        "answer": {"items": items.tolist(), "scores": scores.tolist()},
        "tolerance": {"cpu": 1e-4, "gpu": 2e-2},
    }
    files = {
        "model.onnx": model.SerializeToString(),
        "backend.py": (BACKENDS / "onnx_python.py").read_bytes(),
        "configs/cpu.pbtxt": (BACKENDS / "cpu.pbtxt").read_bytes(),
        "configs/gpu.pbtxt": (BACKENDS / "gpu.pbtxt").read_bytes(),
        "catalogue.json": json.dumps(catalogue).encode(),
        "golden.json": json.dumps(golden).encode(),
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    manifest = Manifest(
        model="recommender",
        files={name: FileEntry.of(data) for name, data in files.items()},
        catalogue_size=ITEMS,
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return manifest.digest


def lay_out(package: Path, models: Path, digest: str, name: str = "recommender", folder: str = "") -> None:
    """The folders fetching init containers leave behind; the repository may be shared with another model's."""
    reference = models / "reference" / folder
    reference.mkdir(parents=True)
    for file in ("manifest.json", "catalogue.json", "golden.json"):
        shutil.copy(package / file, reference / file)
    model = models / "repository" / name
    version = model / str(version_number(digest))
    version.mkdir(parents=True)
    shutil.copytree(package / "configs", model / "configs")
    shutil.copy(package / "model.onnx", version / "model.onnx")
    shutil.copy(package / "backend.py", version / "model.py")


def small_reference(digest: str = "sha256:" + "ab" * 32) -> Reference:
    """The same, without files."""
    items, scores = answer_of(golden_history())
    return Reference(
        digest=digest,
        ids=[str(10 * n) for n in range(1, ITEMS + 1)],
        titles=[f"Item {n}" for n in range(1, ITEMS + 1)],
        golden=Golden(
            histories=golden_history(), items=items, scores=scores.astype(float), tolerance={"cpu": 1e-4, "gpu": 2e-2}
        ),
    )


@dataclass
class Stand:
    """Answers as the small model does, or as the test says: an exception, or a change to the answer."""

    digest: str
    failure: InferenceError | None = None
    change: Callable[[Answer], Answer] = lambda answer: answer
    lanes: list[Lane] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    asked: list[np.ndarray[Any, Any]] = field(default_factory=list)
    users_may_go: asyncio.Event | None = None
    """Users get no answer before it is set; the golden question does."""

    async def ask(self, encode: Encode, *, deadline_seconds: float, lane: Lane) -> Answer:
        self.deadlines.append(deadline_seconds)
        histories = encode(self.digest)
        self.lanes.append(lane)
        self.asked.append(histories)
        if self.users_may_go is not None and lane is Lane.USERS:
            await self.users_may_go.wait()
        if self.failure is not None:
            raise self.failure
        return self.change(Answer(self.digest, *answer_of(histories)))

    async def close(self) -> None:
        pass


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "pod_ip": "127.83.1.1",
        "port": 8080,
        "site": "private",
        "model_dir": "unused",
        "model_name": "recommender",
        "accepted_digests": ("sha256:" + "ab" * 32,),
        "triton_url": "127.83.1.1:1",
        "health_token": TOKEN,
        "golden_interval_seconds": 0.2,
        "request_timeout_seconds": 1.0,
        "drain_seconds": 0.3,
    }
    return Settings(**{**values, **changes})


def environment(models: Path, digest: str, address: str, triton: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "POD_IP": address,
        "PORT": "8080",
        "SITE": "private",
        "MODEL_DIR": str(models),
        "MODEL_NAME": "recommender",
        "ACCEPTED_DIGESTS": digest,
        "TRITON_URL": triton,
        "HEALTH_TOKEN": TOKEN,
        "GOLDEN_INTERVAL_SECONDS": "0.3",
        "REQUEST_TIMEOUT_SECONDS": "1.5",
        "DRAIN_SECONDS": "1",
        "PYTHONPATH": str(ROOT),
    }


def until(condition: Callable[[], bool], deadline_seconds: float = 15.0) -> None:
    end = time.monotonic() + deadline_seconds
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_seconds} s"
        time.sleep(0.03)


async def until_async(condition: Callable[[], bool], deadline_seconds: float = 5.0) -> None:
    async with asyncio.timeout(deadline_seconds):
        while not condition():  # noqa: ASYNC110  what is waited for is seen from outside only
            await asyncio.sleep(0.005)


def get(url: str) -> httpx.Response | None:
    """The answer, or None while nobody listens."""
    try:
        return httpx.get(url, timeout=3)
    except httpx.TransportError:
        return None


def health(address: str) -> dict[str, Any]:
    answer = get(f"http://{address}:8080/healthz")
    return {} if answer is None else {"code": answer.status_code, **answer.json()}


def backend_directory(folder: Path) -> Path:
    """A Python backend with its stub, as the wheel's parts make it."""
    wheel = Path(sysconfig.get_path("purelib")) / "pytriton" / "tritonserver"
    python = folder / "backends" / "python"
    if python.exists():
        return python.parent
    shutil.copytree(wheel / "backends" / "python", python)
    stub = python / "triton_python_backend_stub"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(wheel / "python_backend_stubs" / version / stub.name, stub)
    stub.chmod(0o755)
    return python.parent


@contextlib.contextmanager
def triton(repository: Path, address: str, folder: Path, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A tritonserver of the wheel that serves the repository; its log is `triton-<address>.log` in the folder."""
    packages = Path(site.getsitepackages()[0])
    prefix = f"h8-{os.getpid()}-{address.replace('.', '-')}-{time.monotonic_ns()}"
    command = [
        *parent_binding_command(),
        str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        "--model-config-name=cpu",
        "--model-control-mode=none",
        f"--backend-directory={backend_directory(folder)}",
        f"--backend-config=python,shm-region-prefix-name={prefix}",
        *(f"--{kind}-address={address}" for kind in ("http", "grpc", "metrics")),
        "--http-port=8000",
        "--grpc-port=8001",
        "--metrics-port=8002",
        "--exit-timeout-secs=5",
        *more,
    ]
    libraries = [str(packages / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(packages),
        "LD_LIBRARY_PATH": ":".join(libraries),
    }
    with (folder / f"triton-{address}.log").open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        stop_group(process)
        for leftover in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108  where Triton keeps its shared memory
            leftover.unlink()


def stop_group(process: subprocess.Popen[bytes], grace_seconds: float = 8.0) -> None:
    """End a process and what it started (a server killed with -9 leaves its stub behind)."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(grace_seconds)


@contextlib.contextmanager
def gateway(variables: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway process; its log is `gateway.log`, and the end of that is told with whatever fails meanwhile."""
    log = folder / "gateway.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*parent_binding_command(), sys.executable, "-W", "error::RuntimeWarning", "-m", "serving.gateway"],
            env=variables,
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    try:
        yield process
    except BaseException as error:
        said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        error.add_note(f"the gateway, exit code {process.poll()}, said at last:\n{said}")
        raise
    finally:
        stop_process(process)


def stop_process(process: subprocess.Popen[bytes], grace_seconds: float = 8.0) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait(grace_seconds)
