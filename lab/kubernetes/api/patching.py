"""JSON patch, merge patch and strategic-merge patch."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import jsonpatch
import jsonpointer

from lab.kubernetes.api.errors import BadRequest, Cause, Invalid, UnsupportedMediaType
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, clone, name_of
from lab.kubernetes.api.schema import ANY, Node, root


class PatchType(StrEnum):
    """Patch types, named by their media type."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


def patch_type(name: str, kind: Kind) -> PatchType:
    """The patch type of this name; UnsupportedMediaType when the kind does not take it."""
    accepted = [kept.value for kept in PatchType if kept is not PatchType.STRATEGIC or not kind.custom]
    if name not in accepted:
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}",
            kind=kind,
        )
    return PatchType(name)


def patched(kind: Kind | None, obj: Object, patch: Any, how: PatchType) -> Object:
    """The object after the patch; without a kind (a scale), strategic merge is plain merge."""
    if how is PatchType.JSON:
        return _json_patched(kind, obj, patch)
    if not isinstance(patch, dict):
        raise BadRequest(f"a {how.value} body is an object, got {type(patch).__name__}")
    if how is PatchType.MERGE:
        merged: Object = merge(obj, patch)
    else:
        merged = strategic_merge(clone(obj), patch, root(kind) if kind else ANY)
    if not isinstance(merged.get("metadata"), dict):
        raise BadRequest("the patch leaves no metadata; an object keeps its metadata")
    return merged


def _json_patched(kind: Kind | None, obj: Object, patch: Any) -> Object:
    if not isinstance(patch, list):
        raise BadRequest(f"a JSON patch is a list of operations, got {type(patch).__name__}")
    try:
        result: Any = jsonpatch.apply_patch(obj, patch)
    except (jsonpatch.InvalidJsonPatch, TypeError, AttributeError) as error:
        raise BadRequest(f"the JSON patch cannot be read: {error}; see RFC 6902") from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        cause = Cause("patch", "FieldValueInvalid", f"the patch does not fit the object: {error}")
        if kind is None:
            raise BadRequest(cause.message) from None
        raise Invalid.of(kind, name_of(obj), [cause]) from None
    if not isinstance(result, dict) or not isinstance(result.get("metadata"), dict):
        raise BadRequest("the patch leaves no object with metadata")
    return result


def merge(obj: Any, patch: Any) -> Any:
    """RFC 7396; new containers, the arguments stay as they are."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(obj) if isinstance(obj, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic_merge(target: dict[str, Any], patch: dict[str, Any], node: Node) -> dict[str, Any]:
    """Merge `patch` into `target`: maps by key, lists by the schema's merge key, directives obeyed."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {name: clone(value) for name, value in patch.items() if name != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise BadRequest(f"$patch: {directive!r} is no directive; use replace, delete or merge")
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict):
            old = target.get(name)
            merged = strategic_merge(old if isinstance(old, dict) else {}, value, node.child(name))
            if value.get("$patch") == "delete":
                target.pop(name, None)
            else:
                target[name] = merged
        elif isinstance(value, list):
            target[name] = _merged_list(
                target.get(name), value, node.child(name), patch.get(f"$setElementOrder/{name}")
            )
        else:
            target[name] = value
    _obey(target, patch, node)
    return target


def _obey(target: dict[str, Any], patch: dict[str, Any], node: Node) -> None:
    """The directives that stand beside the fields they speak of."""
    for name, value in patch.items():
        directive, slash, about = name.partition("/")
        if slash and directive == "$deleteFromPrimitiveList":
            target[about] = [item for item in target.get(about) or [] if item not in value]
        elif slash and directive == "$setElementOrder" and about not in patch and about in target:
            target[about] = _ordered(target[about], value, node.child(about).merge_key)
        elif name == "$retainKeys":
            for gone in [kept for kept in target if kept not in value]:
                del target[gone]
        elif name.startswith("$") and not slash and name != "$patch":
            raise BadRequest(f"{name} is no directive of a strategic-merge patch; use $patch or $retainKeys")


def _merged_list(old: Any, new: list[Any], node: Node, order: list[Any] | None) -> list[Any]:
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in new):
        return [clone(item) for item in new if not (isinstance(item, dict) and "$patch" in item)]
    if not node.merges:
        return [clone(item) for item in new]
    result: list[Any] = list(old) if isinstance(old, list) else []
    key = node.merge_key
    if key is None:
        result += [item for item in new if item not in result]
        return _ordered(result, order, None)
    for item in new:
        if not isinstance(item, dict) or key not in item:
            raise BadRequest(f"map: {item!r} does not contain declared merge key: {key}")
        found = [index for index, kept in enumerate(result) if isinstance(kept, dict) and kept.get(key) == item[key]]
        if item.get("$patch") == "delete":
            result = [kept for index, kept in enumerate(result) if index not in found]
        elif found:
            result[found[0]] = strategic_merge(result[found[0]], item, node.items)
        else:
            result.append(strategic_merge({}, item, node.items))
    return _ordered(result, order, key)


def _ordered(items: list[Any], order: list[Any] | None, key: str | None) -> list[Any]:
    """Items in the order a $setElementOrder directive gives; those it does not name stay behind."""
    if not order:
        return items
    names = [item.get(key) if isinstance(item, dict) and key else item for item in order]

    def rank(item: Any) -> int:
        name = item.get(key) if isinstance(item, dict) and key else item
        return names.index(name) if name in names else len(names)

    return sorted(items, key=rank)
