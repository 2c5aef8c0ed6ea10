"""Uniform resource names, built as Pulumi's engine builds them: with the whole chain of parent types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lab.engine.errors import ProgramError

STACK_TYPE: Final = "pulumi:pulumi:Stack"
PROVIDER_PREFIX: Final = "pulumi:providers:"
_PREFIX: Final = "urn:pulumi:"


@dataclass(frozen=True)
class Urn:
    """`urn:pulumi:<stack>::<project>::<qualified type>::<name>`, taken apart."""

    stack: str
    project: str
    qualified_type: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Urn:
        """Raise ProgramError for a text that is no URN."""
        parts = text.removeprefix(_PREFIX).split("::", 3)
        if not text.startswith(_PREFIX) or len(parts) != 4:
            raise ProgramError(
                f"{text!r} is no URN; one reads {_PREFIX}<stack>::<project>::<type>::<name>: correct the alias or"
                " parent"
            )
        return cls(*parts)

    @property
    def type(self) -> str:
        """The resource's own type, without its parents' types."""
        return self.qualified_type.rpartition("$")[2]

    def __str__(self) -> str:
        return f"{_PREFIX}{self.stack}::{self.project}::{self.qualified_type}::{self.name}"


def child_urn(stack: str, project: str, parent: str, kind: str, name: str) -> str:
    """The URN of a resource of type `kind` under `parent`; the root stack adds no type to its children's names."""
    chain = Urn.parse(parent).qualified_type if parent else ""
    qualified = kind if chain in {"", STACK_TYPE} else f"{chain}${kind}"
    return str(Urn(stack, project, qualified, name))


@dataclass(frozen=True)
class Alias:
    """A former name of a resource: a whole URN, or the parts of it that changed."""

    urn: str = ""
    name: str = ""
    type: str = ""
    stack: str = ""
    project: str = ""
    parent: str = ""
    parentless: bool = False

    def resolve(self, stack: str, project: str, parent: str, kind: str, name: str, renamed: Mapping[str, str]) -> str:
        """The URN meant for what is now `kind` `name` under `parent`; `renamed` maps new URNs to old ones."""
        if self.urn:
            return self.urn
        former = renamed.get(self.parent, self.parent) if self.parent else parent
        return child_urn(
            self.stack or stack,
            self.project or project,
            "" if self.parentless else former,
            self.type or kind,
            self.name or name,
        )


def former_urns(
    urn: str, parent: str, aliases: Sequence[Alias], renamed: Mapping[str, str], *, kind: str, name: str
) -> list[str]:
    """Every URN the resource may have had: its own aliases, then those it inherits from a renamed parent."""
    here = Urn.parse(urn)
    own = [alias.resolve(here.stack, here.project, parent, kind, name, renamed) for alias in aliases]
    inherited = []
    if parent in renamed:
        former = Urn.parse(renamed[parent])
        now = Urn.parse(parent).name
        for each in [Urn.parse(urn), *(Urn.parse(alias) for alias in own)]:
            moved = former.name + each.name[len(now) :] if each.name.startswith(now) else each.name
            inherited.append(child_urn(here.stack, here.project, str(former), each.type, moved))
    return [each for each in dict.fromkeys([*own, *inherited]) if each != urn]
