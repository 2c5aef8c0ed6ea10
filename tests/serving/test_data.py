from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving import DataError, PackageError, catalogue, data

MOVIES = "movieId,title,genres\n" + "".join(f'{n},"Film, {n} (2000)",Drama|Comedy\n' for n in range(1, 121))
RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{user},{(user * 7 + step) % 120 + 1},4.0,{1000 + step}\n" for user in range(1, 6) for step in range(6)
)


def folder(tmp_path: Path, movies: str = MOVIES, ratings: str = RATINGS) -> Path:
    (tmp_path / "movies.csv").write_text(movies, encoding="utf-8")
    (tmp_path / "ratings.csv").write_text(ratings, encoding="utf-8")
    return tmp_path


def test_a_movielens_folder_becomes_items_and_sequences_in_time_order(tmp_path: Path) -> None:
    later_first = RATINGS + "9,5,3.0,300\n9,4,3.0,100\n9,6,3.0,200\n"
    behaviour = data.load(str(folder(tmp_path, ratings=later_first)))
    assert len(behaviour.items) == 120
    assert behaviour.items[0] == catalogue.Item(id="1", title="Film, 1 (2000)", genres=("Drama", "Comedy"))
    assert behaviour.sequences[-1].tolist() == [4, 6, 5]
    assert behaviour.events == 33


def test_events_of_one_second_are_not_ordered_by_item_id(tmp_path: Path) -> None:
    ties = "userId,movieId,rating,timestamp\n" + "".join(f"1,{n},4.0,1000\n" for n in range(1, 31))
    sequence = data.load(str(folder(tmp_path, ratings=ties))).sequences[0]
    assert sorted(sequence) == list(range(1, 31))
    assert np.diff(sequence).min() < 0 < np.diff(sequence).max()
    assert sequence.tolist() == data.load(str(tmp_path)).sequences[0].tolist()


@pytest.mark.parametrize(
    ("movies", "ratings", "message"),
    [
        pytest.param(MOVIES.replace("title", "name"), RATINGS, r"movies.csv: columns .* but title must", id="column"),
        pytest.param(MOVIES, RATINGS + "7,3,four,5\n", r"ratings.csv:32: rating 'four' must be", id="rating"),
        pytest.param(MOVIES, RATINGS + "7,3,nan,5\n", r"ratings.csv:32: rating 'nan' must be", id="not-finite"),
        pytest.param(MOVIES, RATINGS + "7,3,4.0,\n", r"ratings.csv:32: timestamp '' must be", id="no-time"),
        pytest.param(MOVIES, RATINGS + "7,3\n", r"ratings.csv:32: fewer values than columns", id="short-row"),
        pytest.param(MOVIES, RATINGS + "7,999,4.0,5\n", r"ratings.csv:32: movieId '999' is not in", id="unknown-item"),
        pytest.param(MOVIES + "1,Again,Drama\n", RATINGS, r"movies.csv: a movieId stands twice", id="item-twice"),
        pytest.param(MOVIES + "500,,Drama\n", RATINGS, r"movies.csv:122: movieId '500', title ''", id="no-title"),
        pytest.param("\n".join(MOVIES.split("\n")[:81]), "", r"not in|columns|items", id="small"),
        pytest.param(MOVIES, "userId,movieId,rating,timestamp\n1,1,4,1\n", r"no user has 3 events", id="no-behaviour"),
    ],
)
def test_a_bad_folder_is_refused_with_file_line_and_rule(
    tmp_path: Path, movies: str, ratings: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        data.load(str(folder(tmp_path, movies, ratings)))


def test_a_missing_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"movies.csv: cannot be read .* or say `generated`"):
        data.load(str(tmp_path / "nowhere"))


def test_a_catalogue_too_small_for_an_answer_is_refused() -> None:
    items = tuple(catalogue.Item(id=str(n), title=f"Item {n}") for n in range(100))
    with pytest.raises(DataError, match="100 items; at least 101"):
        data.Behaviour(name="small", items=items, sequences=(np.arange(1, 9),))


def test_the_last_event_is_the_test_and_the_one_before_the_validation(tmp_path: Path) -> None:
    behaviour = data.load(str(folder(tmp_path, ratings=RATINGS + "8,1,4,1\n8,2,4,2\n")))
    split = data.Split.of(behaviour)
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 5, 5)
    whole = behaviour.sequences[0].tolist()
    assert split.train[0].tolist() == whole[:-2]
    assert (split.validation[0].history.tolist(), split.validation[0].target) == (whole[:-2], whole[-2])
    assert (split.test[0].history.tolist(), split.test[0].target) == (whole[:-1], whole[-1])


def test_a_history_is_padded_on_the_left_and_keeps_its_last_50() -> None:
    assert data.pad(np.array([3, 9]))[-3:].tolist() == [0, 3, 9]
    assert data.pad(np.arange(1, 61)).tolist() == list(range(11, 61))
    assert data.pad(np.zeros(0, np.int64)).tolist() == [0] * 50


def test_the_generated_catalogue_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    items, sequences = catalogue.generate(users=20, items=150, seed=3)
    again_items, again = catalogue.generate(users=20, items=150, seed=3)
    assert items == again_items
    assert [s.tolist() for s in sequences] == [s.tolist() for s in again]
    _, other = catalogue.generate(users=20, items=150, seed=4)
    assert [s.tolist() for s in sequences] != [s.tolist() for s in other]
    assert len({item.title for item in items}) == len(items)
    assert all(len(set(s.tolist())) == len(s) and s.min() >= 1 and s.max() <= 150 for s in sequences)


def test_a_catalogue_file_round_trips_and_a_broken_one_is_refused() -> None:
    items = (catalogue.Item(id="7", title="Amélie (2001)", genres=("Comedy",)), catalogue.Item(id="8", title="B"))
    assert catalogue.from_bytes(catalogue.to_bytes(items)) == items
    with pytest.raises(PackageError, match="not a catalogue"):
        catalogue.from_bytes(b'{"things": []}')
