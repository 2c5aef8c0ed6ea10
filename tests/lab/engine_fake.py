"""A provider in memory, behind the real plugin protocol, and small programs that use it."""
# ruff: noqa: ARG002, N802 - methods and their arguments are the protocol's

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc, status_pb2

from lab.engine.values import UNKNOWN, has_unknown, read, reveal, write

SOURCE = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 60

PRELUDE = """
import pulumi
from pulumi import Output, ResourceOptions

class Echo(pulumi.ProviderResource):
    def __init__(self, name, opts=None, **settings):
        super().__init__("echo", name, settings, opts)

class Thing(pulumi.CustomResource):
    arn: Output[str]
    owner: Output[str]
    def __init__(self, called, opts=None, **inputs):
        super().__init__("echo:index:Thing", called, {**inputs, "arn": None, "owner": None}, opts)

class Group(pulumi.ComponentResource):
    def __init__(self, name, opts=None, **inputs):
        super().__init__("tandem:test:Group", name, inputs, opts)

config = pulumi.Config()
"""

COMPUTED = ("arn", "owner")


@dataclass
class Cloud:
    """What the fake provider made, and every call it got."""

    things: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    started: threading.Event = field(default_factory=threading.Event)
    enough: threading.Event = field(default_factory=threading.Event)
    """Set, it ends what is slow."""

    def named(self, method: str) -> list[str]:
        """Names of the resources a method was called for, previews left out."""
        return [name for each, name, _ in self.calls if each == method]


