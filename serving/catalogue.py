"""The items of a package, and a generated catalogue with latent tastes for where there is no data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from serving import PackageError

GENERATED_USERS: Final = 600
GENERATED_ITEMS: Final = 2000
_TASTE_DIMENSIONS: Final = 16
_NEXT_PART_SHARE: Final = 0.3
_GENRES: Final = (
    *("Adventure", "Biography", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "History", "Music", "Mystery", "Romance", "Science"),
)
_FIRST: Final = (
    *("Amber", "Blue", "Broken", "Bright", "Copper", "Distant", "Early", "Empty", "Endless", "Fallen"),
    *("Familiar", "First", "Frozen", "Gentle", "Glass", "Golden", "Green", "Hidden", "Hollow", "Honest"),
    *("Iron", "Last", "Late", "Lonely", "Long", "Lost", "Northern", "Open", "Paper", "Patient"),
    *("Quiet", "Restless", "Scarlet", "Second", "Silent", "Silver", "Slow", "Southern", "Stolen", "Wandering"),
)
_SECOND: Final = (
    *("Archive", "Bakery", "Bridge", "Cartographer", "Choir", "Clockmaker", "Coast", "Compass", "Detective", "Orchard"),
    *("Ferry", "Garden", "Glacier", "Harbour", "Horizon", "Island", "Kitchen", "Lantern", "Letter", "Library"),
    *(
        "Lighthouse",
        "Market",
        "Meadow",
        "Museum",
        "Observatory",
        "Orchestra",
        "Painter",
        "Parade",
        "Piano",
        "Railway",
    ),
    *("River", "School", "Signal", "Station", "Summer", "Theatre", "Valley", "Violin", "Voyage", "Winter"),
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing that can be recommended."""

    id: str
    title: str
    genres: tuple[str, ...] = ()


def to_bytes(items: Sequence[Item]) -> bytes:
    """The catalogue file of a package: the item at index i stands at position i + 1 of the model."""
    entries = [{"id": item.id, "title": item.title, "genres": list(item.genres)} for item in items]
    return json.dumps({"items": entries}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def from_bytes(data: bytes) -> tuple[Item, ...]:
    """The items of a catalogue file. Raises PackageError."""
    try:
        return tuple(
            Item(id=str(entry["id"]), title=str(entry["title"]), genres=tuple(map(str, entry["genres"])))
            for entry in json.loads(data)["items"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PackageError(f"catalogue.json: not a catalogue ({error!r}); build the package again") from error


def generate(*, users: int, items: int, seed: int) -> tuple[tuple[Item, ...], tuple[NDArray[np.int64], ...]]:
    """A made-up catalogue and what made-up users with drifting tastes chose from it; the same for the same seed.

    An item is a point in a space of tastes near the centre of its genre, and a part of a series of one to four. A user
    is a point too, pulled a little towards whatever was chosen. The next choice is the next part of the last series
    (3 in 10), or is drawn by closeness to the user and popularity. So order matters, and popularity alone says little.
    """
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(_GENRES), _TASTE_DIMENSIONS))
    catalogue: list[Item] = []
    points = np.zeros((items, _TASTE_DIMENSIONS))
    next_part = np.full(items, -1)
    series = 0
    while len(catalogue) < items:
        first, second = int(random.integers(len(_GENRES))), int(random.integers(len(_GENRES)))
        genres = tuple(sorted({_GENRES[first], _GENRES[second]}))
        point = 0.6 * centres[first] + 0.4 * centres[second] + random.normal(scale=0.5, size=_TASTE_DIMENSIONS)
        parts = min(int(random.integers(1, 5)), items - len(catalogue))
        name = f"The {_FIRST[series // len(_SECOND) % len(_FIRST)]} {_SECOND[series % len(_SECOND)]}"
        for part in range(1, parts + 1):
            index = len(catalogue)
            title = name if part == 1 else f"{name}, Part {part}"
            catalogue.append(Item(id=str(index + 1), title=title, genres=genres))
            points[index] = point + random.normal(scale=0.1, size=_TASTE_DIMENSIONS)
            next_part[index] = index + 1 if part < parts else -1
        series += 1
    popularity = random.permutation(np.log(1.0 / (np.arange(items) + 10.0)))
    sequences = tuple(_choices(random, points, popularity, next_part) for _ in range(users))
    return tuple(catalogue), sequences


def _choices(
    random: np.random.Generator,
    points: NDArray[np.float64],
    popularity: NDArray[np.float64],
    next_part: NDArray[np.int64],
) -> NDArray[np.int64]:
    """What one user chose, oldest first, nothing twice: positions 1..N."""
    length = min(int(np.clip(random.lognormal(3.9, 0.5), 15, 200)), len(points) // 2)
    taste = points[random.integers(len(points))] + random.normal(scale=0.5, size=_TASTE_DIMENSIONS)
    free = np.ones(len(points), bool)
    chosen: list[int] = []
    for _ in range(length):
        follow = int(next_part[chosen[-1]]) if chosen else -1
        if follow >= 0 and free[follow] and random.random() < _NEXT_PART_SHARE:
            pick = follow
        else:
            pull = 0.5 * points @ taste + 0.8 * popularity
            # Gumbel noise and the largest sum draw from the softmax of the pull.
            pick = int(np.argmax(np.where(free, pull + random.gumbel(size=len(points)), -np.inf)))
        chosen.append(pick)
        free[pick] = False
        taste = 0.9 * taste + 0.1 * points[pick] + random.normal(scale=0.15, size=_TASTE_DIMENSIONS)
    return np.array(chosen, np.int64) + 1
