"""What providers answer, as the engine's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from pulumi.runtime.proto import provider_pb2, status_pb2

from lab.engine.difference import Difference, compare
from lab.engine.errors import ProviderError
from lab.engine.values import keep_secret, read

_KINDS: Final = ("add", "add-replace", "delete", "delete-replace", "update", "update-replace")
"""Names of PropertyDiff.Kind in previews, by its number."""


@dataclass(frozen=True)
class Made:
    """A resource as its provider left it; `errors` when it is there but not well."""

    id: str
    outputs: dict[str, Any]
    errors: tuple[str, ...] = ()


def checked(urn: str, answer: Any | None, news: dict[str, Any]) -> dict[str, Any]:
    """The checked inputs; ProviderError lists every failure. None stands for a provider that checks nothing."""
    if answer is None:
        return news
    if answer.failures:
        reasons = "; ".join(
            f"{each.property}: {each.reason}" if each.property else each.reason for each in answer.failures
        )
        raise ProviderError(urn, reasons)
    return stay_secret(read(answer.inputs), news)


def stay_secret(outputs: dict[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What was secret going in is secret coming out, whatever the provider says."""
    return {key: keep_secret(value, inputs.get(key)) for key, value in outputs.items()}


def difference(answer: Any, old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference:
    """The provider's comparison; where it does not know, the inputs decide."""
    local = compare(old, new)
    if answer.changes == provider_pb2.DiffResponse.DIFF_UNKNOWN and not (
        answer.replaces or answer.diffs or answer.detailedDiff
    ):
        return local
    replaces = list(answer.replaces)
    if answer.changes == provider_pb2.DiffResponse.DIFF_NONE and not replaces:
        return Difference()
    details = {
        path: {"kind": _KINDS[each.kind], "inputDiff": each.inputDiff}
        for path, each in sorted(answer.detailedDiff.items())
    }
    keys = list(answer.diffs) or list(dict.fromkeys(path.split(".")[0].split("[")[0] for path in details)) or local.keys
    return Difference(keys, replaces, details or local.details, changed=True, delete_first=answer.deleteBeforeReplace)


def half_made(error: Any) -> Any | None:
    """The detail a provider attaches when a resource exists but did not become ready."""
    metadata: Any = error.trailing_metadata() if isinstance(error, grpc.Call) else None
    for key, value in metadata or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                failed = provider_pb2.ErrorResourceInitFailed()
                if detail.Unpack(failed):
                    return failed
    return None
