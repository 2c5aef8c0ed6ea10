"""A causal transformer over what a user chose, and its union with co-occurrence, as one servable graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from serving.baselines import CoOccurrence
from serving.data import ANSWER_LENGTH, HISTORY_LENGTH

_CLOSED = -1e9


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The size of a transformer."""

    width: int = 64
    heads: int = 2
    layers: int = 2
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.width % self.heads != 0:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}; change one of them")


class Block(nn.Module):
    """Attention, then a small network, each added to what came in (pre-norm).

    Written out, since the fast path of nn.TransformerEncoder does not export with a dynamic batch.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.attention_norm = nn.LayerNorm(shape.width)
        self.query_key_value = nn.Linear(shape.width, 3 * shape.width)
        self.attention_out = nn.Linear(shape.width, shape.width)
        self.feed_norm = nn.LayerNorm(shape.width)
        self.feed_in = nn.Linear(shape.width, 2 * shape.width)
        self.feed_out = nn.Linear(2 * shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """States [batch, length, width] and an additive mask [batch, 1, length, length] to new states."""
        length, width = x.shape[1], x.shape[2]
        depth = width // self.heads
        joined = self.query_key_value(self.attention_norm(x)).reshape(-1, length, 3, self.heads, depth)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        share = (query @ key.transpose(-1, -2) / math.sqrt(depth) + mask).softmax(-1)
        seen = (share @ value).transpose(1, 2).reshape(-1, length, width)
        x = x + self.dropout(self.attention_out(seen))
        fed = self.feed_out(self.dropout(functional.gelu(self.feed_in(self.feed_norm(x)))))
        result: Tensor = x + self.dropout(fed)
        return result


class Transformer(nn.Module):
    """Self-attentive sequential recommendation (Kang and McAuley 2018) with tied item and genre embeddings."""

    causal: Tensor
    genres: Tensor

    def __init__(self, genres: Tensor, popularity: Tensor, shape: Shape) -> None:
        """Genres [N + 1, G] (0 or 1) and counts [N + 1], the first start for the bias of each item."""
        super().__init__()
        self.item = nn.Parameter(torch.randn(len(genres), shape.width) * 0.1)
        self.genre = nn.Parameter(torch.zeros(genres.shape[1], shape.width))
        self.bias = nn.Parameter(torch.log(popularity.float() + 0.5))
        self.position = nn.Parameter(torch.randn(HISTORY_LENGTH, shape.width) * 0.02)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.register_buffer("causal", torch.ones(HISTORY_LENGTH, HISTORY_LENGTH, dtype=torch.bool).tril())
        self.register_buffer("genres", genres)

    def table(self) -> Tensor:
        """One vector per item, [N + 1, width]: used to read a history and to score what may come next."""
        return self.item + self.genres @ self.genre

    def encode(self, history: Tensor, table: Tensor) -> Tensor:
        """Histories [batch, 50], left-padded with 0, to states [batch, 50, width]."""
        x = self.dropout(table[history] * (math.sqrt(table.shape[1]) / 2) + self.position)
        # Each place sees itself, so that a padded one has something to look at and never looks ahead.
        own = torch.eye(HISTORY_LENGTH, dtype=torch.bool, device=history.device)
        seen = (self.causal & (history != 0)[:, None, :]) | own
        mask = torch.where(seen, 0.0, _CLOSED)[:, None]
        for block in self.blocks:
            x = block(x, mask)
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, history: Tensor) -> Tensor:
        """Histories [batch, 50] to a score for every position, [batch, N + 1]."""
        table = self.table()
        return self.encode(history, table)[:, -1] @ table.T + self.bias


class Prior(nn.Module):
    """Co-occurrence as a layer: how much more than average an item follows the recent ones, logarithmic."""

    neighbour: Tensor
    weight: Tensor
    fade: Tensor

    def __init__(self, counted: CoOccurrence) -> None:
        super().__init__()
        recent = counted.window.recent
        self.register_buffer("neighbour", torch.from_numpy(counted.neighbour))
        self.register_buffer("weight", torch.from_numpy(counted.weight))
        self.register_buffer("fade", counted.window.decay ** torch.arange(recent - 1, -1, -1.0))

    def forward(self, history: Tensor) -> Tensor:
        """Histories [batch, 50] to [batch, N + 1]; all 0 for an empty history."""
        recent = history[:, -len(self.fade) :]
        flat = len(self.fade) * self.weight.shape[1]
        neighbour = self.neighbour[recent].reshape(-1, flat).long()
        weight = (self.weight[recent] * self.fade[None, :, None]).reshape(-1, flat)
        empty = torch.zeros_like(history[:, :1], dtype=weight.dtype).expand(-1, len(self.weight))
        total = torch.scatter_add(empty, 1, neighbour, weight)
        # A floor, not a small number added: the ONNX optimiser drops the addition of what it takes for 0.
        return torch.log1p(total / total.mean(1, keepdim=True).clamp(min=1e-6))


class Recommender(nn.Module):
    """What is served: the 50 best items outside the history, by transformer plus weighted co-occurrence."""

    def __init__(self, transformer: Transformer, prior: Prior, prior_weight: float) -> None:
        super().__init__()
        self.transformer = transformer
        self.prior = prior
        self.prior_weight = prior_weight

    def scores(self, history: Tensor) -> Tensor:
        """Histories [batch, 50] to a score for every position, [batch, N + 1]."""
        scores: Tensor = self.transformer(history) + self.prior_weight * self.prior(history)
        return scores

    def forward(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """Histories [batch, 50] to items INT64 [batch, 50] and scores [batch, 50], best first."""
        scores = self.scores(history)
        # A padded history names position 0, so padding is closed with the rest; an unpadded one needs the extra column.
        closed = torch.cat([history, torch.zeros_like(history[:, :1])], 1)
        open_scores = torch.scatter(scores, 1, closed, _CLOSED)
        best = torch.topk(open_scores, ANSWER_LENGTH, dim=1)
        return best.indices, best.values
