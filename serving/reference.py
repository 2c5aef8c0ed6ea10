"""What a verified version says about itself: its catalogue, and the golden request with its answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from serving import PackageError, manifest
from serving.inference import HISTORY_LENGTH, Histories

CATALOGUE: Final = "catalogue.json"
GOLDEN: Final = "golden.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Golden:
    """A request whose answer is known: `histories` [n, 50], `items` and `scores` [n, k], best first."""

    histories: Histories
    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    tolerance: Mapping[str, float]

    def __post_init__(self) -> None:
        rows = len(self.histories)
        if self.histories.shape != (rows, HISTORY_LENGTH) or rows == 0:
            raise PackageError(f"{GOLDEN}: histories of shape {self.histories.shape}, must be [n, {HISTORY_LENGTH}]")
        if self.items.shape != (rows, self.items.size // rows) or self.items.shape != self.scores.shape:
            raise PackageError(
                f"{GOLDEN}: items {self.items.shape} and scores {self.scores.shape}, both must be [{rows}, k]"
            )

    @classmethod
    def from_document(cls, document: Any) -> Self:
        """From golden.json."""
        return cls(
            histories=np.asarray(document["request"]["history"], dtype=np.int64),
            items=np.asarray(document["answer"]["items"], dtype=np.int64),
            scores=np.asarray(document["answer"]["scores"], dtype=np.float64),
            tolerance={str(backend): float(value) for backend, value in document["tolerance"].items()},
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """One version's catalogue and golden request, by its digest."""

    digest: str
    ids: Sequence[str]
    titles: Sequence[str]
    golden: Golden

    @cached_property
    def index_of(self) -> Mapping[str, int]:
        """Item id to index 1..N."""
        return {item: index for index, item in enumerate(self.ids, start=1)}

    @classmethod
    def load(cls, package: Path) -> Self:
        """From a folder with manifest, catalogue and golden request, each compared with the manifest."""
        verified = manifest.verify(package, names=(CATALOGUE, GOLDEN))
        try:
            items = json.loads((package / CATALOGUE).read_bytes())["items"]
            golden = Golden.from_document(json.loads((package / GOLDEN).read_bytes()))
            ids, titles = [str(item["id"]) for item in items], [str(item["title"]) for item in items]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PackageError(f"{package}: not the catalogue and golden request of a package ({error!r})") from error
        return cls(digest=verified.digest, ids=ids, titles=titles, golden=golden)

    def encode(self, history: Iterable[str]) -> Histories:
        """The last 50 items of a history as the model's input, [1, 50]; items unknown to this version are left out."""
        known = [self.index_of[item] for item in history if item in self.index_of][-HISTORY_LENGTH:]
        row = np.zeros((1, HISTORY_LENGTH), dtype=np.int64)
        if known:
            row[0, -len(known) :] = known
        return row


def load_all(model_dir: Path, accepted_digests: Sequence[str]) -> dict[str, Reference]:
    """The reference of every accepted digest, in their order.

    They lie in `reference/` as the init container leaves them: the one version itself, or a folder for each.
    """
    home = model_dir / "reference"
    single = (home / manifest.MANIFEST).exists()
    folders = [home] if single else sorted(path for path in home.glob("*") if path.is_dir())
    found = {reference.digest: reference for reference in map(Reference.load, folders)}
    absent = [digest for digest in accepted_digests if digest not in found]
    if absent:
        raise PackageError(
            f"{home}: holds {sorted(found) or 'no version'}, not the accepted {absent[0]};"
            " have the init container fetch it (python -m serving.fetch --part reference)"
        )
    return {digest: found[digest] for digest in accepted_digests}
