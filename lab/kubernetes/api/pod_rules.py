"""What a pod's spec has to be, wherever it stands: every broken rule with its field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.kubernetes.api import syntax
from lab.kubernetes.api.errors import Cause

Spec = Mapping[str, Any]

_HANDLERS: Final = ("exec", "grpc", "httpGet", "tcpSocket")
_HOOKS: Final = ("exec", "httpGet", "sleep", "tcpSocket")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_NATIVE: Final = ("cpu", "memory", "ephemeral-storage")
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_FIELDS: Final = frozenset(
    {
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels",
        "metadata.annotations",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)


def invalid(field: str, value: Any, rule: str) -> Cause:
    """A value that breaks a rule."""
    shown = f'"{value}"' if isinstance(value, str) else value
    return Cause(field, "FieldValueInvalid", f"Invalid value: {shown}: {rule}")


def required(field: str, rule: str = "") -> Cause:
    """A value that is not there."""
    return Cause(field, "FieldValueRequired", f"Required value{': ' + rule if rule else ''}")


def duplicate(field: str, value: Any) -> Cause:
    """A value that stands twice where it may stand once."""
    return Cause(field, "FieldValueDuplicate", f'Duplicate value: "{value}"')


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    """A value outside of its list."""
    listed = ", ".join(f'"{name}"' for name in supported)
    return Cause(field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {listed}')


def not_found(field: str, value: Any) -> Cause:
    """A name that names nothing."""
    return Cause(field, "FieldValueNotFound", f'Not found: "{value}"')


def forbidden(field: str, rule: str) -> Cause:
    """A field that may not be set or changed."""
    return Cause(field, "FieldValueForbidden", f"Forbidden: {rule}")


def pod_spec(spec: Spec, at: str, restart: tuple[str, ...]) -> Iterable[Cause]:
    """Rules of a pod's spec that stands at `at`; `restart` lists the restart policies allowed there."""
    if spec.get("restartPolicy") not in restart:
        yield not_supported(f"{at}.restartPolicy", spec.get("restartPolicy"), restart)
    grace = spec.get("terminationGracePeriodSeconds", 0)
    if grace < 0:
        yield invalid(f"{at}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0")
    if not spec.get("containers"):
        yield required(f"{at}.containers")
    volumes: set[str] = set()
    for index, volume in enumerate(spec.get("volumes", ())):
        yield from _volume(volume, f"{at}.volumes[{index}]", volumes)
    names: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, ())):
            where = f"{at}.{group}[{index}]"
            yield from _container(container, where, names, volumes)
            if group == "initContainers" and container.get("restartPolicy") != "Always":
                for name in (*_PROBES, "lifecycle"):
                    if name in container:
                        yield forbidden(
                            f"{where}.{name}", "may not be set for init containers without restartPolicy=Always"
                        )
    for index, toleration in enumerate(spec.get("tolerations", ())):
        yield from _toleration(toleration, f"{at}.tolerations[{index}]")
    for key, value in (spec.get("nodeSelector") or {}).items():
        yield from label(key, value, f"{at}.nodeSelector")


def label(key: str, value: str, field: str) -> Iterable[Cause]:
    """One label's key and value."""
    if not syntax.qualified(key):
        yield invalid(field, key, syntax.KEY_RULE)
    if not syntax.label_value(value):
        yield invalid(field, value, syntax.VALUE_RULE)


def _volume(volume: Spec, at: str, names: set[str]) -> Iterable[Cause]:
    name = volume.get("name", "")
    if not name:
        yield required(f"{at}.name")
    elif not syntax.label(name):
        yield invalid(f"{at}.name", name, syntax.LABEL_RULE)
    elif name in names:
        yield duplicate(f"{at}.name", name)
    names.add(name)
    sources = [source for source in volume if source != "name"]
    for extra in sources[1:]:
        yield forbidden(f"{at}.{extra}", "may not specify more than 1 volume type")
    limit = (volume.get("emptyDir") or {}).get("sizeLimit")
    if limit is not None and syntax.quantity(limit) is None:
        yield invalid(f"{at}.emptyDir.sizeLimit", limit, syntax.QUANTITY_RULE)
    for source, field in (("configMap", "name"), ("secret", "secretName"), ("persistentVolumeClaim", "claimName")):
        if source in volume and not volume[source].get(field):
            yield required(f"{at}.{source}.{field}")


