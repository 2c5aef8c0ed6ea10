from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving import PackageError, repository
from serving.manifest import FileEntry, read, version_number


def build(into: Path, onnx: bytes = b"onnx", backends: Path = repository.BACKENDS) -> Path:
    return repository.build(
        into,
        onnx=onnx,
        catalogue=b'{"items":[]}\n',
        golden={"request": {"history": [[0]]}},
        catalogue_size=120,
        metrics={},
        training={"seed": 0},
        backends=backends,
    )


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return build(tmp_path / "models")


def test_a_package_lies_under_its_digest_and_lists_every_file(package: Path) -> None:
    manifest = read(package, f"sha256:{package.name}")
    present = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()}
    assert present == {*manifest.files, "manifest.json"}
    assert set(manifest.files) == {
        *("model.onnx", "backend.py", "catalogue.json", "golden.json", "configs/cpu.pbtxt", "configs/gpu.pbtxt")
    }


def test_the_same_files_give_the_same_package_and_others_another(tmp_path: Path, package: Path) -> None:
    assert build(tmp_path / "models") == package
    assert build(tmp_path / "models", onnx=b"other") != package
    assert [path.name for path in (tmp_path / "models").iterdir() if path.name.startswith(".")] == []


def test_a_changed_package_is_not_silently_kept(tmp_path: Path, package: Path) -> None:
    (package / "model.onnx").write_bytes(b"evil")
    with pytest.raises(PackageError, match=r"model\.onnx: SHA-256"):
        build(tmp_path / "models")


def test_the_repository_is_what_triton_reads_with_a_named_configuration(tmp_path: Path, package: Path) -> None:
    folder = repository.lay_out(package, tmp_path / "pod", "repository")
    version = str(version_number(f"sha256:{package.name}"))
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert folder == tmp_path / "pod" / "repository"
    assert present == {
        "recommender/configs/cpu.pbtxt",
        "recommender/configs/gpu.pbtxt",
        f"recommender/{version}/model.onnx",
        f"recommender/{version}/model.py",
    }


def test_the_reference_is_what_the_gateway_reads(tmp_path: Path, package: Path) -> None:
    folder = repository.lay_out(package, tmp_path / "pod", "reference")
    assert sorted(path.name for path in folder.iterdir()) == ["catalogue.json", "golden.json", "manifest.json"]
    assert read(folder).digest == f"sha256:{package.name}"
    assert json.loads((folder / "golden.json").read_bytes()) == {"request": {"history": [[0]]}}


def test_laying_out_again_replaces_the_older_version_whole(tmp_path: Path, package: Path) -> None:
    repository.lay_out(package, tmp_path / "pod", "repository")
    newer = build(tmp_path / "models", onnx=b"newer")
    folder = repository.lay_out(newer, tmp_path / "pod", "repository")
    versions = [path.name for path in (folder / "recommender").iterdir() if path.name.isdigit()]
    assert versions == [str(version_number(f"sha256:{newer.name}"))]
    assert [path.name for path in (tmp_path / "pod").iterdir()] == ["repository"]


def test_a_bad_file_leaves_nothing_behind_and_the_older_version_in_place(tmp_path: Path, package: Path) -> None:
    manifest = read(package)
    good = repository.lay_out(package, tmp_path / "pod", "reference")

    def corrupt(name: str) -> bytes:
        return b"x" * manifest.files[name].size

    for into in (tmp_path / "pod", tmp_path / "new"):
        with pytest.raises(PackageError, match=r"catalogue\.json: SHA-256"):
            repository.place(manifest, into, "reference", corrupt)
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "pod").iterdir()] == ["reference"]
    assert read(good).digest == manifest.digest


def test_an_unknown_part_is_refused(tmp_path: Path, package: Path) -> None:
    with pytest.raises(PackageError, match="must be one of repository, reference"):
        repository.lay_out(package, tmp_path, "everything")


def test_a_file_entry_knows_its_bytes() -> None:
    assert FileEntry.of(b"abc").check("f", b"abc") == b"abc"
