"""What one AWS type becomes when it is made: which requests, and where in them each property goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

DELETION: Final = "decides what the provider does at deletion and is sent to nobody"
ATTRIBUTE: Final = "one of the attributes, keys and values in free text that the model does not list"
CALL: Final = "decides which operation is called; the request itself has no member for it"
"""Why a property has no place."""


@dataclass(frozen=True, kw_only=True)
class Counterpart:
    """What the real provider sends to make one type."""

    service: str
    """botocore's name of it."""
    requests: tuple[str, ...]
    """Structures properties are looked for in, in this order: `CreateVpc`, or `CreateHealthCheck:HealthCheckConfig`.
    The first belongs to the operation that makes the resource."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Property (dots, [] for entries of a list) -> place, where the name does not say it."""
    supplied: tuple[str, ...] = ()
    """Required members that the provider supplies where the program says nothing: made-up names, references."""
    beyond: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Property -> values the provider takes beyond the model's and sends to nobody."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Property -> why no member of a request is its counterpart."""
