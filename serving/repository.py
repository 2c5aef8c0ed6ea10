"""The immutable package directory, and what a pod lays out of it: Triton's repository or the gateway's reference."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from serving import PackageError
from serving.manifest import MANIFEST, FileEntry, Manifest, check_file_name, hex_of, verify, version_number

MODEL: Final = "recommender"
BACKENDS: Final = Path(__file__).parent / "backends"
MODEL_FILE: Final = "model.onnx"
BACKEND_FILE: Final = "backend.py"
CATALOGUE_FILE: Final = "catalogue.json"
GOLDEN_FILE: Final = "golden.json"
CONFIGS: Final = ("configs/cpu.pbtxt", "configs/gpu.pbtxt")
PARTS: Final = ("repository", "reference")


def backend_files(backends: Path = BACKENDS) -> dict[str, bytes]:
    """What a package takes along to be served: the Python backend and one configuration per kind of processor."""
    sources = {BACKEND_FILE: backends / "onnx_python.py"} | {name: backends / Path(name).name for name in CONFIGS}
    return {name: path.read_bytes() for name, path in sources.items()}


def build(
    into: Path,
    *,
    onnx: bytes,
    catalogue: bytes,
    golden: Mapping[str, Any],
    catalogue_size: int,
    metrics: Mapping[str, Any],
    training: Mapping[str, Any],
    model: str = MODEL,
    backends: Path = BACKENDS,
) -> Path:
    """The package directory `<into>/<hex digest>`; it appears complete or not at all, and is never written again."""
    files = {
        MODEL_FILE: onnx,
        CATALOGUE_FILE: catalogue,
        GOLDEN_FILE: json.dumps(golden, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n",
        **backend_files(backends),
    }
    manifest = Manifest(
        model=model,
        files={name: FileEntry.of(data) for name, data in files.items()},
        catalogue_size=catalogue_size,
        metrics=metrics,
        training=training,
    )
    package = into / hex_of(manifest.digest)
    if package.exists():
        verify(package, manifest.digest)
        return package
    into.mkdir(parents=True, exist_ok=True)
    _appear(package, {**files, MANIFEST: manifest.to_bytes()})
    return package


def plan(manifest: Manifest, part: str) -> dict[str, str]:
    """Which package file goes where in a part: path below the part's folder to name in the package.

    The manifest itself is among the files of the `reference`. Raises PackageError for an unknown part.
    """
    if part == "repository":
        home = manifest.model
        version = f"{home}/{version_number(manifest.digest)}"
        return {f"{home}/{name}": name for name in CONFIGS} | {
            f"{version}/model.onnx": MODEL_FILE,
            f"{version}/model.py": BACKEND_FILE,
        }
    if part == "reference":
        return {name: name for name in (MANIFEST, CATALOGUE_FILE, GOLDEN_FILE)}
    raise PackageError(f"part {part!r}: must be one of {', '.join(PARTS)}")


def place(manifest: Manifest, into: Path, part: str, read: Callable[[str], bytes]) -> Path:
    """Lay out `<into>/<part>` from files that `read` gives by name; each is compared with the manifest first.

    The folder gets its name when all files are in it; on any failure nothing is left and an older one stays.
    """
    return _settle(into / part, _compared(manifest, part, read))


def place_several(manifests: Sequence[Manifest], into: Path, part: str, read: Callable[[Manifest, str], bytes]) -> Path:
    """Lay out `<into>/<part>/<hex digest>` for each of several versions: all of them or none, as `place` does for one.

    Raises PackageError for a part that holds one version only.
    """
    if part != "reference":
        raise PackageError(f"part {part!r}: holds one version; only the reference is laid out for several")
    files = {
        f"{hex_of(manifest.digest)}/{path}": data
        for manifest in manifests
        for path, data in _compared(manifest, part, partial(read, manifest)).items()
    }
    return _settle(into / part, files)


def _compared(manifest: Manifest, part: str, read: Callable[[str], bytes]) -> dict[str, bytes]:
    """The files of a part by their path in it, each compared with the manifest."""
    files: dict[str, bytes] = {}
    for path, name in plan(manifest, part).items():
        if name == MANIFEST:
            files[path] = manifest.to_bytes()
            continue
        if name not in manifest.files:
            raise PackageError(f"{MANIFEST} of {manifest.digest}: lists no {name}; build the package again")
        files[path] = manifest.files[name].check(name, read(name))
    return files


def _settle(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _appear(folder, files)
    return folder


def lay_out(package: Path, into: Path, part: str) -> Path:
    """Lay out `<into>/<part>` from a package directory on this machine."""
    manifest = verify(package, f"sha256:{package.name}" if len(package.name) == 64 else None)
    return place(manifest, into, part, lambda name: (package / name).read_bytes())


def _appear(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files beside the folder, then give it its name in one step; an older folder is replaced."""
    waiting = Path(tempfile.mkdtemp(prefix=f".{folder.name[:16]}-", dir=folder.parent))
    try:
        for name, data in files.items():
            target = waiting / (name if name == MANIFEST else check_file_name(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o644)
        # mkdtemp is for the owner alone; the server may run as another user than the one that fetched.
        waiting.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name[:16]}-", dir=folder.parent))
            os.replace(folder, old / folder.name)  # noqa: PTH105  # renaming a folder is one step here
            waiting.rename(folder)
            shutil.rmtree(old)
        else:
            waiting.rename(folder)
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
