"""The shapes of a request as far as a resource fills them, and what a shape asks of a value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

SHOWN: Final = 60
"""Letters of a value that a message quotes: a longer one is not told at all, for a part of a secret is one too."""
LISTED: Final = 12
"""A longer enumeration is not told in full."""
_CLASSES: Final = {r"\p{L}": r"\w", r"\p{N}": r"\d", r"\p{Z}": r"\s"}
"""Unicode categories as the models write them -> the nearest Python knows."""


class Node:
    """One shape at its place in a request, with those within it that something was given for."""

    def __init__(self, shape: Any, text: str) -> None:
        self.shape: Any = shape
        self.text = text
        """Its place for a reader, like `CreateVpc.CidrBlock`."""
        self.unknown = False
        """Whether a preview cannot know all of it."""
        self._within: dict[str, Node] = {}

    def member(self, name: str) -> Node:
        """The member of that very name; KeyError where there is none."""
        if name not in self._within:
            self._within[name] = Node(self.shape.members[name], f"{self.text}.{name}")
        return self._within[name]

    def item(self, index: int) -> Node:
        """One entry of a list."""
        if str(index) not in self._within:
            self._within[str(index)] = Node(self.shape.member, f"{self.text}[]")
        return self._within[str(index)]

    def like(self, name: str) -> Node | None:
        """The member a property means by its name, whatever the case, singular or plural."""
        if self.shape.type_name != "structure":
            return None
        known = {each.lower(): each for each in self.shape.members}
        plain = name.lower()
        meant = next((known[each] for each in (plain, f"{plain}s", plain.removesuffix("s")) if each in known), None)
        return None if meant is None else self.member(meant)

    def below(self, place: str, index: int = 0) -> Node | None:
        """The node at a place like `Rules[].Status`, `index` being the entry of every list on the way."""
        node = self
        for part in filter(None, place.replace("[]", ".[]").split(".")):
            if part == "[]":
                node = node.item(index)
            elif part in getattr(node.shape, "members", {}):
                node = node.member(part)
            else:
                return None
        return node

    def every(self) -> Iterator[Node]:
        """It, and all nodes within it."""
        yield self
        yield from self.inner()

    def inner(self) -> Iterator[Node]:
        """All nodes within it."""
        for each in self._within.values():
            yield from each.every()

    def missing(self, supplied: tuple[str, ...]) -> list[str]:
        """Required members that nothing was given for."""
        if self.unknown or self.shape is None or self.shape.type_name != "structure":
            return []
        required = self.shape.required_members
        return [name for name in required if name not in self._within and name not in supplied]


def broken(value: Any, node: Node) -> Iterator[str]:
    """The rules of its shape a value breaks: each with the value, the rule and a remedy."""
    shape, said = node.shape, _quoted(value)
    kind, number = shape.type_name, _number(value)
    if kind == "boolean":
        if not isinstance(value, bool) and value not in ("true", "false"):
            yield f"is {said}; {node.text} is true or false: choose one of them"
    elif kind in ("integer", "long"):
        if number is None or number != int(number):
            yield f"is {said}; {node.text} is a whole number: give one"
        else:
            yield from _within(shape, number, f"is {said}; {node.text} lies", "choose a value in between")
    elif kind in ("float", "double"):
        if number is None:
            yield f"is {said}; {node.text} is a number: give one"
        else:
            yield from _within(shape, number, f"is {said}; {node.text} lies", "choose a value in between")
    elif kind == "string":
        if isinstance(value, dict | list | bool):
            yield f"is {said}; {node.text} is text: give text"
        else:
            yield from _text(shape, str(value), said, node.text)
    elif kind in ("list", "map", "structure"):
        yield f"is {said}; {node.text} is {'a list' if kind == 'list' else 'an object'}: give one"


def too_many(entries: list[Any], node: Node) -> Iterator[str]:
    """The bound a list breaks by its length."""
    said = f"has {len(entries)} entries; {node.text} has"
    yield from _within(node.shape, len(entries), said, "change their number", " entries")


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"a {type(value).__name__} of {len(value)}"


def _text(shape: Any, value: str, said: str, place: str) -> Iterator[str]:
    if shape.enum:
        if value not in shape.enum:
            yield f"is {said}; {place} takes {_choice(value, shape.enum)}"
        return
    yield from _within(
        shape, len(value), f"has {len(value)} characters; {place} has", "change its length", " characters"
    )
    form = pattern(shape.metadata.get("pattern", ""))
    if form and not form.fullmatch(value):
        yield f"is {said}; {place} has the form {shape.metadata['pattern']}: write it so"


def _choice(value: str, allowed: list[str]) -> str:
    if len(allowed) <= LISTED:
        return f"{', '.join(allowed)}: choose one of them"
    close = difflib.get_close_matches(value, allowed, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "look it up in the service's API reference"
    return f"one of {len(allowed)} values, and this is none of them: {hint}"


def _within(shape: Any, number: float, said: str, remedy: str, unit: str = "") -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and number < low) or (high is not None and number > high):
        yield f"{said} {_bounds(low, high)}{unit}: {remedy}"


def _bounds(low: float | None, high: float | None) -> str:
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"within {low} and {high}"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


@cache
def pattern(text: str) -> re.Pattern[str] | None:
    """A model's pattern; None for none. The models are written for Java, which names categories of letters."""
    for category, class_ in _CLASSES.items():
        text = text.replace(category, class_)
    return re.compile(text) if text else None


def strength(shape: Any) -> str:
    """What a shape asks of a value, in a few words."""
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    rules = [f"one of {len(shape.enum)}"] if getattr(shape, "enum", None) else []
    if not rules and "pattern" in shape.metadata:
        rules.append("a form")
    if not rules and (low is not None or high is not None):
        rules.append("a length" if shape.type_name in ("string", "list") else "a range")
    return " and ".join(rules) or shape.type_name
