from __future__ import annotations

import json
from functools import cache

import numpy as np
import onnx
import pytest
from model_stage import behaviour, split, trained

from serving import ParityError, evaluate, export, train
from serving.model import Recommender


@cache
def exported() -> bytes:
    return export.to_onnx(trained().model)


def test_the_file_has_the_promised_signature_with_a_free_batch() -> None:
    graph = onnx.load_from_string(exported()).graph
    shapes = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "history": ("INT64", ["batch", 50]),
        "items": ("INT64", ["batch", 50]),
        "scores": ("FLOAT", ["batch", 50]),
    }


def test_the_file_tells_nothing_of_the_machine_and_is_the_same_each_time() -> None:
    assert export.to_onnx(trained().model) == exported()
    assert b"site-packages" not in exported()
    assert b".py" not in exported()


def test_the_file_ranks_as_the_trained_model_on_real_histories() -> None:
    model = export.OnnxModel(exported())
    parity = export.check_parity(trained().model, model, split().test)
    assert parity.cases == len(split().test) + 1
    assert parity.largest_difference < 1e-4
    served = evaluate.evaluate_answers(model.answers(evaluate.padded(split().test))[0], split().test)
    learned = evaluate.evaluate(train.TorchScorer(trained().model.scores), split().test)
    assert served.ndcg == pytest.approx(learned.ndcg, abs=0.02)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_any_batch_gives_finite_answers_even_for_an_empty_history(batch: int) -> None:
    items, scores = export.OnnxModel(exported()).answer(np.zeros((batch, 50), np.int64))
    assert np.isfinite(scores).all()
    assert items.min() >= 1
    assert items.max() <= len(behaviour().items)


def test_a_file_of_another_model_fails_the_parity_check() -> None:
    other = Recommender(trained().model.transformer, trained().model.prior, trained().model.prior_weight + 1.0)
    with pytest.raises(ParityError, match="scores differ by"):
        export.check_parity(other, export.OnnxModel(exported()), split().test)


def test_swapped_items_at_unequal_scores_fail_and_near_ties_do_not() -> None:
    scores = np.linspace(9, 4, 50, dtype=np.float32)[None]
    items = np.arange(1, 51)[None]
    swapped = items.copy()
    swapped[0, [2, 3]] = swapped[0, [3, 2]]
    with pytest.raises(ParityError, match="item 4 at place 3"):
        export._compare(swapped, scores, items, scores, "test")
    tied = scores.copy()
    tied[0, 3] = tied[0, 2]
    assert export._compare(swapped, tied, items, tied, "test") == 0


def test_scores_that_are_not_finite_fail() -> None:
    scores = np.full((1, 50), np.nan, np.float32)
    with pytest.raises(ParityError, match="not finite"):
        export._compare(np.ones((1, 50), np.int64), scores, np.ones((1, 50), np.int64), scores, "test")


def test_the_golden_request_asks_empty_short_and_full_histories_with_clear_answers() -> None:
    model = export.OnnxModel(exported())
    golden = json.loads(json.dumps(export.golden(model, split().test)))
    request = np.array(golden["request"]["history"])
    lengths = (request > 0).sum(1).tolist()
    assert lengths[:2] == [0, 1]
    assert 50 in lengths
    items, scores = model.answer(request)
    assert golden["answer"]["items"] == items.tolist()
    assert np.allclose(golden["answer"]["scores"], scores, atol=0)
    assert golden["tolerance"] == {"cpu": 1e-4, "gpu": 2e-2}
    assert (-np.diff(scores[1:, :11]) > 1e-4).all()


def test_single_answers_are_timed() -> None:
    taken = export.OnnxModel(exported()).milliseconds(evaluate.padded(split().test))
    assert 0 < taken["p50"] <= taken["p99"]
