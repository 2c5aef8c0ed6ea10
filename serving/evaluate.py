"""How well a ranking finds what users really chose next: HR@10 and NDCG@10 over the whole catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from serving.baselines import Scorer, Scores
from serving.data import Case, pad

K: Final = 10
_BATCH: Final = 128


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Means over users: was the target among the first 10, and how high (binary relevance, one target)."""

    hr: float
    ndcg: float

    @classmethod
    def of(cls, ranks: NDArray[np.float64]) -> Quality:
        """The quality of some ranks; 0 is the first place."""
        hit = ranks < K
        gain = np.where(hit, 1.0 / np.log2(np.maximum(ranks, 0.0) + 2.0), 0.0)
        return cls(hr=float(hit.mean()), ndcg=float(gain.mean()))

    def to_json(self) -> dict[str, float]:
        """Four digits are more than a few hundred users support."""
        return {"hr@10": round(self.hr, 4), "ndcg@10": round(self.ndcg, 4)}


def padded(cases: Sequence[Case]) -> NDArray[np.int64]:
    """The histories of some cases as a model takes them: [cases, 50]."""
    return np.stack([pad(case.history) for case in cases])


def ranks(scores: Scores, cases: Sequence[Case]) -> NDArray[np.float64]:
    """The place of each target among all items outside that user's whole history; ties share the middle place."""
    places = np.zeros(len(cases))
    for row, case in enumerate(cases):
        rated = scores[row].copy()
        rated[case.history] = -np.inf
        rated[0] = -np.inf
        target = scores[row, case.target]
        places[row] = (rated > target).sum() + ((rated == target).sum() - 1) / 2
    return places


def evaluate(scorer: Scorer, cases: Sequence[Case]) -> Quality:
    """The quality of a scorer on some cases."""
    parts = [cases[start : start + _BATCH] for start in range(0, len(cases), _BATCH)]
    return Quality.of(np.concatenate([ranks(scorer.scores(padded(part)), part) for part in parts]))


def evaluate_answers(items: NDArray[np.int64], cases: Sequence[Case]) -> Quality:
    """The quality of served answers [cases, 50], once items of the user's whole history are taken out.

    A model sees 50 choices and leaves only those out. For a user with more, some places of the answer go to older
    choices, so this can lie a little below `evaluate`.
    """
    places = np.full(len(cases), np.inf)
    for row, case in enumerate(cases):
        kept = items[row][~np.isin(items[row], case.history)]
        found = np.flatnonzero(kept == case.target)
        if len(found) > 0:
            places[row] = found[0]
    return Quality.of(places)


def table(title: str, rows: dict[str, Quality], *, beside: str) -> Table:
    """The qualities under each other, each with its ratio to the row named `beside`."""
    drawn = Table(title=title)
    drawn.add_column("ranking")
    for heading in ("HR@10", "NDCG@10", f"NDCG / {beside}"):
        drawn.add_column(heading, justify="right")
    base = rows[beside].ndcg
    for name, quality in rows.items():
        ratio = f"{quality.ndcg / base:.2f}x" if base > 0 else "-"
        drawn.add_row(name, f"{quality.hr:.4f}", f"{quality.ndcg:.4f}", ratio)
    return drawn
