"""What every AWS type has in common: checks, defaults, names, differences, tags, and the way back to a lost Create.

A Create whose engine died before it wrote down the answer is repeated by the next `up`. Types that take tags are
created with MARKER_TAG: a hash of the URN and one of the inputs. AwsPackage looks for it and takes what it finds,
unless the engine has that very resource in its state; if the inputs have changed since, it is removed and made anew.
Types without tags are created by calls that may be repeated. The marker never shows up in `tags` or `tagsAll`.
"""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lab.providers.aws.cloud import MARKER_TAG, Cloud
from lab.providers.aws.rules import parsed
from lab.providers.aws.schema import Schema, schema_of
from lab.providers.difference import Change, Difference, compare, falls_under
from lab.providers.errors import Failure, ProviderError
from lab.providers.naming import Naming
from lab.providers.values import UNKNOWN, is_known


class AwsType:
    """One resource type; subclasses say what differs."""

    type_name: ClassVar[str]
    naming: ClassVar[Naming | None] = None
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Inputs the real provider fills in."""
    replace_on: ClassVar[tuple[str, ...]] = ()
    """Properties that cannot be changed in place."""
    in_place: ClassVar[tuple[str, ...]] = ()
    """Properties that `update` changes, beside tags; a change of any other is refused."""
    lasting: ClassVar[tuple[str, ...]] = ()
    """Those of them that can be changed and not taken away."""
    delete_first: ClassVar[bool] = False
    """Whether a replacement needs the old one gone, because both would have one identity."""
    unordered: ClassVar[frozenset[str]] = frozenset()
    """Lists whose order means nothing."""
    documents: ClassVar[frozenset[str]] = frozenset()
    """JSON texts, compared by meaning."""
    blank: ClassVar[Mapping[str, Any]] = {}
    """Outputs that are empty unless the program gives them, on AWS too."""

    @property
    def schema(self) -> Schema:
        """The type's properties."""
        return schema_of(self.type_name)

    @property
    def tagged(self) -> bool:
        """Whether the type takes tags."""
        return "tags" in self.schema.properties

    @property
    def regional(self) -> bool:
        """Whether the type has a `region` output."""
        return "region" in self.schema.always

    # What subclasses implement.

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        """Rules of this type beyond the schema; values may be UNKNOWN."""
        return iter(())

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        """Make it and return its id; `tags` are all tags it has to carry."""
        raise NotImplementedError

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """Its computed outputs (tags under `tagsAll`), or None when it is gone."""
        raise NotImplementedError

    def update(self, cloud: Cloud, identity: str, old: dict[str, Any], new: dict[str, Any]) -> None:
        """Change it in place; tags are done by `tag`."""
        raise NotImplementedError

    def refuse_update(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
        """Why the change cannot be made in place, property by property; UNKNOWN values may be the same as before."""
        tags = ("tags", "tagsAll") if self.tagged else ()
        changes = compare(self.canonical(old), self.canonical(new))
        able = ", ".join(self.in_place + tags) or "nothing"
        for path, change in changes.items():
            if not is_known(new.get(path.partition(".")[0].partition("[")[0])):
                continue
            if not any(falls_under(path, rule) for rule in (*self.in_place, *tags)):
                yield f"{path} changes, and the lab changes only {able} in place"
            elif change is Change.DELETE and path in self.lasting:
                yield f"{path} is taken away, which changes nothing here; say what it shall be"

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        """Set tags and remove others."""
        raise NotImplementedError

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        """Remove it; what is gone already is fine."""
        raise NotImplementedError

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        """Ids of resources, at least those of this type, with what their MARKER_TAG says."""
        return iter(())

    def identity_inputs(self, identity: str) -> dict[str, Any]:
        """Inputs that follow from an id alone, for reading a resource that is not in the state."""
        return {}

    # What they get from here.

    def differ(self, cloud: Cloud, state: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> Difference:
        """Changes of inputs, of default tags, and the rules that make them replacements."""
        changes = compare(self.canonical(old), self.canonical(new))
        if self.tagged and "tagsAll" in state and is_known(new.get("tags")):
            expected = {key: str(value) for key, value in cloud.all_tags(new.get("tags")).items()}
            if state["tagsAll"] != expected and not any(path.startswith("tags") for path in changes):
                changes["tagsAll"] = Change.UPDATE
        replaces = tuple(path for path in changes if any(falls_under(path, rule) for rule in self.replace_on))
        named = self.naming is not None and self.naming.property not in (new.get("__defaults") or [])
        return Difference(
            changes, replaces, self.delete_first or bool(replaces and named and self.keeps_name(old, new))
        )

    def keeps_name(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Whether the new resource would get the physical name of the old one."""
        return self.naming is not None and old.get(self.naming.property) == new.get(self.naming.property)

    def canonical(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs in a form in which equal meaning is equal."""
        result = {}
        for name, value in inputs.items():
            if name == "__defaults":
                continue
            if name in self.unordered and isinstance(value, list):
                value = sorted(value, key=lambda item: json.dumps(item, sort_keys=True, default=repr))
            elif name in self.documents and isinstance(value, str):
                value = parsed(value)
            elif value in ([], {}):
                value = None
            result[name] = value
        return result

    def state(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Every output of an existing resource; ProviderError when one that programs may read is missing."""
        live = self.read(cloud, identity, inputs)
        if live is None:
            raise ProviderError(
                f"{self.type_name} {identity} is gone; it was removed by somebody else: run up with --refresh"
            )
        return self.assemble(cloud, identity, inputs, live)

    def assemble(self, cloud: Cloud, identity: str, inputs: dict[str, Any], live: dict[str, Any]) -> dict[str, Any]:
        """Inputs, live values and blanks together."""
        given = {name: value for name, value in inputs.items() if name in self.schema.properties and value is not None}
        state = {**self.blank, **given, **live, "id": identity}
        if self.regional:
            state.setdefault("region", cloud.region)
        if self.tagged:
            state["tagsAll"] = {key: value for key, value in live.get("tagsAll", {}).items() if key != MARKER_TAG}
        missing = sorted(name for name in self.schema.always if state.get(name) is None)
        if missing:
            raise ProviderError(
                f"{self.type_name}: the lab's provider returns no {', '.join(missing)}; this is its defect"
            )
        return state

    def planned(self, cloud: Cloud, inputs: dict[str, Any]) -> dict[str, Any]:
        """What a preview knows of a resource that does not exist yet."""
        state: dict[str, Any] = dict.fromkeys(self.schema.always, UNKNOWN)
        state |= {**self.blank, **{key: value for key, value in inputs.items() if key in self.schema.properties}}
        if self.regional:
            state["region"] = inputs.get("region") or cloud.region
        if self.tagged:
            known = is_known(inputs.get("tags"))
            state["tagsAll"] = cloud.all_tags(inputs.get("tags")) if known else UNKNOWN
        return state
