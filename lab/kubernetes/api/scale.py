"""The scale subresource: replicas of a workload, whatever its kind."""

from __future__ import annotations

from lab.kubernetes.api.errors import BadRequest, Cause, Invalid, MethodNotAllowed
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, clone, name_of
from lab.kubernetes.api.selectors import selector_text


def of(kind: Kind, obj: Object) -> Object:
    """The autoscaling/v1 Scale of a workload."""
    if "scale" not in kind.subresources:
        raise MethodNotAllowed(f"{kind.key} has no scale subresource here", kind=kind)
    meta = obj["metadata"]
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    selector = status.get("selector", "") if kind.custom else selector_text(spec.get("selector"))
    wanted = {"replicas": spec["replicas"]} if "replicas" in spec else {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "spec": wanted,
        "status": {"replicas": status.get("replicas", 0), **({"selector": selector} if selector else {})},
    }


def scaled(kind: Kind, obj: Object, scale: Object) -> Object:
    """The workload with the replicas of `scale`; Invalid for a number that is none."""
    of(kind, obj)
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int):
        raise BadRequest(f"Scale cannot be handled as a Scale: spec.replicas: got {replicas!r}, want integer")
    if replicas < 0:
        rule = "must be greater than or equal to 0"
        cause = Cause("spec.replicas", "FieldValueInvalid", f"Invalid value: {replicas}: {rule}")
        raise Invalid.of(kind, name_of(obj), [cause])
    new: Object = clone(obj)
    new.setdefault("spec", {})["replicas"] = replicas
    for key in ("resourceVersion", "uid"):
        if (scale.get("metadata") or {}).get(key):
            new["metadata"][key] = scale["metadata"][key]
    return new
