"""What the store holds: objects by name and by uid, their owners, one version counter, one history per kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.kubernetes.api.history import Change, History
from lab.kubernetes.api.kinds import Kind
from lab.kubernetes.api.objects import Object, clone, name_of, namespace_of, uid_of

Place = tuple[Kind, str, str]
"""Kind, namespace (empty for cluster scope) and name."""


class Table:
    """Objects as they are now; what it hands out is its own and must not be altered."""

    def __init__(self, kinds: Iterable[Kind], *, version: int, history_limit: int) -> None:
        self.version = version
        self._objects: dict[str, dict[tuple[str, str], Object]] = {kind.key: {} for kind in kinds}
        self._history = {key: History(version, history_limit) for key in self._objects}
        self._places: dict[str, Place] = {}
        self._dependents: dict[str, dict[str, None]] = {}

    def history(self, kind: Kind) -> History:
        """Changes of one kind."""
        return self._history[kind.key]

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object, or None."""
        return self._objects[kind.key].get((namespace, name))

    def of_kind(self, kind: Kind, namespace: str = "") -> list[Object]:
        """All objects of a kind, in one namespace if one is named, ordered by namespace and name."""
        rows = self._objects[kind.key]
        return [obj for (space, _), obj in sorted(rows.items()) if not namespace or space == namespace]

    def count(self, kind: Kind) -> int:
        """How many objects of the kind there are."""
        return len(self._objects[kind.key])

    def oldest(self, kind: Kind) -> Object:
        """The object of the kind that was put first."""
        return next(iter(self._objects[kind.key].values()))

    def by_uid(self, uid: str) -> tuple[Kind, Object] | None:
        """The object with this uid and its kind."""
        place = self._places.get(uid)
        if place is None:
            return None
        kind, namespace, name = place
        return kind, self._objects[kind.key][namespace, name]

    def dependents(self, uid: str) -> Iterator[tuple[Kind, Object]]:
        """Objects that name `uid` among their owners."""
        for dependent in list(self._dependents.get(uid, ())):
            found = self.by_uid(dependent)
            if found:
                yield found

    def put(self, kind: Kind, obj: Object) -> Object:
        """Store `obj` under a new version; it must not be altered afterwards."""
        place = (namespace_of(obj), name_of(obj))
        before = self._objects[kind.key].get(place)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._objects[kind.key][place] = obj
        self._places[uid_of(obj)] = (kind, *place)
        self._index_owners(before, obj)
        self._history[kind.key].append(Change(self.version, before, obj))
        return obj

    def remove(self, kind: Kind, obj: Object) -> Object:
        """Take the object out; returns its last state with the version of the removal."""
        before = self._objects[kind.key].pop((namespace_of(obj), name_of(obj)))
        self.version += 1
        self._places.pop(uid_of(obj), None)
        self._index_owners(before, None)
        final: Object = clone(obj)
        final["metadata"]["resourceVersion"] = str(self.version)
        self._history[kind.key].append(Change(self.version, before, None, final))
        return final

    def _index_owners(self, before: Object | None, after: Object | None) -> None:
        for obj, present in ((before, False), (after, True)):
            for owner in (obj or {}).get("metadata", {}).get("ownerReferences") or ():
                dependents = self._dependents.setdefault(str(owner.get("uid")), {})
                if obj is None:
                    continue
                if present:
                    dependents[uid_of(obj)] = None
                else:
                    dependents.pop(uid_of(obj), None)
                if not dependents:
                    del self._dependents[str(owner.get("uid"))]