def _container(container: Spec, at: str, names: set[str], volumes: set[str]) -> Iterable[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{at}.name")
    elif not syntax.label(name):
        yield invalid(f"{at}.name", name, syntax.LABEL_RULE)
    elif name in names:
        yield duplicate(f"{at}.name", name)
    names.add(name)
    if not container.get("image"):
        yield required(f"{at}.image")
    elif container["image"] != container["image"].strip():
        yield invalid(f"{at}.image", container["image"], "must not have leading or trailing whitespace")
    if container.get("imagePullPolicy") not in ("Always", "IfNotPresent", "Never"):
        yield not_supported(
            f"{at}.imagePullPolicy", container.get("imagePullPolicy"), ("Always", "IfNotPresent", "Never")
        )
    paths: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts", ())):
        where = f"{at}.volumeMounts[{index}]"
        if mount.get("name") not in volumes:
            yield not_found(f"{where}.name", mount.get("name", ""))
        path = mount.get("mountPath", "")
        if not path:
            yield required(f"{where}.mountPath")
        elif path in paths:
            yield invalid(f"{where}.mountPath", path, "must be unique")
        paths.add(path)
        if ".." in str(mount.get("subPath", "")).split("/") or str(mount.get("subPath", "")).startswith("/"):
            yield invalid(f"{where}.subPath", mount["subPath"], "must be a relative path without '..'")
    ports = yield from _ports(container.get("ports", ()), f"{at}.ports")
    for index, variable in enumerate(container.get("env", ())):
        yield from _variable(variable, f"{at}.env[{index}]")
    for name in _PROBES:
        if name in container:
            yield from _probe(container[name], f"{at}.{name}", ports, once=name != "readinessProbe")
    for name, hook in (container.get("lifecycle") or {}).items():
        if name in ("postStart", "preStop"):
            yield from _handler(hook, f"{at}.lifecycle.{name}", _HOOKS, ports)
    yield from _resources(container.get("resources") or {}, f"{at}.resources")


def _ports(listed: Iterable[Spec], at: str) -> Any:
    names: set[str] = set()
    for index, port in enumerate(listed):
        where = f"{at}[{index}]"
        number = port.get("containerPort", 0)
        if not 1 <= number <= 65535:
            yield invalid(f"{where}.containerPort", number, "must be between 1 and 65535, inclusive")
        name = port.get("name")
        if name:
            if not syntax.port_name(name):
                yield invalid(f"{where}.name", name, syntax.PORT_NAME_RULE)
            if name in names:
                yield duplicate(f"{where}.name", name)
            names.add(name)
        if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
            yield not_supported(f"{where}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    return names


def _variable(variable: Spec, at: str) -> Iterable[Cause]:
    name = variable.get("name", "")
    if not name:
        yield required(f"{at}.name")
    elif not syntax.environment_name(name):
        yield invalid(f"{at}.name", name, syntax.ENVIRONMENT_RULE)
    source = variable.get("valueFrom")
    if source is None:
        return
    if variable.get("value"):
        yield invalid(f"{at}.valueFrom", "", "may not be specified when `value` is not empty")
    given = [kind for kind in _SOURCES if kind in source]
    if len(given) != 1:
        yield invalid(f"{at}.valueFrom", "", f"must specify one of: {', '.join(_SOURCES)}")
    for kind in ("configMapKeyRef", "secretKeyRef"):
        for field in ("name", "key"):
            if kind in source and not source[kind].get(field):
                yield required(f"{at}.valueFrom.{kind}.{field}")
    path = (source.get("fieldRef") or {}).get("fieldPath")
    if path is not None and path.partition("[")[0] not in _FIELDS:
        yield not_supported(f"{at}.valueFrom.fieldRef.fieldPath", path, sorted(_FIELDS))


def _probe(probe: Spec, at: str, ports: set[str], *, once: bool) -> Iterable[Cause]:
    yield from _handler(probe, at, _HANDLERS, ports)
    for field, least in (
        ("initialDelaySeconds", 0),
        ("periodSeconds", 1),
        ("timeoutSeconds", 1),
        ("successThreshold", 1),
        ("failureThreshold", 1),
    ):
        if probe.get(field, least) < least:
            yield invalid(f"{at}.{field}", probe[field], f"must be greater than or equal to {least}")
    if once and probe.get("successThreshold", 1) != 1:
        yield invalid(f"{at}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(holder: Spec, at: str, allowed: tuple[str, ...], ports: set[str]) -> Iterable[Cause]:
    given = [name for name in allowed if name in holder]
    if not given:
        yield required(at, "must specify a handler type")
    for name in given[1:]:
        yield forbidden(f"{at}.{name}", "may not specify more than 1 handler type")
    for name in given:
        if name in ("httpGet", "tcpSocket", "grpc"):
            yield from _handler_port(holder[name].get("port"), f"{at}.{name}.port", ports)
    if "exec" in holder and not holder["exec"].get("command"):
        yield required(f"{at}.exec.command")
    path = (holder.get("httpGet") or {}).get("path")
    if path is not None and not path:
        yield required(f"{at}.httpGet.path")
    seconds = (holder.get("sleep") or {}).get("seconds", 0)
    if seconds < 0:
        yield invalid(f"{at}.sleep.seconds", seconds, "must be greater than or equal to 0")


def _handler_port(port: Any, at: str, ports: set[str]) -> Iterable[Cause]:
    if isinstance(port, str):
        if not syntax.port_name(port):
            yield invalid(at, port, syntax.PORT_NAME_RULE)
        elif port not in ports:
            # a real server takes it and the probe never succeeds; the lab says it at once
            yield not_found(at, port)
    elif not isinstance(port, int) or not 1 <= port <= 65535:
        yield invalid(at, port, "must be between 1 and 65535, inclusive")


def _resources(resources: Spec, at: str) -> Iterable[Cause]:
    sides: dict[str, dict[str, Any]] = {}
    for side in ("limits", "requests"):
        for name, text in (resources.get(side) or {}).items():
            amount = syntax.quantity(text)
            where = f"{at}.{side}[{name}]"
            if amount is None:
                yield invalid(where, text, syntax.QUANTITY_RULE)
                continue
            if amount < 0:
                yield invalid(where, text, "must be greater than or equal to 0")
            native = name in _NATIVE or name.startswith("hugepages-")
            if not native and "/" not in name:
                yield invalid(where, name, "must be a standard resource type or fully qualified")
            if not native and amount != amount.to_integral_value():
                yield invalid(where, text, "must be an integer")
            sides.setdefault(side, {})[name] = amount
    limits, requests = sides.get("limits", {}), sides.get("requests", {})
    for name, amount in requests.items():
        extended = name not in _NATIVE
        if extended and name not in limits:
            yield required(f"{at}.limits", "Limit must be set for non overcommitable resources")
        elif extended and limits[name] != amount:
            yield invalid(f"{at}.requests", str(amount), f"must be equal to {name} limit of {limits[name]}")
        elif name in limits and amount > limits[name]:
            yield invalid(
                f"{at}.requests",
                str(resources["requests"][name]),
                f"must be less than or equal to {name} limit of {resources['limits'][name]}",
            )


def _toleration(toleration: Spec, at: str) -> Iterable[Cause]:
    operator = toleration.get("operator") or "Equal"
    if operator not in ("Exists", "Equal"):
        yield not_supported(f"{at}.operator", operator, ("Equal", "Exists"))
    if operator == "Exists" and toleration.get("value"):
        yield invalid(f"{at}.operator", toleration, "value must be empty when `operator` is 'Exists'")
    if not toleration.get("key") and operator != "Exists":
        yield invalid(f"{at}.operator", operator, "operator must be Exists when `key` is empty")
    if toleration.get("effect") not in (None, "", "NoSchedule", "PreferNoSchedule", "NoExecute"):
        yield not_supported(f"{at}.effect", toleration["effect"], ("NoSchedule", "PreferNoSchedule", "NoExecute"))
    if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
        yield invalid(
            f"{at}.effect", toleration.get("effect", ""), "effect must be 'NoExecute' when `tolerationSeconds` is set"
        )
