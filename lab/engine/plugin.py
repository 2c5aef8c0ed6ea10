"""One provider instance: a connection of its own to the server that PULUMI_DEBUG_PROVIDERS names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from lab.engine.answers import Made, checked, difference, half_made, stay_secret
from lab.engine.difference import Difference, compare
from lab.engine.errors import EngineError, ProviderError
from lab.engine.state import Resource
from lab.engine.urn import PROVIDER_PREFIX, Urn
from lab.engine.values import has_unknown, read, reveal, write

VARIABLE: Final = "PULUMI_DEBUG_PROVIDERS"
HOST: Final = "127.0.0.1"
CALL_SECONDS: Final = 600.0
"""Longest a create, update or delete may take where the resource sets no timeout of its own."""
QUICK_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 10.0
_OPTIONS: Final = [
    # Channels to one target share a connection by default; the server tells provider instances apart by connection.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]


def attached(package: str) -> str:
    """Address of the package's server; always loopback, as the variable gives a port only."""
    entries = dict(entry.split(":", 1) for entry in os.environ.get(VARIABLE, "").split(",") if ":" in entry)
    port = entries.get(package)
    if port is None or not port.isdecimal():
        found = f"says {package}:{port}" if port is not None else f"names {', '.join(sorted(entries)) or 'none'}"
        raise EngineError(
            f"no provider for package {package!r}: {VARIABLE} {found}, it needs {package}:PORT; start the lab:"
            " tandem lab up"
        )
    return f"{HOST}:{port}"


def _subject(urn: str) -> dict[str, Any]:
    parsed = Urn.parse(urn)
    return {"urn": urn, "name": parsed.name, "type": parsed.type}