class EchoProvider(provider_pb2_grpc.ResourceProviderServicer):
    """Echoes inputs, computes arn and owner. Inputs steer it: kind replaces, fail fails, slow waits, omit leaves"
    " outputs out."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.regions: dict[str, str] = {}

    def _note(self, method: str, urn: str, context: Any) -> None:
        with self.cloud.lock:
            self.cloud.calls.append((method, urn.rpartition("::")[2], self.regions.get(context.peer(), "")))

    def Handshake(self, request, context):
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True)

    def GetPluginInfo(self, request, context):
        return plugin_pb2.PluginInfo(version="0.0.1")

    def Attach(self, request, context):
        return empty_pb2.Empty()

    def GetSchema(self, request, context):
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request, context):
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request, context):
        old, new = read(request.old_inputs), read(request.news)
        replaces = ["region"] if old.get("region") != new.get("region") else []
        some = provider_pb2.DiffResponse.DIFF_SOME if old != new else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(changes=some, replaces=replaces)

    def Configure(self, request, context):
        self.regions[context.peer()] = reveal(read(request.args)).get("region", "nowhere")
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=False
        )

    def Check(self, request, context):
        news = read(request.news)
        if reveal(news).get("fail") == "check":
            failure = provider_pb2.CheckFailure(property="fail", reason="is 'check'; it must not be")
            return provider_pb2.CheckResponse(inputs=request.news, failures=[failure])
        olds = read(request.olds)
        if "name" not in news:
            news["name"] = olds.get("name") or f"{request.urn.rpartition('::')[2]}-{request.randomSeed.hex()[:7]}"
        return provider_pb2.CheckResponse(inputs=write(news))

    def Diff(self, request, context):
        old, new = reveal(read(request.old_inputs)), reveal(read(request.news))
        keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        replaces = [key for key in keys if key in {"kind", "name"}]
        some = provider_pb2.DiffResponse.DIFF_SOME if keys else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=some,
            diffs=keys,
            replaces=replaces,
            deleteBeforeReplace=bool(new.get("deleteFirst")),
            hasDetailedDiff=True,
            detailedDiff={
                key: provider_pb2.PropertyDiff(
                    kind=provider_pb2.PropertyDiff.UPDATE_REPLACE
                    if key in replaces
                    else provider_pb2.PropertyDiff.UPDATE,
                    inputDiff=True,
                )
                for key in keys
            },
        )

    def _outputs(self, inputs: dict[str, Any], context: Any, *, preview: bool) -> dict[str, Any]:
        plain = reveal(inputs)
        computed = {"arn": f"arn:{plain['name']}", "owner": self.regions.get(context.peer(), "")}
        if preview:
            computed = dict.fromkeys(COMPUTED, UNKNOWN)
        return {
            **inputs,
            **{key: value for key, value in computed.items() if preview or key not in plain.get("omit", [])},
        }

    def Create(self, request, context):
        inputs = read(request.properties)
        plain = reveal(inputs)
        if request.preview:
            return provider_pb2.CreateResponse(properties=write(self._outputs(inputs, context, preview=True)))
        assert not has_unknown(inputs)
        self._note("Create", request.urn, context)
        if plain.get("fail") == "create":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the cloud said no")
        name = plain["name"]
        outputs = self._outputs(inputs, context, preview=False)
        with self.cloud.lock:
            if name not in self.cloud.things:
                self.cloud.created.append(name)
            self.cloud.things[name] = plain
        self.cloud.started.set()
        self.cloud.enough.wait(float(plain.get("slow", 0)))
        if plain.get("fail") == "init":
            failed = provider_pb2.ErrorResourceInitFailed(
                id=name, properties=write(outputs), reasons=["never got ready"]
            )
            detail = any_pb2.Any()
            detail.Pack(failed)
            status = status_pb2.Status(code=2, message="not ready", details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.UNKNOWN, "not ready")
        return provider_pb2.CreateResponse(id=name, properties=write(outputs))

    def Update(self, request, context):
        inputs = read(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=write(self._outputs(inputs, context, preview=True)))
        self._note("Update", request.urn, context)
        plain = reveal(inputs)
        with self.cloud.lock:
            self.cloud.things[request.id] = plain
        self.cloud.started.set()
        self.cloud.enough.wait(float(plain.get("slow", 0)))
        return provider_pb2.UpdateResponse(properties=write(self._outputs(inputs, context, preview=False)))

    def Read(self, request, context):
        self._note("Read", request.urn, context)
        there = request.id in self.cloud.things
        return provider_pb2.ReadResponse(
            id=request.id if there else "", properties=request.properties, inputs=request.inputs
        )

    def Delete(self, request, context):
        self._note("Delete", request.urn, context)
        old = reveal(read(request.old_inputs))
        if old.get("fail") == "delete":
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "it is not empty")
        with self.cloud.lock:
            if self.cloud.things.pop(request.id, None) is None:
                context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
            self.cloud.deleted.append(request.id)
        self.cloud.started.set()
        time.sleep(float(old.get("slowDelete", 0)))
        if old.get("fail") == "deleteLate":
            context.abort(grpc.StatusCode.UNKNOWN, "it is not gone yet")
        return empty_pb2.Empty()

    def Invoke(self, request, context):
        if request.tok != "echo:index:shout":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"unknown function {request.tok}")
        text = str(reveal(read(request.args)).get("text")).upper()
        return provider_pb2.InvokeResponse(
            **{"return": write({"text": text, "owner": self.regions.get(context.peer(), "")})}
        )

    def Cancel(self, request, context):
        return empty_pb2.Empty()


@contextlib.contextmanager
def echo_server() -> Iterator[tuple[Cloud, int]]:
    """The fake cloud and the port its provider listens on."""
    cloud = Cloud()
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(EchoProvider(cloud), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield cloud, port
    finally:
        server.stop(None).wait(5)


@dataclass
class Workspace:
    """A project in a folder of its own, run by the engine as users run it: as a process."""

    root: Path
    port: int
    stack: str = "storage-private.lab"

    def __post_init__(self) -> None:
        (self.root / "stacks").mkdir(parents=True, exist_ok=True)
        self.project("")

    @property
    def states(self) -> Path:
        return self.root / "states"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PULUMI_DEBUG_PROVIDERS": f"echo:{self.port},aws:{self.port}", "PYTHONPATH": str(SOURCE)}

    def project(self, config: str) -> None:
        text = "name: tandem\nruntime: {name: python, options: {toolchain: pip}}\n"
        text += "main: stacks/\nstackConfigDir: stacks/config\n"
        (self.root / "Pulumi.yaml").write_text(text + (f"config:\n{config}" if config else ""))

    def program(self, body: str) -> None:
        (self.root / "stacks" / "__main__.py").write_text(PRELUDE + body)

    def settings(self, values: Mapping[str, Any]) -> None:
        (self.root / "settings.yaml").write_text(
            json.dumps({"config": {f"tandem:{key}": each for key, each in values.items()}})
        )

    def command(self, *arguments: str, stack: str | None = None) -> list[str]:
        options = ["--stack", stack or self.stack, "--state-dir", str(self.states), "--root", str(self.root)]
        if (self.root / "settings.yaml").exists():
            options += ["--config-file", str(self.root / "settings.yaml")]
        return [sys.executable, "-m", "lab.engine", *arguments, *options]

    def run(self, *arguments: str, stack: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, stack=stack), cwd=self.root, env=self.environment, text=True, capture_output=True,
            timeout=LIMIT_SECONDS, check=False,
        )  # fmt: skip

    def up(self, *, stack: str | None = None) -> str:
        """Run `up`, which has to work; its messages."""
        done = self.run("up", stack=stack)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refused(self, command: str = "up", *, stack: str | None = None) -> str:
        """Run a command, which has to fail; its messages."""
        done = self.run(command, stack=stack)
        assert done.returncode == 1, done.stderr
        return done.stderr

    def outputs(self, *, stack: str | None = None) -> dict[str, Any]:
        done = self.run("outputs", stack=stack)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def preview(self) -> dict[str, Any]:
        done = self.run("preview", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def deployment(self, stack: str | None = None) -> dict[str, Any]:
        return dict(json.loads((self.states / f"{stack or self.stack}.json").read_text())["deployment"])

    def resources(self) -> dict[str, dict[str, Any]]:
        """Recorded resources by name."""
        return {each["urn"].rpartition("::")[2]: each for each in self.deployment().get("resources", [])}
