"""Status conditions: set one, keeping the time of its last change; read one."""

from __future__ import annotations

from typing import Any

from lab.kubernetes.api.objects import Object, timestamp


def set_condition(status: dict[str, Any], kind: str, value: bool | None, reason: str = "", message: str = "") -> bool:
    """Whether the condition changed; None is Unknown; `lastTransitionTime` moves only when its status does."""
    conditions: list[dict[str, Any]] = status.setdefault("conditions", [])
    word = {True: "True", False: "False", None: "Unknown"}[value]
    before = next((condition for condition in conditions if condition["type"] == kind), None)
    new = {"type": kind, "status": word, "lastTransitionTime": timestamp()}
    new |= {key: text for key, text in (("reason", reason), ("message", message)) if text}
    if before is None:
        conditions.append(new)
        return True
    if before["status"] == word:
        new["lastTransitionTime"] = before.get("lastTransitionTime") or new["lastTransitionTime"]
    if before == new:
        return False
    before.clear()
    before.update(new)
    return True


def condition(obj: Object, kind: str) -> dict[str, Any] | None:
    """The condition of that type, None when the object has none."""
    found = (each for each in (obj.get("status") or {}).get("conditions") or [] if each["type"] == kind)
    return next(found, None)


def holds(obj: Object, kind: str) -> bool:
    """Whether the condition is True."""
    found = condition(obj, kind)
    return found is not None and found["status"] == "True"
