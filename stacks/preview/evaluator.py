"""Runs programs in dry run and writes down what they declare; a script, so that it runs with any revision's code.

It imports the programs' libraries once and forks a process for each stack: one program per process, without paying for
the imports each time. Standard input has a JSON line per layer: a list of stacks with settings and the names of the
stacks below. Each stack's result goes to its own file, where those above find its outputs; a line on standard output
says that the layer is done.

    evaluator.py ROOT RESULTS
"""
# ruff: noqa: N802 - methods of a monitor are named by the protocol

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import logging
import math
import os
import runpy
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pulumi
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.mocks import MockSettings
from pulumi.runtime.proto import engine_pb2, resource_pb2

PARALLEL: Final = 2
LIMIT_SECONDS: Final = 120
"""A program only declares; one that takes longer hangs."""
SDK: Final = ("pulumi_aws", "pulumi_kubernetes")
FEATURES: Final = (
    resource_pb2.RESOURCE_MONITOR_FEATURE_SECRETS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_ALIAS_SPECS,
    resource_pb2.RESOURCE_MONITOR_FEATURE_DELETED_WITH,
)
STACK_TYPE: Final = "pulumi:pulumi:Stack"
REFERENCE_TYPE: Final = "pulumi:pulumi:StackReference"


def main() -> None:
    """Evaluate layers until standard input ends."""
    root, results = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(root))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a program prints is no answer
    os.chdir(root)
    _import_once(root)
    for line in sys.stdin:
        _layer(root, results, json.loads(line))
        print("done", file=answers, flush=True)


def _import_once(root: Path) -> None:
    """What the programs import, without running any; a layer that cannot be imported says so when it is evaluated."""
    gc.disable()  # nothing of it will ever be garbage
    for name in (*SDK, *(f"stacks.{path.stem}" for path in sorted((root / "stacks").glob("*.py")))):
        if not name.endswith(".__main__"):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    for module in [module for name, module in sys.modules.items() if name.split(".")[0] in {"infra", "stacks"}]:
        for imported in [each for each in vars(module).values() if isinstance(each, ModuleType)]:
            getattr(imported, "__all__", None)  # touched, as an SDK puts off importing its parts
    gc.freeze()
    gc.enable()


def _layer(root: Path, results: Path, stacks: Iterable[Mapping[str, Any]]) -> None:
    waiting = list(stacks)
    running: set[int] = set()
    while waiting or running:
        while waiting and len(running) < PARALLEL:
            stack = waiting.pop(0)
            sys.stdout.flush()
            sys.stderr.flush()
            child = os.fork()
            if child == 0:
                _child(root, results / f"{stack['name']}.json", stack)
            running.add(child)
        ended, _ = os.wait()
        running.discard(ended)


def _child(root: Path, result: Path, stack: Mapping[str, Any]) -> None:
    """Evaluate one stack and end; never returns."""
    signal.alarm(LIMIT_SECONDS)
    try:
        found = evaluate(root, result.parent, stack)
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its result
        found = {"errors": [_story(error)]}
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    partial.replace(result)
    os._exit(0)


def evaluate(root: Path, results: Path, stack: Mapping[str, Any]) -> dict[str, Any]:
    """What the program declares for a stack: resources in the order of their registration, outputs, or errors."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    pulumi.log.debug = _unsaid
    monitor, engine = Monitor(stack, results), Engine()
    pulumi.runtime.set_all_config(stack["config"], stack["secret_keys"])
    pulumi.runtime.configure(
        # The SDK takes a monitor in place of an address, as its own mocks do.
        _settings(monitor, engine, stack["name"], root)
    )
    folder = root / "stacks"
    os.chdir(folder)
    sys.argv = ["."]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_default_executor(AtOnce())
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _run(folder)))
    except BaseException as error:  # noqa: BLE001 - whatever a program raises is its result
        return {"errors": [*monitor.errors, *engine.errors] or [_story(error)]}
    if monitor.errors or engine.errors:
        return {"errors": [*monitor.errors, *engine.errors]}
    return {"resources": monitor.resources, "outputs": monitor.outputs}


def _unsaid(*_message: Any, **_about: Any) -> None:
    """What the SDK says of its own steps: several lines per resource, a call each, and no preview shows one."""


def _run(folder: Path) -> None:
    runpy.run_path(str(folder), run_name="__main__")


def _settings(monitor: Monitor, engine: Engine, stack: str, root: Path) -> Any:
    settings = MockSettings(  # type: ignore[no-untyped-call]  # the SDK left its constructor without types
        monitor=monitor,
        monitor_features=set(FEATURES),
        engine=engine,
        project="tandem",
        stack=stack,
        dry_run=True,
        organization="organization",
        callbacks=None,
    )
    settings.root_directory = str(root)
    return settings


class AtOnce(ThreadPoolExecutor):
    """Answers in the thread that asks: nothing here waits, and what is declared comes in the same order always."""

    def submit(self, asked: Callable[..., Any], /, *about: Any, **named: Any) -> Future[Any]:
        """What `asked` returns or raises."""
        answer: Future[Any] = Future()
        try:
            answer.set_result(asked(*about, **named))
        except BaseException as error:  # noqa: BLE001 - handed on to who asked
            answer.set_exception(error)
        return answer


class Engine:
    """The program's log and its root resource."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._root = ""

    def Log(self, request: Any) -> Any:
        """Keep what is an error."""
        if request.severity == ERROR:
            self.errors.append(request.message.strip())
        return empty_pb2.Empty()

    def GetRootResource(self, _request: Any) -> Any:
        """The stack's own URN."""
        return engine_pb2.GetRootResourceResponse(urn=self._root)

    def SetRootResource(self, request: Any) -> Any:
        """Remember the stack's own URN."""
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()


