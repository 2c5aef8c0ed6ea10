"""Training within a budget of seconds: sampled cross-entropy over all positions, stopped on validation NDCG@10."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from serving.baselines import CoOccurrence, Scores, counts
from serving.catalogue import Item
from serving.data import HISTORY_LENGTH, Case, Split
from serving.evaluate import Quality, padded, ranks
from serving.model import Prior, Recommender, Shape, Transformer

# The weight of co-occurrence beside the transformer is chosen among these on the validation cases.
PRIOR_WEIGHTS: Final = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
_FULL_SOFTMAX_UP_TO: Final = 4096


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to train. The defaults were chosen on MovieLens validation cases on two cores."""

    seconds: float = 60.0
    seed: int = 0
    shape: Shape = field(default_factory=Shape)
    epochs: int = 60
    patience: int = 5
    epochs_between_checks: int = 2
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    negatives: int = 512
    averaging: float = 0.99
    # Two threads that wait for each other on cores shared with anything else were measured 20 times slower than one.
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds {self.seconds} must be above 0; give the time that training may take")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where training stands after a check on the validation cases."""

    epoch: int
    seconds: float
    loss: float
    transformer: Quality
    validation: Quality
    prior_weight: float


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The best model that the budget allowed, and how it came about."""

    model: Recommender
    counted: CoOccurrence
    best: Progress
    epochs: int
    seconds: float
    stopped: str


class TorchScorer:
    """A torch module that rates every position, as a Scorer."""

    def __init__(self, module: Callable[[Tensor], Tensor]) -> None:
        self.module = module

    def scores(self, histories: NDArray[np.int64]) -> Scores:
        """Histories [batch, 50] to scores [batch, N + 1]."""
        with torch.inference_mode():
            result: Scores = self.module(torch.from_numpy(histories)).numpy()
        return result


def fit(
    split: Split, items: Sequence[Item], plan: Plan, report: Callable[[Progress], None] = lambda _: None
) -> Trained:
    """Train until the seconds are spent, the epochs are done or validation stops improving.

    The same seed, data and number of epochs give the same weights on one machine. Whole epochs only are cut by time,
    so the seconds can be exceeded by a validation check; counting co-occurrence comes before and is not in them.
    """
    with threads(plan.threads):
        return _fit(split, items, plan, report)


def _fit(split: Split, items: Sequence[Item], plan: Plan, report: Callable[[Progress], None]) -> Trained:
    torch.manual_seed(plan.seed)
    random = np.random.default_rng(plan.seed)
    counted = CoOccurrence.of(split.train, len(items))
    popularity = torch.from_numpy(counts(split.train, len(items)))
    network = Transformer(genre_table(items), popularity, plan.shape)
    with torch.no_grad():
        network.item.copy_(_spectral_start(counted, plan.shape.width))
    averaged = copy.deepcopy(network).eval()
    prior = Prior(counted)
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for n, p in network.named_parameters() if n != "bias"], "weight_decay": plan.weight_decay},
            {"params": [network.bias], "weight_decay": 0.0, "lr": plan.learning_rate / 2},
        ],
        lr=plan.learning_rate,
    )
    draw = _Negatives(popularity, plan.negatives)
    check = _Check(averaged, prior, split.validation)
    started = time.monotonic()
    steps, stale, epoch, stopped = 0, 0, 0, "epochs"
    best = check(0, 0.0, float("nan"))
    kept = copy.deepcopy(averaged.state_dict())
    report(best)
    while epoch < plan.epochs and stopped == "epochs":
        epoch += 1
        network.train()
        losses: list[float] = []
        for history, target in _batches(split.train, plan.batch, random):
            optimiser.zero_grad()
            loss = _loss(network, history, target, draw)
            loss.backward()  # type: ignore[no-untyped-call]  # torch gives this method no annotations
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            losses.append(loss.item())
            steps += 1
            _average(averaged, network, min(plan.averaging, (1 + steps) / (10 + steps)))
            if time.monotonic() - started > plan.seconds:
                stopped = "seconds"
                break
        if epoch % plan.epochs_between_checks == 0 or stopped == "seconds":
            progress = check(epoch, time.monotonic() - started, float(np.mean(losses)))
            report(progress)
            stale += 1
            if progress.validation.ndcg > best.validation.ndcg:
                best, kept, stale = progress, copy.deepcopy(averaged.state_dict()), 0
            elif stale >= plan.patience:
                stopped = "validation"
    averaged.load_state_dict(kept)
    return Trained(
        model=Recommender(averaged, prior, best.prior_weight).eval(),
        counted=counted,
        best=best,
        epochs=epoch,
        seconds=time.monotonic() - started,
        stopped=stopped,
    )


def genre_table(items: Sequence[Item]) -> Tensor:
    """Which item has which genre: [N + 1, G], 0 or 1, genres in alphabetical order, row 0 empty."""
    column = {genre: index for index, genre in enumerate(sorted({genre for item in items for genre in item.genres}))}
    table = torch.zeros(len(items) + 1, len(column))
    for row, item in enumerate(items, start=1):
        for genre in item.genres:
            table[row, column[genre]] = 1.0
    return table


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch compute on this many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Negatives:
    """Items to tell the chosen one from: all of a small catalogue, else a draw by the square root of popularity."""

    def __init__(self, popularity: Tensor, number: int) -> None:
        share = (popularity[1:].double() + 1.0).sqrt()
        self.share = share / share.sum()
        self.number = number
        self.everything = len(popularity) - 1 <= _FULL_SOFTMAX_UP_TO

    def __call__(self) -> tuple[Tensor, Tensor]:
        """Positions [n], and for each the logarithm of how often it is expected among them."""
        if self.everything:
            return torch.arange(1, len(self.share) + 1), torch.zeros(len(self.share))
        drawn = torch.multinomial(self.share, self.number, replacement=True)
        return drawn + 1, torch.log(self.share[drawn] * self.number).float()


def _loss(network: Transformer, history: Tensor, target: Tensor, draw: _Negatives) -> Tensor:
    """Cross-entropy of every known target against the negatives, corrected for how they were drawn."""
    table = network.table()
    known = target > 0
    state, chosen = network.encode(history, table)[known], target[known]
    negative, expected = draw()
    positive = (state * table[chosen]).sum(-1, keepdim=True) + network.bias[chosen, None]
    others = state @ table[negative].T + (network.bias[negative] - expected)
    others = others.masked_fill(negative[None] == chosen[:, None], float("-inf"))
    return functional.cross_entropy(torch.cat([positive, others], 1), torch.zeros_like(chosen))


def _batches(
    train: Sequence[NDArray[np.int64]], size: int, random: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Histories and, place by place, what came next: [batch, 50] each, every event once, windows at a random phase.

    The first event of a user is asked of an empty history, so that the model has an answer for newcomers.
    """
    rows: list[NDArray[np.int64]] = []
    for sequence in train:
        if len(sequence) == 0:
            continue
        events = np.concatenate([np.zeros(1, np.int64), sequence])
        end = len(events)
        if end > HISTORY_LENGTH + 1:
            end -= int(random.integers(HISTORY_LENGTH))
        while end > 1:
            row = np.zeros(HISTORY_LENGTH + 1, np.int64)
            window = events[max(0, end - HISTORY_LENGTH - 1) : end]
            row[-len(window) :] = window
            rows.append(row)
            end -= HISTORY_LENGTH
    order = random.permutation(len(rows))
    for start in range(0, len(rows), size):
        batch = torch.from_numpy(np.stack([rows[index] for index in order[start : start + size]]))
        yield batch[:, :-1], batch[:, 1:]


