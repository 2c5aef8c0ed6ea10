from __future__ import annotations

import json
from pathlib import Path

import pytest

from serving import PackageError
from serving.manifest import FileEntry, Manifest, check_digest, digest_of, read, verify, version_number

DIGEST = "sha256:" + "f" * 64


def manifest(**changes: object) -> Manifest:
    values: dict[str, object] = {
        "model": "recommender",
        "files": {"b.txt": FileEntry.of(b"bb"), "a/c.txt": FileEntry.of(b"c")},
        "catalogue_size": 200,
        "metrics": {"model": {"ndcg@10": 0.1}},
    }
    return Manifest(**(values | changes))  # type: ignore[arg-type]  # a table of keywords


def package(tmp_path: Path) -> tuple[Path, Manifest]:
    made = manifest()
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_bytes(b"bb")
    (tmp_path / "a" / "c.txt").write_bytes(b"c")
    (tmp_path / "manifest.json").write_bytes(made.to_bytes())
    return tmp_path, made


def test_the_canonical_form_is_sorted_without_spaces_and_ends_with_a_newline() -> None:
    data = manifest().to_bytes()
    assert data.startswith(b'{"catalogue_size":200,"files":{"a/c.txt":{"sha256":"')
    assert data.endswith(b"}\n")
    assert Manifest.from_bytes(data) == manifest()
    assert manifest().digest == digest_of(data)


def test_the_version_number_is_the_first_60_bits_and_fits_tritons_integers() -> None:
    assert version_number(DIGEST) == 2**60 - 1
    assert version_number("sha256:" + "0" * 14 + "1" + "f" * 49) == 1


@pytest.mark.parametrize("digest", ["", "f" * 64, "sha256:" + "F" * 64, "sha256:abc", DIGEST + "\n"])
def test_a_digest_of_another_shape_is_refused(digest: str) -> None:
    with pytest.raises(PackageError, match="64 lower-case hexadecimal digits"):
        check_digest(digest)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../b", "", ".", "a//b", "manifest.json"])
def test_a_file_name_that_leaves_the_package_is_refused(name: str) -> None:
    with pytest.raises(PackageError, match="plain relative path"):
        manifest(files={name: FileEntry.of(b"")})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a manifest"),
        (b"[]", "not a manifest"),
        (b'{"format":2}', "format 2, this code reads 1"),
        (b'{"format":1}', "not a manifest"),
        (json.dumps(json.loads(manifest().to_bytes())).encode(), "not in canonical form"),
    ],
)
def test_bytes_that_are_no_manifest_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        Manifest.from_bytes(data)


def test_a_whole_package_verifies(tmp_path: Path) -> None:
    folder, made = package(tmp_path)
    assert verify(folder, made.digest) == made


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (b"b", r"b\.txt: 1 bytes, but the manifest says 2; the copy is truncated"),
        (b"bX", r"b\.txt: SHA-256 .*; the copy is corrupt"),
        (None, r"b\.txt: cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes | None, message: str) -> None:
    folder, _ = package(tmp_path)
    (folder / "b.txt").unlink()
    if damage is not None:
        (folder / "b.txt").write_bytes(damage)
    with pytest.raises(PackageError, match=message):
        verify(folder)
    verify(folder, names=["a/c.txt"])


def test_another_digest_than_asked_for_is_refused(tmp_path: Path) -> None:
    folder, _ = package(tmp_path)
    with pytest.raises(PackageError, match=f"expected {DIGEST}"):
        read(folder, DIGEST)
    with pytest.raises(PackageError, match="not in the manifest"):
        verify(folder, names=["other"])
    with pytest.raises(PackageError, match="cannot be read"):
        read(folder / "a")
