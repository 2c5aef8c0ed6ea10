from __future__ import annotations

import numpy as np
import pytest

from serving.data import Case
from serving.evaluate import Quality, evaluate, evaluate_answers, ranks, table

CASES = (Case(history=np.array([1, 2]), target=3), Case(history=np.array([1]), target=20))


class Fixed:
    """Scores that fall with the position; item 1 is best."""

    def scores(self, histories: np.ndarray) -> np.ndarray:
        return np.repeat(-np.arange(31, dtype=np.float32)[None], len(histories), axis=0)


def test_the_history_and_the_padding_take_no_place() -> None:
    assert ranks(Fixed().scores(np.zeros((2, 50))), CASES).tolist() == [0, 18]


def test_ties_share_the_middle_place() -> None:
    assert ranks(np.zeros((1, 31), np.float32), CASES[:1]).tolist() == [(28 - 1) / 2]


def test_quality_counts_the_first_ten_and_how_high() -> None:
    quality = Quality.of(np.array([0.0, 1.0, 9.0, 10.0]))
    assert quality.hr == 0.75
    assert quality.ndcg == pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 4)
    assert evaluate(Fixed(), CASES) == Quality(hr=0.5, ndcg=0.5)


def test_served_answers_are_judged_without_the_items_of_the_whole_history() -> None:
    items = np.array([[2, 1, 5, 3, 9], [4, 5, 6, 7, 8]])
    assert evaluate_answers(items, CASES) == Quality.of(np.array([1.0, np.inf]))


def test_the_table_gives_each_row_its_ratio_to_popularity() -> None:
    drawn = table(
        "t", {"popularity": Quality(hr=0.1, ndcg=0.02), "model": Quality(hr=0.3, ndcg=0.08)}, beside="popularity"
    )
    assert list(drawn.columns[3].cells) == ["1.00x", "4.00x"]
