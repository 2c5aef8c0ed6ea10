"""The order in which resources go: what needs another one goes before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.engine.difference import Difference
from lab.engine.errors import ResourceError
from lab.engine.state import Resource
from lab.engine.values import UNKNOWN


def waves(resources: Sequence[Resource]) -> list[list[Resource]]:
    """Groups to delete one after the other: nothing that is left needs anything in the next group."""
    left = list(reversed(resources))
    order = []
    while left:
        wave = [each for each in left if not any(each.urn in other.needs for other in left if other is not each)]
        # Recorded by hand, a state may have a cycle: then the youngest goes first.
        wave = wave or left[:1]
        order.append(wave)
        left = [each for each in left if not any(each is gone for gone in wave)]
    return order


def refuse_protected(resources: Sequence[Resource], verb: str) -> None:
    """Raise ResourceError for the first protected resource, before anything is touched."""
    for each in resources:
        if each.protect:
            raise ResourceError(
                each.urn,
                f"it is protected and may not be {verb}; to let it go, set protect=False on it and run `tandem up`"
                " once",
            )


def dependents_to_replace(
    root: Resource, recorded: Sequence[Resource], compare: Callable[[Resource, dict[str, object]], Difference]
) -> list[Resource]:
    """Resources that cannot outlive the deletion of `root`, in recorded order.

    One does if its provider is replaced, if it is deleted with a replaced resource, or if a property fed by a
    replaced one, taken as unknown, would replace it too. `compare` asks its provider.
    """
    replaced = {root.urn}
    found = []
    for each in recorded:
        if not each.custom or each.external or each.delete or each.pending_replacement or each is root:
            continue
        fed = [key for key, urns in each.property_dependencies.items() if key in each.inputs and replaced & set(urns)]
        doomed = each.provider.rpartition("::")[0] in replaced or each.deleted_with in replaced
        if doomed or (fed and compare(each, {**each.inputs, **dict.fromkeys(fed, UNKNOWN)}).replaces):
            replaced.add(each.urn)
            found.append(each)
    return found
