"""From what the recording engine saw to what rules read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from infra.policies.declared import UNKNOWN, Declared, StackDeclared
from tests.infra import recording

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"


def plain(value: Any, path: str, secrets: set[str]) -> Any:
    """The value without the wire's wrapping; the paths of what was secret go into `secrets`."""
    if isinstance(value, dict) and value.get(SIGNATURE) == SECRET:
        secrets.add(path)
        return plain(value["value"], path, secrets)
    if isinstance(value, dict):
        return {key: plain(entry, f"{path}.{key}" if path else key, secrets) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain(entry, f"{path}[{index}]", secrets) for index, entry in enumerate(value)]
    return value


def declared(
    stack: str, declare: Callable[[], Any], recorded: Mapping[str, Mapping[str, Any]] | None = None
) -> StackDeclared:
    """Everything `declare` registers, under the name of a stack; values of other resources are the mocks'."""
    graph = recording.run(declare, recorded)
    resources = []
    for urn, request in graph._monitor.requests.items():
        secrets: set[str] = set()
        inputs = plain(MessageToDict(request.object), "", secrets)
        resources.append(
            Declared(
                stack=stack,
                type=request.type,
                name=request.name,
                urn=urn,
                parent=request.parent,
                inputs=inputs,
                secrets=frozenset(secrets),
                protect=request.protect,
                depends_on=frozenset(request.dependencies),
                provider=request.provider.rpartition("::")[0],
            )
        )
    outputs = graph.result if isinstance(graph.result, dict) else {}
    return StackDeclared(stack, tuple(resources), outputs)


__all__ = ["UNKNOWN", "declared"]
