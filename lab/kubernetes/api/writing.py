"""Requests that change something: create, replace, patch, delete, evict, bind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from lab.kubernetes.api import eviction
from lab.kubernetes.api.context import CONTEXT
from lab.kubernetes.api.errors import BadRequest, MethodNotAllowed
from lab.kubernetes.api.kinds import JOB, POD
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, terminating, uid_of
from lab.kubernetes.api.parameters import Asked, body, flag, integer
from lab.kubernetes.api.patching import PatchType, patch_type
from lab.kubernetes.api.reading import listed
from lab.kubernetes.api.routing import Target

_PATCHES: Final = frozenset(patch.value for patch in PatchType)


async def write(request: web.Request, target: Target) -> web.Response:
    """Any verb but GET; MethodNotAllowed for one the resource has not."""
    handler = _WRITERS.get((request.method, target.name is None))
    if handler is None or target.kind.read_only:
        raise _not_allowed(request, target)
    return await handler(request, target)


def _not_allowed(request: web.Request, target: Target) -> MethodNotAllowed:
    resource = f"{target.kind.key}{'/' + target.subresource if target.subresource else ''}"
    rule = "the server does not allow this method on the requested resource"
    return MethodNotAllowed(f"{rule}: {request.method} on {resource}", kind=target.kind, lacking=True)


def _placed(obj: Any, target: Target) -> Object:
    """The body with the namespace and name of the URL; BadRequest when it says otherwise."""
    if not isinstance(obj, dict):
        raise BadRequest(f"the body is not an object of kind {target.kind.kind}, got {type(obj).__name__}")
    meta = obj.get("metadata") or {}
    if not isinstance(meta, dict):
        raise BadRequest(f"metadata: got {type(meta).__name__}, want an object")
    for key, wanted in (("namespace", target.namespace), ("name", target.name)):
        if wanted and meta.get(key) not in (None, "", wanted):
            raise BadRequest(
                f"the {key} of the provided object ({meta[key]}) does not match the {key} of the request ({wanted})"
            )
    filled = {key: value for key, value in (("namespace", target.namespace), ("name", target.name)) if value}
    return {**obj, "metadata": {**meta, **filled}}


async def _create(request: web.Request, target: Target) -> web.Response:
    asked = Asked.read(request)
    if target.kind.namespaced and target.namespace is None:
        raise MethodNotAllowed(
            f"{target.kind.key} are created in a namespace; POST to namespaces/<namespace>/{target.kind.plural}"
        )
    obj = _placed(await body(request), target)
    made = request.app[CONTEXT].store.create(
        target.kind, obj, field_manager=asked.field_manager, dry_run=asked.dry_run, unknown=asked.unknown_fields
    )
    return _answer(made, asked, status=201)


async def _act(request: web.Request, target: Target) -> web.Response:
    """POST on one object: binding and eviction."""
    asked, store = Asked.read(request), request.app[CONTEXT].store
    given = await body(request)
    namespace, name = target.namespace or "default", str(target.name)
    if target.subresource == "binding":
        eviction.bind(store, namespace, name, given, dry_run=asked.dry_run)
    elif target.subresource == "eviction":
        grace = (given.get("deleteOptions") or {}).get("gracePeriodSeconds")
        eviction.evict(store, namespace, name, grace, dry_run=asked.dry_run)
    else:
        raise MethodNotAllowed(f"POST is not a verb of {target.kind.key}/{target.subresource or name}", lacking=True)
    return web.json_response(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, status=201
    )


async def _replace(request: web.Request, target: Target) -> web.Response:
    asked = Asked.read(request)
    obj = _placed(await body(request), target)
    done = request.app[CONTEXT].store.update(
        target.kind,
        obj,
        subresource=target.subresource,
        field_manager=asked.field_manager,
        dry_run=asked.dry_run,
        unknown=asked.unknown_fields,
    )
    return _answer(done, asked)


async def _patch(request: web.Request, target: Target) -> web.Response:
    asked, store = Asked.read(request), request.app[CONTEXT].store
    how = patch_type(request.headers.get("Content-Type", "").partition(";")[0].strip(), target.kind)
    if how is PatchType.APPLY and not request.query.get("fieldManager"):
        raise BadRequest(
            "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value: is required for apply patch"
        )
    patch = await body(request, accepted=_PATCHES)
    if how is PatchType.APPLY:
        patch = _placed(patch, target)
    version = store.resource_version
    done = store.patch(
        target.kind,
        target.namespace,
        str(target.name),
        patch,
        how,
        subresource=target.subresource,
        field_manager=asked.field_manager,
        force=asked.force,
        dry_run=asked.dry_run,
        unknown=asked.unknown_fields,
    )
    fresh = how is PatchType.APPLY and int(done["metadata"].get("resourceVersion", 0)) > version and _new(done)
    return _answer(done, asked, status=201 if fresh else 200)


def _new(obj: Object) -> bool:
    return bool(obj["metadata"].get("generation", 1) == 1 and not terminating(obj))


async def _delete(request: web.Request, target: Target) -> web.Response:
    store, name = request.app[CONTEXT].store, str(target.name)
    given, asked = await _deletion(request, target)
    gone = store.delete(target.kind, target.namespace, name, dry_run=asked.dry_run, **given)
    held = store.table.find(target.kind, namespace_of(gone), name)
    if target.kind is POD or asked.dry_run or (held is not None and uid_of(held) == uid_of(gone)):
        return web.json_response(gone)
    details = {"name": name, "group": target.kind.group, "kind": target.kind.plural, "uid": uid_of(gone)}
    return web.json_response(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    )


async def _delete_all(request: web.Request, target: Target) -> web.Response:
    store, query = request.app[CONTEXT].store, request.query
    if target.kind.namespaced and target.namespace is None:
        raise MethodNotAllowed(f"{target.kind.key} are deleted in a namespace; name one in the path")
    given, asked = await _deletion(request, target)
    found = store.list(target.kind, target.namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    for obj in found:
        if store.table.find(target.kind, namespace_of(obj), name_of(obj)):  # may have gone with its owner
            store.delete(target.kind, target.namespace, name_of(obj), dry_run=asked.dry_run, **given)
    return web.json_response(listed(target, {"resourceVersion": str(store.resource_version)}, found))


async def _deletion(request: web.Request, target: Target) -> tuple[dict[str, Any], Asked]:
    """Arguments of Store.delete, from the query and the DeleteOptions in the body."""
    if target.subresource:
        raise MethodNotAllowed(f"DELETE is not a verb of {target.kind.key}/{target.subresource}", lacking=True)
    options: Mapping[str, Any] = await body(request)
    if not isinstance(options, dict):
        raise BadRequest(f"the body is not a DeleteOptions object, got {type(options).__name__}")
    orphan = flag(request.query, "orphanDependents") or options.get("orphanDependents")
    grace = integer(request.query, "gracePeriodSeconds")
    if grace is None and options.get("gracePeriodSeconds") is not None:
        grace = options["gracePeriodSeconds"]
        if isinstance(grace, bool) or not isinstance(grace, int):
            raise BadRequest(f"gracePeriodSeconds: got {grace!r}, want an integer of at least 0")
    # jobs are the one kind whose dependents a real server orphans unless told otherwise
    usual = "Orphan" if orphan or target.kind is JOB else "Background"
    given = {
        "grace_period_seconds": grace,
        "propagation": request.query.get("propagationPolicy") or options.get("propagationPolicy") or usual,
        "preconditions": clone(options.get("preconditions")),
    }
    return given, Asked.read(request, options)


def _answer(obj: Object, asked: Asked, *, status: int = 200) -> web.Response:
    response = web.json_response(obj, status=status)
    for name, value in asked.headers():
        response.headers.add(name, value)
    return response


_WRITERS: Final[dict[tuple[str, bool], Callable[[web.Request, Target], Awaitable[web.Response]]]] = {
    ("POST", True): _create,
    ("POST", False): _act,
    ("PUT", False): _replace,
    ("PATCH", False): _patch,
    ("DELETE", False): _delete,
    ("DELETE", True): _delete_all,
}
