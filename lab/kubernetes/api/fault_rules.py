"""What a machine that can be switched off and a declared fault have to say before they are stored.

The lab refuses what it does not act on: a fault that is stored and does nothing would pass for one that was survived.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from lab.kubernetes.api.errors import Cause
from lab.kubernetes.api.objects import Object
from lab.kubernetes.api.pod_rules import invalid, not_supported, required

_ACTIONS: Final = ("bandwidth", "delay", "partition")
_DIRECTIONS: Final = ("both", "from", "to")
_EVERY_PATH: Final = ("*", "/*")
_SIDES: Final = ("Request", "Response")
_SELECTORS: Final = frozenset({"namespaces", "labelSelectors"})
_ACTED_ON: Final = frozenset({"selector", "mode", "duration", "action", "direction", "target", "delay", "bandwidth"})
_HTTP_ACTED_ON: Final = frozenset({"selector", "mode", "duration", "target", "port", "path", "abort"})
_DURATION: Final = re.compile(r"(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+")
_RATE: Final = re.compile(r"\d+(\.\d+)?\s?([kmgt]?bps|[kmgt]?bit)", re.IGNORECASE)


def bare_metal_host(obj: Object, _: Object) -> Iterable[Cause]:
    """A machine: whether it is to be on has to be said."""
    online = (obj.get("spec") or {}).get("online")
    if online is None:
        yield required("spec.online", "say whether the machine is to be on")
    elif not isinstance(online, bool):
        yield invalid("spec.online", online, "must be true or false")


def network_chaos(obj: Object, _: Object) -> Iterable[Cause]:
    """A fault of the network between pods."""
    spec = _spec(obj)
    yield from _fault(spec, _ACTED_ON)
    action = spec.get("action")
    if action not in _ACTIONS:
        yield not_supported("spec.action", action, _ACTIONS)
    if spec.get("direction") not in _DIRECTIONS:
        yield not_supported("spec.direction", spec.get("direction"), _DIRECTIONS)
    if "target" in spec:
        yield from _selected(_map(spec["target"]), "spec.target")
    elif spec.get("direction") != "to" and action != "partition":
        yield required("spec.target", "a direction other than to needs one")
    if action == "delay":
        delay = _map(spec.get("delay"))
        yield from _duration(delay.get("latency"), "spec.delay.latency")
        if "jitter" in delay:
            yield from _duration(delay["jitter"], "spec.delay.jitter")
    elif action == "bandwidth":
        yield from _bandwidth(_map(spec.get("bandwidth")))


def http_chaos(obj: Object, _: Object) -> Iterable[Cause]:
    """A fault of the answers of pods: connections that are reset."""
    spec = _spec(obj)
    yield from _fault(spec, _HTTP_ACTED_ON)
    if spec.get("target") not in _SIDES:
        yield not_supported("spec.target", spec.get("target"), _SIDES)
    port = spec.get("port")
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        yield invalid("spec.port", port, "must be between 1 and 65535, inclusive")
    if spec.get("path", "*") not in _EVERY_PATH:
        yield not_supported("spec.path", spec["path"], _EVERY_PATH)
    if spec.get("abort") is not True:
        yield invalid("spec.abort", spec.get("abort"), "must be true: resetting connections is what the lab does")


def _fault(spec: dict[str, Any], acted_on: frozenset[str]) -> Iterable[Cause]:
    yield from _selected(spec, "spec")
    if "duration" in spec:
        yield from _duration(spec["duration"], "spec.duration")
    for name in sorted(set(spec) - acted_on):
        yield invalid(f"spec.{name}", spec[name], "the lab does not act on it; leave it out")


def _selected(chosen: dict[str, Any], at: str) -> Iterable[Cause]:
    if chosen.get("mode") != "all":
        yield not_supported(f"{at}.mode", chosen.get("mode"), ("all",))
    selector = _map(chosen.get("selector"))
    if not selector:
        yield required(f"{at}.selector", "name namespaces or labelSelectors")
    for name in sorted(set(selector) - _SELECTORS):
        yield invalid(f"{at}.selector.{name}", selector[name], "the lab selects by namespaces and labelSelectors")
    spaces, labels = selector.get("namespaces", []), selector.get("labelSelectors", {})
    if not isinstance(spaces, list) or not all(isinstance(each, str) for each in spaces):
        yield invalid(f"{at}.selector.namespaces", spaces, "must be a list of names")
    if not isinstance(labels, dict) or not all(isinstance(each, str) for each in labels.values()):
        yield invalid(f"{at}.selector.labelSelectors", labels, "must be a map of labels")


def _bandwidth(given: dict[str, Any]) -> Iterable[Cause]:
    rate = given.get("rate")
    if not rate:
        yield required("spec.bandwidth.rate")
    elif not _RATE.fullmatch(str(rate)):
        yield invalid("spec.bandwidth.rate", rate, "must be a number and a unit such as 1mbps")
    for name in ("buffer", "limit"):
        size = given.get(name)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            yield invalid(f"spec.bandwidth.{name}", size, "must be a number of bytes of at least 1")


def _duration(value: Any, at: str) -> Iterable[Cause]:
    if value is None:
        yield required(at)
    elif not _DURATION.fullmatch(str(value)):
        yield invalid(at, value, "must be a duration such as 30s, 1m30s or 200ms")


def _spec(obj: Object) -> dict[str, Any]:
    return _map(obj.get("spec"))


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
