"""What an object has to be before it is stored: every broken rule with its field."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, Final

from lab.kubernetes.api import fault_rules, job_rules, kinds, published, syntax
from lab.kubernetes.api.errors import Cause, Invalid
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, name_of
from lab.kubernetes.api.pod_rules import duplicate, forbidden, invalid, label, not_supported, pod_spec, required
from lab.kubernetes.api.schema import missing
from lab.kubernetes.api.selectors import matches_selector

_LOOSE_NAMES: Final = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
_POD_MUTABLE: Final = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")


def check(kind: Kind, obj: Object, before: Object | None) -> None:
    """Invalid, naming every broken rule; `before` is the stored object when it is being replaced."""
    causes = [*_metadata(kind, obj), *missing(kind, obj), *published.broken(kind, obj)]
    if not causes:  # the rules below rely on required fields
        for table in (_RULES, _CHANGES if before is not None else {}):
            rule = table.get(kind.key)
            if rule:
                causes += rule(obj, before or {})
    if causes:
        raise Invalid.of(kind, name_of(obj), causes)


def _metadata(kind: Kind, obj: Object) -> Iterable[Cause]:
    meta, name = obj["metadata"], name_of(obj)
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind is kinds.NAMESPACE and not syntax.label(name):
        yield invalid("metadata.name", name, syntax.LABEL_RULE)
    elif kind is kinds.SERVICE and not syntax.service_name(name):
        yield invalid("metadata.name", name, syntax.SERVICE_RULE)
    elif not (syntax.path_segment(name) if kind.kind in _LOOSE_NAMES else syntax.subdomain(name)):
        yield invalid("metadata.name", name, syntax.SUBDOMAIN_RULE)
    yield from _labels(meta.get("labels") or {}, "metadata.labels")
    for key in meta.get("annotations") or {}:
        if not syntax.qualified(key.lower()):
            yield invalid("metadata.annotations", key, syntax.KEY_RULE)
    for index, owner in enumerate(meta.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                yield required(f"metadata.ownerReferences[{index}].{field}")
    for finalizer in meta.get("finalizers") or ():
        if not syntax.qualified(finalizer):
            yield invalid("metadata.finalizers", finalizer, syntax.KEY_RULE)


def _labels(labels: dict[str, Any], at: str) -> Iterable[Cause]:
    for key, value in labels.items():
        if not isinstance(value, str):
            yield invalid(at, value, "a label's value is a string")
        else:
            yield from label(key, value, at)


def _pod(obj: Object, _: Object) -> Iterable[Cause]:
    yield from pod_spec(obj["spec"], "spec", ("Always", "OnFailure", "Never"))


def _workload(obj: Object, before: Object) -> Iterable[Cause]:
    spec = obj["spec"]
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    yield from _labels(labels, "spec.template.metadata.labels")
    selector = spec.get("selector") or {}
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid("spec.selector", selector, "empty selector is invalid")
    elif not matches_selector(selector, labels):
        yield invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from pod_spec(template.get("spec") or {}, "spec.template.spec", ("Always",))
    if spec.get("replicas", 0) < 0:
        yield invalid("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    if before and before["spec"].get("selector") != selector:
        yield invalid("spec.selector", selector, syntax.IMMUTABLE_RULE)


def _deployment(obj: Object, before: Object) -> Iterable[Cause]:
    yield from _workload(obj, before)
    strategy = obj["spec"]["strategy"]
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        yield not_supported("spec.strategy.type", strategy["type"], ("Recreate", "RollingUpdate"))
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "Recreate" and rolling is not None:
        yield forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    elif rolling:
        for name in ("maxSurge", "maxUnavailable"):
            if _bound(rolling[name]) is None:
                yield invalid(
                    f"spec.strategy.rollingUpdate.{name}",
                    rolling[name],
                    "must be a number of at least 0 or a percentage such as 25%",
                )
        if _bound(rolling["maxSurge"]) == 0 and _bound(rolling["maxUnavailable"]) == 0:
            yield invalid(
                "spec.strategy.rollingUpdate.maxUnavailable",
                rolling["maxUnavailable"],
                "may not be 0 when `maxSurge` is 0",
            )
    deadline, ready = obj["spec"]["progressDeadlineSeconds"], obj["spec"].get("minReadySeconds", 0)
    if deadline <= ready:
        yield invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _bound(value: Any) -> int | None:
    if isinstance(value, int):
        return value if value >= 0 else None
    digits = str(value).removesuffix("%")
    return int(digits) if str(value).endswith("%") and digits.isdigit() else None


def _service(obj: Object, _: Object) -> Iterable[Cause]:
    spec = obj["spec"]
    types = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec["type"] not in types:
        yield not_supported("spec.type", spec["type"], types)
    ports = spec.get("ports") or []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    yield from _labels(spec.get("selector") or {}, "spec.selector")
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        name = port.get("name", "")
        if len(ports) > 1 and not name:
            yield required(f"{at}.name")
        elif name and not syntax.label(name):
            yield invalid(f"{at}.name", name, syntax.LABEL_RULE)
        elif name in names:
            yield duplicate(f"{at}.name", name)
        names.add(name)
        if not 1 <= port["port"] <= 65535:
            yield invalid(f"{at}.port", port["port"], "must be between 1 and 65535, inclusive")
        if port["protocol"] not in ("TCP", "UDP", "SCTP"):
            yield not_supported(f"{at}.protocol", port["protocol"], ("SCTP", "TCP", "UDP"))
        if (port["port"], port["protocol"]) in numbers:
            yield duplicate(at, f"{port['port']}/{port['protocol']}")
        numbers.add((port["port"], port["protocol"]))
        target = port["targetPort"]
        if isinstance(target, str) and not syntax.port_name(target):
            yield invalid(f"{at}.targetPort", target, syntax.PORT_NAME_RULE)
        elif isinstance(target, int) and not 1 <= target <= 65535:
            yield invalid(f"{at}.targetPort", target, "must be between 1 and 65535, inclusive")


def _service_change(obj: Object, before: Object) -> Iterable[Cause]:
    old, new = before["spec"].get("clusterIP"), obj["spec"].get("clusterIP")
    if old and new != old and obj["spec"]["type"] != "ExternalName":
        yield invalid("spec.clusterIP", new or "", "may not change once set")


def _pod_change(obj: Object, before: Object) -> Iterable[Cause]:
    old, new = _comparable(before["spec"]), _comparable(obj["spec"])
    if not before["spec"].get("nodeName"):
        new.pop("nodeName", None)
    if old != new:
        changed = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
        yield forbidden(
            "spec",
            "pod updates may not change fields other than container images, tolerations, activeDeadlineSeconds and"
            f" terminationGracePeriodSeconds; changed: {', '.join(changed)}",
        )


def _comparable(spec: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in spec.items() if name not in _POD_MUTABLE}
    for group in ("containers", "initContainers"):
        if group in kept:
            kept[group] = [{**container, "image": ""} for container in kept[group]]
    return kept


def _data_change(obj: Object, before: Object) -> Iterable[Cause]:
    if before.get("immutable"):
        for field in ("data", "binaryData", "immutable"):
            if before.get(field) != obj.get(field):
                yield forbidden(field, "field is immutable when `immutable` is set")
    if before.get("type") != obj.get("type"):
        yield invalid("type", obj.get("type", ""), syntax.IMMUTABLE_RULE)


def _secret(obj: Object, _: Object) -> Iterable[Cause]:
    for key, value in (obj.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            yield invalid(f"data[{key}]", "<value omitted>", "must be base64; put plain text into stringData")


def _budget(obj: Object, _: Object) -> Iterable[Cause]:
    spec = obj.get("spec") or {}
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield invalid("spec", "", "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        if name in spec and _bound(spec[name]) is None:
            yield invalid(f"spec.{name}", spec[name], "must be a number of at least 0 or a percentage such as 25%")


def _quota(obj: Object, _: Object) -> Iterable[Cause]:
    for key, value in ((obj.get("spec") or {}).get("hard") or {}).items():
        if syntax.quantity(value) is None:
            yield invalid(f"spec.hard[{key}]", value, syntax.QUANTITY_RULE)
        if "/" in key and not key.startswith(("requests.", "count/")):
            yield invalid(f"spec.hard[{key}]", key, "extended resources are limited as requests.<name>")


def _priority_change(obj: Object, before: Object) -> Iterable[Cause]:
    if obj.get("value") != before.get("value"):
        yield forbidden("value", "may not be changed in an update")


def _role_change(obj: Object, before: Object) -> Iterable[Cause]:
    if obj.get("roleRef") != before.get("roleRef"):
        yield invalid("roleRef", obj.get("roleRef", ""), "cannot change roleRef")


def _autoscaler(obj: Object, _: Object) -> Iterable[Cause]:
    spec = obj["spec"]
    if spec.get("minReplicas", 1) < 1:
        yield invalid("spec.minReplicas", spec["minReplicas"], "must be greater than or equal to 1")
    if spec["maxReplicas"] < spec.get("minReplicas", 1):
        yield invalid("spec.maxReplicas", spec["maxReplicas"], "must be greater than or equal to `minReplicas`")


def _replicas(obj: Object, _: Object) -> Iterable[Cause]:
    replicas = (obj.get("spec") or {}).get("replicas", 0)
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 0:
        yield invalid("spec.replicas", replicas, "must be an integer of at least 0")


Rule = Callable[[Object, Object], Iterable[Cause]]
_RULES: Final[dict[str, Rule]] = {
    kinds.POD.key: _pod,
    kinds.DEPLOYMENT.key: _deployment,
    kinds.REPLICA_SET.key: _workload,
    kinds.DAEMON_SET.key: _workload,
    kinds.JOB.key: job_rules.job,
    kinds.CRON_JOB.key: job_rules.cron_job,
    kinds.SERVICE.key: _service,
    kinds.SECRET.key: _secret,
    kinds.POD_DISRUPTION_BUDGET.key: _budget,
    kinds.RESOURCE_QUOTA.key: _quota,
    kinds.HORIZONTAL_POD_AUTOSCALER.key: _autoscaler,
    kinds.MACHINE_DEPLOYMENT.key: _replicas,
    kinds.MACHINE_SET.key: _replicas,
    kinds.BARE_METAL_HOST.key: fault_rules.bare_metal_host,
    kinds.NETWORK_CHAOS.key: fault_rules.network_chaos,
    kinds.HTTP_CHAOS.key: fault_rules.http_chaos,
}
_CHANGES: Final[dict[str, Rule]] = {
    kinds.POD.key: _pod_change,
    kinds.SERVICE.key: _service_change,
    kinds.SECRET.key: _data_change,
    kinds.CONFIG_MAP.key: _data_change,
    kinds.PRIORITY_CLASS.key: _priority_change,
    kinds.ROLE_BINDING.key: _role_change,
    kinds.CLUSTER_ROLE_BINDING.key: _role_change,
}
