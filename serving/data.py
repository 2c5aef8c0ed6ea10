"""Behaviour as training sees it: items, and what each user chose, in time order."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving import DataError
from serving.catalogue import GENERATED_ITEMS, GENERATED_USERS, Item, generate

HISTORY_LENGTH: Final = 50
ANSWER_LENGTH: Final = 50
# A history hides at most HISTORY_LENGTH items and the answer needs ANSWER_LENGTH others.
SMALLEST_CATALOGUE: Final = HISTORY_LENGTH + ANSWER_LENGTH + 1
# Any rating counts as a positive: who rates a film has chosen and seen it, and the question put to the model is which
# item comes next, not how well it will be liked. A bar at 4 of 5 would drop half of the events of few users.
MINIMUM_RATING: Final = 0.5

Sequence = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Items, and per user the positions (1..N, 0 is padding) of what was chosen, oldest first."""

    name: str
    items: tuple[Item, ...]
    sequences: tuple[Sequence, ...]

    def __post_init__(self) -> None:
        if len(self.items) < SMALLEST_CATALOGUE:
            raise DataError(
                f"{self.name}: {len(self.items)} items; at least {SMALLEST_CATALOGUE} are needed, as an answer holds "
                f"{ANSWER_LENGTH} items outside a history of up to {HISTORY_LENGTH}; use a larger catalogue"
            )
        if not any(len(sequence) >= 3 for sequence in self.sequences):
            raise DataError(
                f"{self.name}: no user has 3 events; one each is held out for validation and test, "
                "so give a longer stretch of behaviour"
            )

    @property
    def events(self) -> int:
        """How many choices there are in all."""
        return sum(len(sequence) for sequence in self.sequences)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question with its known answer: what this user chose next."""

    history: Sequence
    target: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """Leave one out: each user's last event is the test, the one before it the validation, the rest is for training."""

    train: tuple[Sequence, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]

    @classmethod
    def of(cls, behaviour: Behaviour) -> Split:
        """The split of some behaviour; users with fewer than 3 events are for training only."""
        train, validation, test = [], [], []
        for sequence in behaviour.sequences:
            if len(sequence) < 3:
                train.append(sequence)
                continue
            train.append(sequence[:-2])
            validation.append(Case(history=sequence[:-2], target=int(sequence[-2])))
            test.append(Case(history=sequence[:-1], target=int(sequence[-1])))
        return cls(train=tuple(train), validation=tuple(validation), test=tuple(test))


def pad(history: Sequence) -> Sequence:
    """The last 50 choices of a history, padded with 0 on the left: shape [50]."""
    padded = np.zeros(HISTORY_LENGTH, np.int64)
    recent = history[-HISTORY_LENGTH:]
    if len(recent) > 0:
        padded[-len(recent) :] = recent
    return padded


def load(source: str, *, seed: int = 0) -> Behaviour:
    """The behaviour in a folder in MovieLens format (ratings.csv, movies.csv), or `generated`. Raises DataError."""
    if source == "generated":
        items, sequences = generate(users=GENERATED_USERS, items=GENERATED_ITEMS, seed=seed)
        return Behaviour(name="generated", items=items, sequences=sequences)
    return read_folder(Path(source))


def read_folder(folder: Path) -> Behaviour:
    """The behaviour in `folder`. Raises DataError naming file, line, value and rule."""
    items = tuple(_items(folder / "movies.csv"))
    position = {item.id: index for index, item in enumerate(items, start=1)}
    if len(position) != len(items):
        raise DataError(f"{folder / 'movies.csv'}: a movieId stands twice; every item needs an id of its own")
    events: dict[str, dict[int, tuple[int, bytes]]] = defaultdict(dict)
    ratings = folder / "ratings.csv"
    for line, row in _rows(ratings, ("userId", "movieId", "rating", "timestamp")):
        where = f"{ratings}:{line}"
        if row["movieId"] not in position:
            raise DataError(f"{where}: movieId {row['movieId']!r} is not in movies.csv; use files of one release")
        rating = _number(where, "rating", row["rating"])
        moment = int(_number(where, "timestamp", row["timestamp"]))
        if rating >= MINIMUM_RATING:
            # People rate several films in one second. File order is by id then, and would teach the model that ids
            # grow; a hash orders such ties without meaning, and the same way everywhere.
            tie = hashlib.sha256(f"{row['userId']}:{row['movieId']}".encode()).digest()
            events[row["userId"]][position[row["movieId"]]] = (moment, tie)
    sequences = tuple(np.array(sorted(chosen, key=chosen.__getitem__), np.int64) for chosen in events.values())
    return Behaviour(name=folder.name, items=items, sequences=sequences)


def _items(path: Path) -> Iterator[Item]:
    for line, row in _rows(path, ("movieId", "title", "genres")):
        if not row["movieId"] or not row["title"]:
            raise DataError(f"{path}:{line}: movieId {row['movieId']!r}, title {row['title']!r}: neither may be empty")
        genres = tuple(genre for genre in row["genres"].split("|") if genre and not genre.startswith("("))
        yield Item(id=row["movieId"], title=row["title"], genres=genres)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: columns {reader.fieldnames or []}, but {', '.join(missing)} must be among them; "
                    "use a folder in MovieLens format"
                )
            for row in reader:
                if any(row[column] is None for column in columns):
                    raise DataError(f"{path}:{reader.line_num}: fewer values than columns; repair or drop the line")
                yield reader.line_num, row
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); a data folder holds ratings.csv and movies.csv, "
            "or say `generated`"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert the file") from error
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); use a folder in MovieLens format") from error


def _number(where: str, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{where}: {column} {text!r} must be a finite number; repair or drop the line")
    return value
