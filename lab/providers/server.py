"""Pulumi's plugin protocol for both packages on one port; each connection is one provider instance."""

# ruff: noqa: ARG002, N802 - methods are named and called by the protocol

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent import futures
from importlib import metadata
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from lab.providers import values
from lab.providers.aws.provider import AwsPackage
from lab.providers.errors import ConfigurationError, InitializationError, NotInLabError, ProviderError
from lab.providers.kubernetes.provider import KubernetesPackage
from lab.providers.package import Limits, Package, Subject
from lab.providers.protocol import (
    abort_half_made,
    difference_message,
    discreet,
    failures_message,
    guarded,
    old_and_new,
    package_of,
    settings,
)
from lab.topology import Topology

SDKS: Final = ("pulumi-aws", "pulumi-kubernetes")
WORKERS: Final = 32
CONNECTIONS_KEPT: Final = 64
"""Provider instances remembered; the one unused for longest is forgotten first, long after its engine has gone."""


def serve(port: int, topology: Topology) -> grpc.Server:
    """A started server on 127.0.0.1:`port`; raises ConfigurationError when the port is taken."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Providers(topology), server)
    address = f"127.0.0.1:{port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigurationError(
            f"{address} is taken; stop what listens there, or the old lab: tandem lab down"
        ) from error
    server.start()
    return server


class Providers(provider_pb2_grpc.ResourceProviderServicer):
    """Both packages; tells provider instances apart by the connection they were configured on."""

    def __init__(self, topology: Topology) -> None:
        self._packages: dict[str, Callable[[], Package]] = {
            "aws": lambda: AwsPackage(topology),
            "kubernetes": KubernetesPackage,
        }
        self._instances: OrderedDict[tuple[str, str], Package] = OrderedDict()
        self._cancelled: set[str] = set()
        """Connections whose engine wants no more of what is under way."""
        self._lock = threading.Lock()

    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True, accept_outputs=False)

    def Parameterize(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the lab's providers are not parameterized")

    def GetSchema(self, request: Any, context: grpc.ServicerContext) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:
        return plugin_pb2.PluginInfo(version=_plugin_version())

    def Attach(self, request: Any, context: grpc.ServicerContext) -> Any:
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self._cancelled.add(context.peer())
        return empty_pb2.Empty()

    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            package = self._packages[package_of(Subject.of(request.urn).type, request.news.fields)]()
            failures = package.check_config(settings(values.read(request.news).value))
            return provider_pb2.CheckResponse(inputs=request.news, failures=failures_message(failures))

        return guarded(context, request.urn, answer)

    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            package = self._packages[package_of(Subject.of(request.urn).type, request.news.fields)]()
            old = settings(values.read(request.old_inputs if request.HasField("old_inputs") else request.olds).value)
            new = settings(values.read(request.news).value)
            replaces = package.replaces_config(old, new)
            changed = sorted(key for key in set(old) | set(new) if old.get(key) != new.get(key))
            some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
            return provider_pb2.DiffResponse(changes=some if changed else none, diffs=changed, replaces=replaces)

        return guarded(context, request.urn, answer)

    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            if request.HasField("args"):
                given = values.read(request.args).value
            else:
                given = {key.rpartition(":")[2]: value for key, value in request.variables.items()}
            name = package_of(request.type or Subject.of(request.urn).type, given, *request.variables)
            package = self._packages[name]()
            package.configure(settings(given))
            with self._lock:
                self._cancelled.discard(context.peer())
                self._instances[context.peer(), name] = package
                while len(self._instances) > CONNECTIONS_KEPT:
                    self._instances.popitem(last=False)
            return provider_pb2.ConfigureResponse(
                acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=False
            )

        return guarded(context, request.urn, answer)

    def Invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            package = self._instance(request.tok, context)
            returned = package.invoke(request.tok, values.read(request.args).value)
            return provider_pb2.InvokeResponse(**{"return": values.write(returned)})

        return guarded(context, request.tok, answer)

    def Call(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{request.tok}: the lab implements no resource methods")

    def Construct(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        message = f"{request.type} {request.name!r}: the lab implements no remote components; declare their resources"
        context.abort(grpc.StatusCode.UNIMPLEMENTED, message)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            subject = Subject.of(request.urn)
            news = values.read(request.news)
            package = self._instance(subject.type, context)
            checked = package.check(subject, values.read(request.olds).value, news.value, request.randomSeed)
            inputs = values.write(checked.inputs, news.secrets)
            failures = failures_message(discreet(checked.failures, news))
            return provider_pb2.CheckResponse(inputs=inputs, failures=failures)

        return guarded(context, request.urn, answer)

    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            subject = Subject.of(request.urn)
            state, old, new = old_and_new(request)
            found = self._instance(subject.type, context).diff(subject, request.id, state, old, new.value)
            return difference_message(found)

        return guarded(context, request.urn, answer)

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            subject = Subject.of(request.urn)
            inputs = values.read(request.properties)
            package = self._instance(subject.type, context)
            secrets = (*inputs.secrets, *package.secret_outputs(subject))
            try:
                made = package.create(
                    subject, inputs.value, preview=request.preview, limits=self._limits(request, context)
                )
            except InitializationError as error:
                abort_half_made(context, error, values.write(error.state, secrets))
            return provider_pb2.CreateResponse(id=made.identity, properties=values.write(made.state, secrets))

        return guarded(context, request.urn, answer)

    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            subject = Subject.of(request.urn)
            state, inputs = values.read(request.properties), values.read(request.inputs)
            package = self._instance(subject.type, context)
            found = package.read(subject, request.id, state.value, inputs.value)
            if found is None:
                return provider_pb2.ReadResponse()
            secrets = (*state.secrets, *inputs.secrets, *package.secret_outputs(subject))
            return provider_pb2.ReadResponse(
                id=found.identity,
                properties=values.write(found.state, secrets),
                inputs=values.write(found.inputs, secrets),
            )

        return guarded(context, request.urn, answer)

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            subject = Subject.of(request.urn)
            state, old, new = old_and_new(request)
            package = self._instance(subject.type, context)
            secrets = (*new.secrets, *package.secret_outputs(subject))
            limits = self._limits(request, context)
            try:
                made = package.update(
                    subject, request.id, state, old, new.value, preview=request.preview, limits=limits
                )
            except InitializationError as error:
                abort_half_made(context, error, values.write(error.state, secrets))
            return provider_pb2.UpdateResponse(properties=values.write(made, secrets))

        return guarded(context, request.urn, answer)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            subject = Subject.of(request.urn)
            state = values.read(request.properties).value
            self._instance(subject.type, context).delete(
                subject, request.id, state, limits=self._limits(request, context)
            )
            return empty_pb2.Empty()

        return guarded(context, request.urn, answer)

    def _limits(self, request: Any, context: grpc.ServicerContext) -> Limits:
        peer = context.peer()
        return Limits(
            timeout_seconds=request.timeout, wanted=lambda: context.is_active() and peer not in self._cancelled
        )

    def _instance(self, token: str, context: grpc.ServicerContext) -> Package:
        name = token.partition(":")[0]
        if name not in self._packages:
            raise NotInLabError(f"{token}: the lab implements the packages {', '.join(self._packages)} only")
        with self._lock:
            found = self._instances.get((context.peer(), name))
            if found is not None:
                self._instances.move_to_end((context.peer(), name))
        if found is None:
            raise ProviderError(f"{token}: this connection has no configured {name} provider: call Configure first")
        return found


def _plugin_version() -> str:
    """The newer of the two SDKs: engines warn of a plugin older than its SDK, and one plugin stands for both here."""
    return max((metadata.version(sdk) for sdk in SDKS), key=lambda text: [int(part) for part in text.split(".")[:3]])
