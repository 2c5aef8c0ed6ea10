from __future__ import annotations

import numpy as np

from serving.baselines import CoOccurrence, Popularity, Window, counts
from serving.data import pad

TRAIN = (np.array([1, 2, 3]), np.array([1, 2, 4]), np.array([5, 2]))


def test_popularity_ranks_by_how_often_an_item_was_chosen() -> None:
    scores = Popularity(count=counts(TRAIN, 6)).scores(np.zeros((2, 50), np.int64))
    assert scores.shape == (2, 7)
    assert scores[0].tolist() == [0, 2, 3, 1, 1, 1, 0]


def test_co_occurrence_follows_what_came_next_and_half_of_what_came_before() -> None:
    window = Window(span=1, backwards=0.5, target_damping=0.0, source_damping=0.0, neighbours=6)
    scores = CoOccurrence.of(TRAIN, 6, window).scores(pad(np.array([2]))[None])[0]
    assert scores.tolist() == [0, 1.0, 0, 1.0, 1.0, 0.5, 0]


def test_older_choices_count_less() -> None:
    window = Window(span=1, backwards=0.0, target_damping=0.0, source_damping=0.0, neighbours=6, decay=0.5)
    scores = CoOccurrence.of(TRAIN, 6, window).scores(pad(np.array([1, 5]))[None])[0]
    assert scores[2] == 2 * 0.5 + 1


def test_only_the_strongest_neighbours_are_kept() -> None:
    window = Window(span=1, backwards=0.0, target_damping=0.0, source_damping=0.0, neighbours=1)
    counted = CoOccurrence.of((*TRAIN, np.array([2, 4])), 6, window)
    assert counted.neighbour[2].tolist() == [4]
    assert counted.weight[2].tolist() == [2.0]


def test_without_any_behaviour_every_score_is_zero() -> None:
    assert CoOccurrence.of((), 6).scores(pad(np.array([1]))[None]).tolist() == [[0.0] * 7]
