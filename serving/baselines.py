"""What a learned model has to beat: popularity, and what was chosen around the same items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.data import Sequence

Scores = NDArray[np.float32]


class Scorer(Protocol):
    """Anything that rates every item for a padded history."""

    def scores(self, histories: NDArray[np.int64]) -> Scores:
        """Histories [batch, 50], left-padded with 0, to scores [batch, N + 1], higher is better."""


def counts(train: Iterable[Sequence], items: int) -> NDArray[np.int64]:
    """How often each position 0..N was chosen: [N + 1]."""
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *train]), minlength=items + 1)


@dataclass(frozen=True, kw_only=True)
class Popularity:
    """Everybody gets what most people chose."""

    count: NDArray[np.int64]

    def scores(self, histories: NDArray[np.int64]) -> Scores:
        """The same scores for every history."""
        return np.repeat(self.count[None].astype(np.float32), len(histories), axis=0)


@dataclass(frozen=True, kw_only=True)
class Window:
    """How far apart two choices still count as together, and how much. Chosen on MovieLens validation cases."""

    span: int = 50
    fading: float = 20.0
    backwards: float = 0.5
    target_damping: float = 0.4
    source_damping: float = 0.5
    neighbours: int = 200
    recent: int = 10
    decay: float = 0.8


WINDOW: Final = Window()


@dataclass(frozen=True, kw_only=True)
class CoOccurrence:
    """Items that were chosen soon after (and, at half weight, before) the recent ones: sequential item-kNN.

    `neighbour` and `weight` are [N + 1, K]: the K strongest neighbours of each item; row 0 is empty.
    """

    neighbour: NDArray[np.int32]
    weight: Scores
    window: Window = field(default=WINDOW)

    @classmethod
    def of(cls, train: tuple[Sequence, ...], items: int, window: Window = WINDOW) -> CoOccurrence:
        """Count pairs within the window, damped by how common both items are. Linear in events times span."""
        sources, targets, values = [], [], []
        for sequence in train:
            for gap in range(1, min(window.span, len(sequence) - 1) + 1):
                value = np.full(len(sequence) - gap, np.exp(-(gap - 1) / window.fading), np.float32)
                sources += [sequence[:-gap], sequence[gap:]]
                targets += [sequence[gap:], sequence[:-gap]]
                values += [value, value * np.float32(window.backwards)]
        width = min(window.neighbours, items)
        neighbour = np.zeros((items + 1, width), np.int32)
        weight = np.zeros((items + 1, width), np.float32)
        if not sources:
            return cls(neighbour=neighbour, weight=weight, window=window)
        codes, index = np.unique(
            np.concatenate(sources) * (items + 1) + np.concatenate(targets),
            return_inverse=True,
        )
        total = np.bincount(index, weights=np.concatenate(values))
        source, target = codes // (items + 1), codes % (items + 1)
        common = np.maximum(counts(train, items), 1).astype(np.float64)
        share = total / (common[target] ** window.target_damping * common[source] ** window.source_damping)
        # Strongest first within a source; equal weights by position, so that every machine keeps the same neighbours.
        order = np.lexsort((target, -share, source))
        source, target, share = source[order], target[order], share[order]
        place = np.arange(len(source)) - np.searchsorted(source, source)
        kept = place < width
        neighbour[source[kept], place[kept]] = target[kept]
        weight[source[kept], place[kept]] = share[kept]
        return cls(neighbour=neighbour, weight=weight, window=window)

    def scores(self, histories: NDArray[np.int64]) -> Scores:
        """The sum of the recent items' neighbours, fading with age."""
        recent = histories[:, -self.window.recent :]
        fade = np.float32(self.window.decay) ** np.arange(recent.shape[1])[::-1].astype(np.float32)
        result = np.zeros((len(histories), len(self.neighbour)), np.float32)
        rows = np.arange(len(histories))[:, None, None]
        np.add.at(result, (rows, self.neighbour[recent]), self.weight[recent] * fade[None, :, None])
        result[:, 0] = 0.0
        return result
