"""Physical names for resources that are given none: `<logical name>-<random hex>`, stable for one random seed."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The property that holds a type's physical name, and how one is made up."""

    property: str = "name"
    longest: int
    prefix: str = ""
    lowercase: bool = False
    instead: tuple[str, ...] = ()
    """Properties that take the place of a name, such as namePrefix."""


def random_hex(length: int, seed: bytes) -> str:
    """The first `length` hex digits that belong to a seed; without a seed, random ones."""
    return hashlib.sha256(seed).hexdigest()[:length] if seed else secrets.token_hex(length)[:length]


def make_name(naming: Naming, name: str, seed: bytes, *, digits: int = 7) -> str:
    """A physical name; ValueError when it would be longer than the cloud allows."""
    made = f"{naming.prefix}{name}-{random_hex(digits, seed)}"
    if len(made) > naming.longest:
        raise ValueError(
            f"the name made up for {name!r} has {len(made)} characters; at most {naming.longest} are allowed:"
            f" give {naming.property} or a shorter resource name"
        )
    return made.lower() if naming.lowercase else made
