"""Between the messages of Pulumi's plugin protocol and what packages take and give."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

import grpc
from pulumi.runtime.proto import provider_pb2, status_pb2

from lab.providers import values
from lab.providers.difference import Change, Difference
from lab.providers.errors import Failure, InitializationError, NotInLabError, ProviderError

_log = logging.getLogger(__name__)

_KINDS: Final = {
    (Change.ADD, False): provider_pb2.PropertyDiff.ADD,
    (Change.ADD, True): provider_pb2.PropertyDiff.ADD_REPLACE,
    (Change.DELETE, False): provider_pb2.PropertyDiff.DELETE,
    (Change.DELETE, True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    (Change.UPDATE, False): provider_pb2.PropertyDiff.UPDATE,
    (Change.UPDATE, True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


def settings(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Provider settings as values: structured ones travel as JSON text."""
    return {key: _setting(key, value) for key, value in inputs.items() if key != "version" and value is not None}


def _setting(key: str, value: Any) -> Any:
    if key == "kubeconfig" or not isinstance(value, str) or value[:1] not in '[{tf"':
        return value
    try:
        return values.unwrap(json.loads(value))
    except json.JSONDecodeError:
        return value


def package_of(token: str, given: Iterable[str], *variables: str) -> str:
    """Package of a provider type `pulumi:providers:aws`; without one, by the settings it is given."""
    name = token.rpartition(":")[2]
    if name in {"aws", "kubernetes"}:
        return name
    if name:
        raise NotInLabError(f"provider {token}: the lab implements the packages aws and kubernetes only")
    prefixes = {variable.partition(":")[0] for variable in variables}
    return "kubernetes" if "kubeconfig" in set(given) or "kubernetes" in prefixes else "aws"


def old_and_new(request: Any) -> tuple[dict[str, Any], dict[str, Any], values.Properties]:
    """State, old inputs and new inputs of a Diff or Update."""
    state = values.read(request.olds).value
    new = values.read(request.news)
    if request.HasField("old_inputs"):
        return state, values.read(request.old_inputs).value, new
    raise ProviderError(f"{request.urn}: the engine sends no old inputs; the lab needs one that does")


def discreet(failures: Iterable[Failure], given: values.Properties) -> list[Failure]:
    """The failures with what is secret in the inputs left out; engines print them as they are."""
    return [Failure(failure.property, _discreet(failure, given)) for failure in failures]


def _discreet(failure: Failure, given: values.Properties) -> str:
    secret: set[str] = set()
    for path in given.secrets:
        name = values.dotted(path)
        if any(longer.startswith((f"{shorter}.", f"{shorter}[")) or longer == shorter
               for longer, shorter in ((failure.property, name), (name, failure.property))):  # fmt: skip
            for leaf in values.leaves(values.at(given.value, path)):
                secret |= {repr(leaf), str(leaf), json.dumps(leaf)} - {"", "''", '""'}
    if not secret:
        return failure.reason
    longest_first = sorted(secret, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), "[secret]", failure.reason)


def failures_message(failures: Iterable[Failure]) -> list[Any]:
    """Broken rules as the protocol writes them."""
    return [provider_pb2.CheckFailure(property=failure.property, reason=failure.reason) for failure in failures]


def difference_message(found: Difference) -> Any:
    """A difference as the protocol writes it."""
    replaces = set(found.replaces)
    detailed = {
        path: provider_pb2.PropertyDiff(kind=_KINDS[change, path in replaces], inputDiff=True)
        for path, change in found.changes.items()
    }
    some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
    return provider_pb2.DiffResponse(
        changes=some if found.changes else none,
        replaces=sorted(replaces),
        diffs=sorted({path.partition(".")[0].partition("[")[0] for path in found.changes}),
        detailedDiff=detailed,
        hasDetailedDiff=True,
        deleteBeforeReplace=found.delete_first,
    )


def guarded(context: grpc.ServicerContext, about: str, answer: Callable[[], Any]) -> Any:
    """Errors of a provider become the call's status; anything else is a defect and says so."""
    try:
        return answer()
    except ProviderError as error:  # never UNIMPLEMENTED: engines pass over that for some methods
        _log.warning("%s: %s", about, error)
        context.abort(grpc.StatusCode.UNKNOWN, str(error))
    except Exception as error:
        if not context.is_active() or isinstance(error, grpc.RpcError):
            raise
        if type(error) is Exception and not error.args:
            raise  # how grpc's own abort() unwinds
        _log.exception("%s", about)
        cause = f"{type(error).__name__}: {error}"
        context.abort(grpc.StatusCode.INTERNAL, f"{about}: defect of the lab's provider: {cause}")


def abort_half_made(context: grpc.ServicerContext, error: InitializationError, state: Any) -> NoReturn:
    """The protocol's way to say: it exists, record it, but it did not come up."""
    _log.warning("%s: exists but did not come up: %s", error.identity, error)
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    detail = provider_pb2.ErrorResourceInitFailed(id=error.identity, properties=state, reasons=list(error.reasons))
    status.details.add().Pack(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.UNKNOWN, str(error))
