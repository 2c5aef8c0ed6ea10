from __future__ import annotations

import numpy as np
import pytest
import torch
from model_stage import behaviour, split, trained

from serving.baselines import CoOccurrence
from serving.data import pad
from serving.model import Prior, Shape


def history(*items: int) -> torch.Tensor:
    return torch.from_numpy(pad(np.array(items, np.int64)))[None]


def test_the_model_never_looks_ahead() -> None:
    transformer = trained().model.transformer
    with torch.inference_mode():
        table = transformer.table()
        one = transformer.encode(history(3, 7, 9), table)
        other = transformer.encode(history(3, 7, 120), table)
    assert torch.allclose(one[:, :-1], other[:, :-1], atol=1e-6)
    assert not torch.allclose(one[:, -1], other[:, -1], atol=1e-3)


def test_padding_changes_nothing_and_sees_nothing() -> None:
    transformer = trained().model.transformer
    with torch.inference_mode():
        table = transformer.table()
        one = transformer.encode(history(3, 7), table)[:, :48]
        other = transformer.encode(history(9, 11), table)[:, :48]
    assert torch.equal(one, other)


def test_an_answer_holds_50_known_items_outside_the_history_best_first() -> None:
    asked = torch.cat([history(), history(5), history(*range(1, 51)), history(*range(60, 75))])
    with torch.inference_mode():
        items, scores = trained().model(asked)
    assert (items.shape, scores.shape) == ((4, 50), (4, 50))
    assert torch.isfinite(scores).all()
    assert scores.min() > -1e6
    assert (scores.diff(dim=1) <= 0).all()
    for row in range(4):
        answered = set(items[row].tolist())
        assert len(answered) == 50
        assert answered <= set(range(1, len(behaviour().items) + 1))
        assert not answered & set(asked[row].tolist())


def test_the_prior_ranks_as_the_co_occurrence_baseline() -> None:
    counted = CoOccurrence.of(split().train, len(behaviour().items))
    asked = np.stack([pad(case.history) for case in split().test[:20]])
    with torch.inference_mode():
        prior = Prior(counted)(torch.from_numpy(asked)).numpy()
    plain = counted.scores(asked)
    assert np.allclose(prior, np.log1p(plain / plain.mean(1, keepdims=True)), atol=1e-4)


def test_an_empty_history_has_a_prior_of_zero() -> None:
    with torch.inference_mode():
        assert not trained().model.prior(history()).any()


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="width 10 must be a multiple of heads 3"):
        Shape(width=10, heads=3)
