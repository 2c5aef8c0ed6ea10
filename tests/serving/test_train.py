from __future__ import annotations

import dataclasses

import pytest
import torch
from model_stage import QUICK, behaviour, split, trained

from serving import baselines, train
from serving.evaluate import evaluate


def test_the_model_beats_popularity_on_users_with_tastes() -> None:
    popularity = baselines.Popularity(count=baselines.counts(split().train, len(behaviour().items)))
    learned = evaluate(train.TorchScorer(trained().model.scores), split().test)
    assert learned.ndcg > 1.2 * evaluate(popularity, split().test).ndcg


def test_what_is_kept_is_the_best_on_validation() -> None:
    seen: list[train.Progress] = []
    result = train.fit(split(), behaviour().items, QUICK, seen.append)
    assert result.best.validation.ndcg == max(progress.validation.ndcg for progress in seen)
    again = evaluate(train.TorchScorer(result.model.scores), split().validation)
    assert again.ndcg == pytest.approx(result.best.validation.ndcg, abs=1e-6)
    assert [progress.epoch for progress in seen] == [0, 2, 4]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    plan = dataclasses.replace(QUICK, epochs=2)
    first, second = (train.fit(split(), behaviour().items, plan).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = train.fit(split(), behaviour().items, dataclasses.replace(plan, seed=2)).model.state_dict()
    assert not torch.equal(first["transformer.item"], other["transformer.item"])


def test_training_stops_when_its_seconds_are_spent() -> None:
    result = train.fit(split(), behaviour().items, dataclasses.replace(QUICK, seconds=0.05, epochs=10_000))
    assert result.stopped == "seconds"
    assert result.seconds < 10


def test_training_stops_when_validation_no_longer_improves() -> None:
    still = dataclasses.replace(QUICK, learning_rate=0.0, epochs=100, patience=2)
    result = train.fit(split(), behaviour().items, still)
    assert (result.stopped, result.epochs) == ("validation", 4)


def test_a_large_catalogue_is_told_apart_by_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_FULL_SOFTMAX_UP_TO", 10)
    seen: list[train.Progress] = []
    train.fit(split(), behaviour().items, dataclasses.replace(QUICK, negatives=40), seen.append)
    assert seen[-1].loss < seen[1].loss


def test_every_event_is_a_target_once_each_epoch() -> None:
    import numpy as np

    sequences = (np.arange(1, 121), np.arange(1, 4), np.zeros(0, np.int64))
    targets = torch.cat([target[target > 0] for _, target in train._batches(sequences, 4, np.random.default_rng(0))])
    counts = torch.bincount(targets)
    assert counts[1:4].tolist() == [2, 2, 2]
    assert counts[4:].max() == 1
    assert counts[4:].sum() >= 120 - 3 - 50


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        train.Plan(seconds=seconds)