class Plugin:
    """Provider calls about resources; every failure names the resource's URN."""

    def __init__(self, urn: str, identity: str) -> None:
        """Connect; nothing is configured yet."""
        self.urn = urn
        self.id = identity
        self.package = Urn.parse(urn).type.removeprefix(PROVIDER_PREFIX)
        self.configured = False
        self.previews = True
        self._secrets = True
        self._channel = grpc.insecure_channel(attached(self.package), options=_OPTIONS)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self._channel)
        request = provider_pb2.ProviderHandshakeRequest(configure_with_urn=True, invoke_with_preview=True)
        answer = self._tolerant("Handshake", request)
        self._greeted = answer is not None
        if answer is not None:
            self._secrets = answer.accept_secrets

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def _call(self, urn: str, method: str, request: Any, seconds: float = QUICK_SECONDS) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=seconds)
        except grpc.RpcError as error:
            # What a stub raises is a Call as well; the type of RpcError does not say so.
            call: Any = error
            code = call.code().name
            reason = call.details() or code
            if code == "DEADLINE_EXCEEDED":
                reason = f"the provider did not answer {method} within {seconds:.0f} s"
            elif code == "UNAVAILABLE":
                what = f"no provider for package {self.package!r} answers {method} ({reason})"
                reason = f"{what}; start the lab: tandem lab up"
            elif code == "UNIMPLEMENTED":
                reason = f"the provider does not do {method} for it ({reason})"
            raise ProviderError(urn, reason, code) from error

    def _tolerant(self, method: str, request: Any) -> Any | None:
        """The answer, or None from a provider that leaves the method out."""
        try:
            return self._call(self.urn, method, request)
        except ProviderError as error:
            if error.unimplemented:
                return None
            raise

    def _send(self, properties: Mapping[str, Any]) -> Any:
        return write(properties if self._secrets else reveal(dict(properties)))

    def check_config(self, old: Resource | None, news: dict[str, Any]) -> dict[str, Any]:
        """The provider's own settings, checked."""
        olds = self._send(old.inputs) if old else None
        request = provider_pb2.CheckRequest(**_subject(self.urn), olds=olds, news=self._send(news))
        return checked(self.urn, self._tolerant("CheckConfig", request), news)

    def diff_config(self, old: Resource, news: dict[str, Any]) -> Difference:
        """What changed in the provider's own settings."""
        request = provider_pb2.DiffRequest(
            **_subject(self.urn),
            id=old.id,
            olds=self._send(old.outputs),
            old_inputs=self._send(old.inputs),
            news=self._send(news),
        )
        answer = self._tolerant("DiffConfig", request)
        return compare(old.inputs, news) if answer is None else difference(answer, old.inputs, news)

    def configure(self, inputs: Mapping[str, Any]) -> None:
        """Make it a provider of these settings; with unknown ones it stays unconfigured and previews nothing."""
        if has_unknown(dict(inputs)):
            return
        settings = {
            key: value for key, value in reveal(dict(inputs)).items() if key not in {"version", "pluginDownloadURL"}
        }
        variables = {
            f"{self.package}:config:{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in settings.items()
        }
        request = provider_pb2.ConfigureRequest(
            **_subject(self.urn), id=self.id, variables=variables, args=self._send(inputs),
            acceptSecrets=True, acceptResources=True, sends_old_inputs=True, sends_old_inputs_to_delete=True,
        )  # fmt: skip
        answer = self._call(self.urn, "Configure", request)
        if not self._greeted:
            self._secrets, self.previews = answer.acceptSecrets, answer.supportsPreview
        self.configured = True

    def check(self, urn: str, olds: Mapping[str, Any] | None, news: dict[str, Any], seed: bytes) -> dict[str, Any]:
        """The inputs with the provider's defaults and names; ProviderError lists every failure."""
        old = self._send(olds) if olds is not None else None
        request = provider_pb2.CheckRequest(**_subject(urn), olds=old, news=self._send(news), randomSeed=seed)
        return checked(urn, self._call(urn, "Check", request), news)

    def diff(self, old: Resource, urn: str, news: dict[str, Any], ignored: list[str]) -> Difference:
        """What the provider would have to change."""
        request = provider_pb2.DiffRequest(
            **_subject(urn), id=old.id, olds=self._send(old.outputs), old_inputs=self._send(old.inputs),
            news=self._send(news), ignoreChanges=ignored,
        )  # fmt: skip
        return difference(self._call(urn, "Diff", request), old.inputs, news)

    def create(self, urn: str, inputs: dict[str, Any], seconds: float | None, *, preview: bool) -> Made:
        """Make it, or say what it would be like."""
        request = provider_pb2.CreateRequest(
            **_subject(urn), properties=self._send(inputs), timeout=seconds or 0, preview=preview
        )
        return self._made(urn, "Create", request, "", inputs, seconds)

    def update(
        self, old: Resource, urn: str, news: dict[str, Any], ignored: list[str], seconds: float | None, *, preview: bool
    ) -> Made:
        """Change it in place, or say what that would give."""
        request = provider_pb2.UpdateRequest(
            **_subject(urn), id=old.id, olds=self._send(old.outputs), old_inputs=self._send(old.inputs),
            news=self._send(news), ignoreChanges=ignored, timeout=seconds or 0, preview=preview,
        )  # fmt: skip
        return self._made(urn, "Update", request, old.id, news, seconds)

    def _made(
        self, urn: str, method: str, request: Any, identity: str, inputs: dict[str, Any], seconds: float | None
    ) -> Made:
        try:
            answer = self._call(urn, method, request, (seconds or CALL_SECONDS) + _GRACE_SECONDS)
        except ProviderError as error:
            failed = half_made(error.__cause__)
            if failed is None:
                raise
            outputs = stay_secret(read(failed.properties), inputs)
            return Made(failed.id or identity, outputs, tuple(failed.reasons) or (error.reason,))
        return Made(identity or answer.id, stay_secret(read(answer.properties), inputs))

    def exists(self, old: Resource, urn: str) -> bool:
        """Whether the recorded resource is still there."""
        request = provider_pb2.ReadRequest(
            **_subject(urn), id=old.id, inputs=self._send(old.inputs), properties=self._send(old.outputs)
        )
        try:
            return bool(self._call(urn, "Read", request).id)
        except ProviderError as error:
            if error.missing:
                return False
            raise

    def delete(self, old: Resource, seconds: float | None) -> None:
        """Remove it; one that is gone already counts as removed."""
        request = provider_pb2.DeleteRequest(
            **_subject(old.urn), id=old.id, timeout=seconds or 0,
            properties=self._send(old.outputs), old_inputs=self._send(old.inputs),
        )  # fmt: skip
        try:
            self._call(old.urn, "Delete", request, (seconds or CALL_SECONDS) + _GRACE_SECONDS)
        except ProviderError as error:
            if not error.missing:
                raise

    def invoke(self, token: str, arguments: Mapping[str, Any], *, preview: bool) -> dict[str, Any]:
        """What the provider's function returns."""
        request = provider_pb2.InvokeRequest(tok=token, args=self._send(arguments), preview=preview)
        answer = self._call(f"function {token}", "Invoke", request, CALL_SECONDS)
        checked(f"function {token}", answer if answer.failures else None, {})
        return read(getattr(answer, "return"))

    def cancel(self) -> None:
        """Ask it to give up what is running; nothing depends on the answer."""
        try:
            self._stub.Cancel(empty_pb2.Empty(), timeout=1.0)
        except grpc.RpcError:
            return
