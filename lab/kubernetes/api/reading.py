"""GET requests: objects, lists in pages, watches, logs of pods."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from aiohttp import web

from lab.kubernetes.api import scale
from lab.kubernetes.api.context import CONTEXT
from lab.kubernetes.api.errors import BadRequest, MethodNotAllowed
from lab.kubernetes.api.kinds import POD
from lab.kubernetes.api.objects import Object, name_of, namespace_of
from lab.kubernetes.api.parameters import flag, integer
from lab.kubernetes.api.routing import Target
from lab.kubernetes.api.selectors import field_matcher, label_matcher
from lab.kubernetes.api.streaming import follow, watch

_LOG_OPTIONS: Final = frozenset({"container", "follow", "previous", "tailLines", "limitBytes", "pretty", "timestamps"})


async def read(request: web.Request, target: Target) -> web.StreamResponse:
    """GET: one object, a subresource, a list or a watch."""
    store, query = request.app[CONTEXT].store, request.query
    if target.name is None:
        return await _watch(request, target) if flag(query, "watch") else _list(request, target)
    if target.subresource == "log":
        return await _pod_log(request, target)
    obj = store.current(target.kind, target.namespace, target.name)
    if target.subresource == "scale":
        return web.json_response(scale.of(target.kind, obj))
    if target.subresource in (None, "status"):
        return web.json_response(obj)
    raise MethodNotAllowed(f"GET is not a verb of {target.kind.key}/{target.subresource}", lacking=True)


def _list(request: web.Request, target: Target) -> web.Response:
    store, query = request.app[CONTEXT].store, request.query
    if query.get("resourceVersionMatch") == "Exact":
        raise BadRequest("resourceVersionMatch=Exact: the lab keeps no old states; list the present one", lacking=True)
    by_label, by_field = label_matcher(query.get("labelSelector", "")), field_matcher(query.get("fieldSelector", ""))
    found = [obj for obj in store.table.of_kind(target.kind, target.namespace or "") if by_label(obj) and by_field(obj)]
    version, after = str(store.resource_version), ("", "")
    if query.get("continue"):
        version, after = _page(query["continue"])
        found = [obj for obj in found if (namespace_of(obj), name_of(obj)) > after]
    meta: dict[str, Any] = {"resourceVersion": version}
    limit = integer(query, "limit")
    if limit and len(found) > limit:
        last = found[limit - 1]
        token = json.dumps([version, namespace_of(last), name_of(last)]).encode()
        meta |= {"continue": base64.urlsafe_b64encode(token).decode(), "remainingItemCount": len(found) - limit}
        found = found[:limit]
    return web.json_response(listed(target, meta, found))


def _page(token: str) -> tuple[str, tuple[str, str]]:
    try:
        version, namespace, name = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise BadRequest(f"continue key is not valid: {token[:80]!r}; start the list anew without it") from None
    return str(version), (str(namespace), str(name))


def listed(target: Target, meta: Object, items: list[Object]) -> Object:
    """A list object of the target's kind."""
    return {"apiVersion": target.kind.api_version, "kind": target.kind.list_kind, "metadata": meta, "items": items}


async def _watch(request: web.Request, target: Target) -> web.StreamResponse:
    query = request.query
    since = integer(query, "resourceVersion")
    timeout = integer(query, "timeoutSeconds")
    initial = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
    label_matcher(labels)
    field_matcher(fields)
    return await watch(
        request,
        lambda: request.app[CONTEXT].store.watch(
            target.kind,
            target.namespace,
            labels,
            since or None,  # version 0 means: any, beginning with what is there
            field_selector=fields,
            bookmarks=True,
            initial_events=initial,
            timeout_seconds=timeout,
        ),
        bookmarks=flag(query, "allowWatchBookmarks"),
    )


async def _pod_log(request: web.Request, target: Target) -> web.StreamResponse:
    store, query = request.app[CONTEXT].store, request.query
    name, namespace = str(target.name), target.namespace or "default"
    pod = store.current(POD, namespace, name)
    lacking = sorted(set(query) - _LOG_OPTIONS) + (["timestamps"] if flag(query, "timestamps") else [])
    if lacking:
        raise BadRequest(f"{', '.join(lacking)}: not an option of the lab's pod logs; leave it out", lacking=True)
    names = [entry["name"] for group in ("containers", "initContainers") for entry in pod["spec"].get(group, ())]
    container = query.get("container")
    if container and container not in names:
        raise BadRequest(f"container {container} is not valid for pod {name}")
    if not container and len(pod["spec"]["containers"]) > 1:
        raise BadRequest(f"a container name must be specified for pod {name}, choose one of: {names}")
    if not pod["spec"].get("nodeName"):
        raise BadRequest(f"pod {name} does not have a host assigned")
    tail, limit = integer(query, "tailLines"), integer(query, "limitBytes")
    chosen = container or names[0]
    logs = request.app[CONTEXT].pod_logs
    if flag(query, "follow"):
        return await follow(request, store, namespace, name, lambda: logs(namespace, name, chosen, False, None), tail)
    text = logs(namespace, name, chosen, flag(query, "previous"), tail)
    return web.Response(body=text if limit is None else text[:limit], content_type="text/plain")