def _spectral_start(counted: CoOccurrence, width: int) -> Tensor:
    """Item vectors whose products are near the co-occurrence of the items: [N + 1, width], deviation about 0.1.

    A randomised eigendecomposition (Halko, Martinsson and Tropp 2011) of the symmetric, logarithmic table: it gives
    the transformer the first minute of its training.
    """
    size, width_kept = counted.weight.shape
    row = torch.arange(size).repeat_interleave(width_kept)
    column = torch.from_numpy(counted.neighbour).long().flatten()
    value = torch.log1p(torch.from_numpy(counted.weight)).flatten() / 2
    matrix = torch.sparse_coo_tensor(
        torch.stack([torch.cat([row, column]), torch.cat([column, row])]),
        torch.cat([value, value]),
        (size, size),
        check_invariants=False,
    ).coalesce()
    basis = torch.linalg.qr(torch.sparse.mm(matrix, torch.randn(size, min(size, width + 16)))).Q
    for _ in range(2):
        basis = torch.linalg.qr(torch.sparse.mm(matrix, basis)).Q
    strength, turn = torch.linalg.eigh(basis.T @ torch.sparse.mm(matrix, basis))
    vectors = (basis @ turn) * strength.clamp(min=0.0).sqrt()
    start = torch.zeros(size, width)
    leading = vectors.flip(1)[:, :width]
    start[:, : leading.shape[1]] = leading
    deviation = float(start[1:].std())
    return start * (0.1 / deviation if deviation > 0 else 1.0) + torch.randn(size, width) * 0.01


def _average(averaged: Transformer, network: Transformer, keep: float) -> None:
    """Move the averaged weights a little towards the trained ones; the average ranks better than any one step."""
    with torch.no_grad():
        for mean, current in zip(averaged.parameters(), network.parameters(), strict=True):
            mean.lerp_(current, 1.0 - keep)


class _Check:
    """Validation NDCG of the averaged transformer with each weight of the prior, and the best of these."""

    def __init__(self, transformer: Transformer, prior: Prior, cases: Sequence[Case]) -> None:
        self.transformer = TorchScorer(transformer)
        self.cases = cases
        self.histories = padded(cases)
        self.prior = TorchScorer(prior).scores(self.histories)

    def __call__(self, epoch: int, seconds: float, loss: float) -> Progress:
        learned = self.transformer.scores(self.histories)
        qualities = {
            weight: Quality.of(ranks(learned + np.float32(weight) * self.prior, self.cases)) for weight in PRIOR_WEIGHTS
        }
        weight = max(qualities, key=lambda candidate: qualities[candidate].ndcg)
        return Progress(
            epoch=epoch,
            seconds=seconds,
            loss=loss,
            transformer=qualities[0.0],
            validation=qualities[weight],
            prior_weight=weight,
        )
