"""Label and field selectors: text to a predicate over objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from lab.kubernetes.api.errors import BadRequest
from lab.kubernetes.api.objects import Object, labels_of

Predicate = Callable[[Object], bool]

_TERM = re.compile(
    r"""\s*(?:
        (?P<absent>!)\s*(?P<absent_key>[^\s!=,()]+)
      | (?P<key>[^\s!=,()]+)\s*(?:
            (?P<set>in|notin)\s*\((?P<values>[^)]*)\)
          | (?P<operator>==|!=|=)\s*(?P<value>[^\s,=!()]*)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)
_FIELD = re.compile(r"(?P<path>[^=!,]+?)\s*(?P<operator>==|!=|=)\s*(?P<value>[^,]*)$")


def _everything(_: Object) -> bool:
    return True


def label_matcher(selector: str) -> Predicate:
    """A predicate for `a=b,c!=d,e in (f,g),h notin (i),j,!k`; BadRequest when it cannot be read."""
    if not selector.strip():
        return _everything
    terms: list[Callable[[Mapping[str, str]], bool]] = []
    position = 0
    while position < len(selector):
        found = _TERM.match(selector, position)
        if not found:
            raise BadRequest(
                f"unable to parse label selector {selector!r} at {selector[position:]!r};"
                " write requirements such as a=b, c!=d, e in (f,g), h notin (i), j, !k"
            )
        terms.append(_label_term(found))
        position = found.end()
    return lambda obj: all(term(labels_of(obj)) for term in terms)


def _label_term(found: re.Match[str]) -> Callable[[Mapping[str, str]], bool]:
    if found["absent"]:
        gone = found["absent_key"]
        return lambda labels: gone not in labels
    key = found["key"]
    if found["set"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        if found["set"] == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    if found["operator"] is None:
        return lambda labels: key in labels
    value = found["value"]
    if found["operator"] == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def field_matcher(selector: str) -> Predicate:
    """A predicate for `metadata.name=a,status.phase!=Running`; BadRequest when it cannot be read."""
    if not selector.strip():
        return _everything
    terms: list[tuple[list[str], bool, str]] = []
    for part in filter(None, (part.strip() for part in selector.split(","))):
        found = _FIELD.match(part)
        if not found:
            raise BadRequest(f"unable to parse field selector {part!r}; write path=value or path!=value")
        terms.append((found["path"].split("."), found["operator"] != "!=", found["value"].strip()))
    return lambda obj: all((_text(obj, path) == value) is equal for path, equal, value in terms)


def _text(obj: Any, path: list[str]) -> str:
    for name in path:
        obj = obj.get(name) if isinstance(obj, dict) else None
    if isinstance(obj, bool):
        return str(obj).lower()
    return "" if obj is None else str(obj)


def matches_selector(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether labels match a LabelSelector object; an empty one matches everything, None nothing."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_meets(requirement, labels) for requirement in selector.get("matchExpressions") or ())


def _meets(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) if operator == "Exists" else (key not in labels)


def selector_text(selector: Mapping[str, Any] | None) -> str:
    """A LabelSelector object as text, as a scale subresource carries it."""
    terms = [f"{key}={value}" for key, value in sorted(((selector or {}).get("matchLabels") or {}).items())]
    for requirement in (selector or {}).get("matchExpressions") or ():
        key, operator = requirement["key"], requirement["operator"]
        values = ",".join(sorted(requirement.get("values") or []))
        written = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        terms.append(written.get(operator, f"!{key}"))
    return ",".join(terms)
