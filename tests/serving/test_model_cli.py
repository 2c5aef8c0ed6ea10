from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_stage import behaviour
from store_stage import moto_server
from typer.testing import CliRunner

from serving import cli, manifest
from serving.data import Behaviour

pytestmark = pytest.mark.live

run = CliRunner()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server("127.83.0.4") as url:
        yield url


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    return write(tmp_path / "small", behaviour())


def write(folder: Path, made: Behaviour) -> Path:
    folder.mkdir()
    movies = "".join(f'{item.id},"{item.title}",{"|".join(item.genres)}\n' for item in made.items)
    ratings = "".join(
        f"{user},{made.items[item - 1].id},4.0,{moment}\n"
        for user, sequence in enumerate(made.sequences)
        for moment, item in enumerate(sequence)
    )
    (folder / "movies.csv").write_text("movieId,title,genres\n" + movies, encoding="utf-8")
    (folder / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + ratings, encoding="utf-8")
    return folder


def test_train_prints_the_table_and_last_the_digest_and_the_package(data_folder: Path, tmp_path: Path) -> None:
    options = ["--data", str(data_folder), "--out", str(tmp_path / "models"), "--seconds", "1"]
    result = run.invoke(cli.app, ["train", *options])
    assert result.exit_code == 0, result.output
    lines = result.stdout.strip().splitlines()
    digest, package = lines[-2].split()[1], Path(lines[-1].split()[1])
    made = manifest.verify(package, digest)
    assert package == tmp_path / "models" / digest.removeprefix("sha256:")
    assert made.catalogue_size == 160
    rankings = ["popularity", "co-occurrence", "transformer alone", "model", "model as served (ONNX)"]
    assert list(made.metrics) == sorted(rankings)
    assert all(ranking in result.stdout for ranking in rankings)

    again = run.invoke(cli.app, ["evaluate", "--package", str(package), "--data", str(data_folder), "--json"])
    assert again.exit_code == 0, again.output
    measured = json.loads(again.stdout)
    assert measured["model as served (ONNX)"] == made.metrics["model as served (ONNX)"]
    assert measured["popularity"] == made.metrics["popularity"]

    other = run.invoke(cli.app, ["evaluate", "--package", str(package), "--data", "generated"])
    assert other.exit_code == 1
    assert "not the catalogue of the package" in other.stderr


def test_bad_data_is_an_error_message_not_a_traceback(tmp_path: Path) -> None:
    result = run.invoke(cli.app, ["train", "--data", str(tmp_path / "none"), "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "movies.csv: cannot be read" in result.stderr
    assert result.stdout == ""
