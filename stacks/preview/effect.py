"""What a change of one property does to its resource, and the rule by which that is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Effect(StrEnum):
    """What a change of one property does to its resource; the worst comes last."""

    UPDATE = "update"
    MAY_REPLACE = "may-replace"
    REPLACE = "replace"


ORDER: Final = (Effect.UPDATE, Effect.MAY_REPLACE, Effect.REPLACE)


@dataclass(frozen=True)
class Verdict:
    """An effect and the rule it rests on."""

    effect: Effect
    rule: str