ERROR: Final = 3
"""LogSeverity of pulumi/engine.proto."""


class Monitor:
    """Takes registrations down; what a provider would compute stays unknown."""

    def __init__(self, stack: Mapping[str, Any], results: Path) -> None:
        self._stack = str(stack["name"])
        self._below = {name: results / f"{name}.json" for name in stack["below"]}
        self.resources: list[dict[str, Any]] = []
        self.outputs: dict[str, Any] = {}
        self.errors: list[str] = []
        self._urns: set[str] = set()

    def _urn(self, parent: str, kind: str, name: str) -> str:
        if parent and not parent.split("::")[2].endswith(STACK_TYPE):
            kind = f"{parent.split('::')[2]}${kind}"
        return "::".join((f"urn:pulumi:{self._stack}", "tandem", kind, name))

    def RegisterResource(self, request: Any) -> Any:
        """A resource the program asks for."""
        urn = self._urn(request.parent, request.type, request.name)
        if request.type == STACK_TYPE:
            return resource_pb2.RegisterResourceResponse(urn=urn)
        if urn in self._urns:
            raise self._failed(f"{urn} is declared twice; a name is taken once below its parent: name one otherwise")
        self._urns.add(urn)
        self.resources.append(
            {
                "type": request.type,
                "name": request.name,
                "urn": urn,
                "custom": request.custom,
                "parent": "" if request.parent.split("::")[2:3] == [STACK_TYPE] else request.parent,
                "inputs": read(request.object),
                "protect": request.protect,
                "depends_on": sorted(request.dependencies),
                "ignores": list(request.ignoreChanges),
                "provider": request.provider.rpartition("::")[0],
            }
        )
        return resource_pb2.RegisterResourceResponse(urn=urn, object=request.object)

    def ReadResource(self, request: Any) -> Any:
        """The outputs of another stack; nothing else is read without a state."""
        if request.type != REFERENCE_TYPE:
            raise self._failed(
                f"{request.type} {request.name} is read from a cloud; a program diff has none: declare it, or take"
                " its id from the settings"
            )
        name = read(request.properties).get("name", request.id)
        below = self._below.get(str(name).rpartition("/")[2])
        if below is None:
            raise self._failed(f"stack {name} is referred to and was not evaluated: it has no settings here, or failed")
        outputs = json.loads(below.read_text(encoding="utf-8"))["outputs"]
        answer = {"name": name, "outputs": outputs, "secretOutputNames": []}
        urn = self._urn(request.parent, request.type, request.name)
        return resource_pb2.ReadResourceResponse(urn=urn, properties=write(answer))

    def RegisterResourceOutputs(self, request: Any) -> Any:
        """What the stack exports; what a component says of itself needs no note."""
        if request.urn.split("::")[2] == STACK_TYPE:
            self.outputs = read(request.outputs)
        return empty_pb2.Empty()

    def Invoke(self, request: Any) -> Any:
        """Refused: a function of a provider needs the provider."""
        raise self._failed(f"{request.tok} asks a provider; a program diff has none: take its answer from the settings")

    def Call(self, request: Any) -> Any:
        """Refused like Invoke."""
        return self.Invoke(request)

    def RegisterPackage(self, request: Any) -> Any:
        """Refused: what a package of another kind declares cannot be seen here."""
        raise self._failed(f"parameterized package {request.name}: what it declares cannot be seen in a program diff")

    def GetDeploymentInfo(self, _request: Any) -> Any:
        """Nothing but what the settings say already."""
        return resource_pb2.DeploymentInfo(
            project="tandem", stack=self._stack, organization="organization", dryRun=True, supportedFeatures=FEATURES
        )

    def SupportsFeature(self, request: Any) -> Any:
        """What the SDK may rely on."""
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id in {"secrets", "aliasSpecs", "deletedWith"})

    def SignalAndWaitForShutdown(self, _request: Any) -> Any:
        """Nothing waits."""
        return empty_pb2.Empty()

    def _failed(self, what: str) -> Exception:
        self.errors.append(what)
        return RuntimeError(what)


def read(struct: Any) -> dict[str, Any]:
    """A message's properties as plain data; marks of secrets and unknowns stay, whole numbers become int."""
    return {key: _read(value) for key, value in struct.fields.items()}


def _read(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return read(value.struct_value)
    if kind == "list_value":
        return [_read(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if math.isfinite(number) and number.is_integer() else number
    return None if kind in {None, "null_value"} else getattr(value, kind)


def write(properties: Mapping[str, Any]) -> Any:
    """Plain data as a message."""
    return json_format.ParseDict(dict(properties), struct_pb2.Struct())


def _story(error: BaseException) -> str:
    """An error of ours in its own words; another one with the place it came from."""
    if type(error).__module__.split(".")[0] in {"infra", "stacks"}:
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" ({Path(last[0].filename).name}:{last[0].lineno})" if last else ""
    return f"{type(error).__name__}: {error}{where}"


if __name__ == "__main__":
    main()
