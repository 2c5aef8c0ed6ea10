"""One table from image to local command: what a container of the lab runs.

    PullError                 the image cannot be had: unknown repository or digest
    CommandError              the image holds no such command

`python -m lab.kubernetes.images` prints every image as `repository@digest`, ready for a manifest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SOURCE_ROOT: Final = Path(__file__).resolve().parents[2]
"""Where `lab`, `serving`, `drills` and `signals` are importable from."""

SYSTEM_PATH: Final = "/usr/local/bin:/usr/bin:/bin"

UTILITIES: Final = frozenset(
    (
        *("bash", "cat", "chmod", "cp", "cut", "date", "dirname", "echo", "env", "false", "find", "grep", "head"),
        *(
            "hostname",
            "id",
            "kill",
            "ln",
            "ls",
            "mkdir",
            "mktemp",
            "mv",
            "printenv",
            "printf",
            "pwd",
            "rm",
            "sed",
            "sh",
            "sleep",
        ),
        *("sort", "tail", "tee", "test", "touch", "tr", "true", "uname", "wc"),
    )
)
"""What every image of the table has beside its own commands."""

DEVICE_PLUGIN: Final = "nvcr.io/nvidia/k8s-device-plugin"
TRITON: Final = "nvcr.io/nvidia/tritonserver"
SERVING: Final = "ghcr.io/tandem-recommender/serving"
DRILLS: Final = "ghcr.io/tandem-recommender/drills"

_REFERENCE = re.compile(
    r"(?P<repository>[a-z0-9.-]+(?::\d+)?(?:/[a-z0-9._-]+)*?)(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


class PullError(Exception):
    """The image reference leads to nothing the lab can run."""


class CommandError(Exception):
    """The image is there, the command is not in it."""


@dataclass(frozen=True)
class Command:
    """How a container's process is started: absolute argv, the image's own environment, working directory."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path | None


@dataclass(frozen=True, kw_only=True)
class Image:
    """One entry of the table."""

    repository: str
    description: str
    """What stands for the image's content; its SHA-256 is the digest, the same on every machine."""
    commands: Callable[[Path], Mapping[str, Sequence[str]]]
    """From the lab's folder for images: command name -> argv that replaces it."""
    environment: Callable[[], Mapping[str, str]] = field(default=dict)
    entrypoint: tuple[str, ...] = ()
    """Runs in front of a container's args, as ENTRYPOINT does."""
    default: tuple[str, ...] = ()
    """Runs where a container has neither command nor args, as CMD does."""
    directory: Path | None = None

    @property
    def digest(self) -> str:
        """The one digest a manifest may name for this repository."""
        content = f"{self.repository}\n{self.description}\n"
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()

    @property
    def reference(self) -> str:
        """`repository@digest`."""
        return f"{self.repository}@{self.digest}"

    def command(self, home: Path, command: Sequence[str], args: Sequence[str]) -> Command:
        """What runs for a container's `command` and `args`; CommandError for a command the image does not hold.

        `home` is the lab's own folder for images. As in a cluster, `command` replaces the entrypoint and
        `args` the default arguments.
        """
        words = (*command, *args) if command else (*self.entrypoint, *(args or self.default))
        if not words:
            raise CommandError(f"image {self.repository}: no command specified; give the container command or args")
        environment = {"PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}", **self.environment()}
        return Command((*self._program(home, words[0]), *words[1:]), environment, self.directory)

    def _program(self, home: Path, word: str) -> Sequence[str]:
        path = Path(word)
        name = path.name
        if path.parent in (Path(), *(Path(folder) for folder in SYSTEM_PATH.split(":"))):
            own = self.commands(home)
            if name in own:
                return own[name]
            if name in UTILITIES and (found := shutil.which(name, path=SYSTEM_PATH)):
                return (found,)
        raise CommandError(
            f'exec: "{word}": executable file not found in $PATH of image {self.repository};'
            f" it has {', '.join(sorted(self.commands(home)))} and the usual small utilities"
        )


def _python() -> Mapping[str, Sequence[str]]:
    return dict.fromkeys(("python", "python3", f"python3.{sys.version_info.minor}"), (sys.executable,))


def _wheel(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PullError(
            f"package {package} is not installed, and image {TRITON} is made of its wheel; install nvidia-pytriton"
        )
    return Path(spec.submodule_search_locations[0])


def triton_backends(home: Path) -> Path:
    """A backend folder whose Python backend holds this interpreter's stub; made once, safe to make twice at once."""
    server = _wheel("pytriton") / "tritonserver"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    target = home / f"triton-{importlib.metadata.version('nvidia-pytriton')}-python{python}"
    if target.is_dir():
        return target
    stub = server / "python_backend_stubs" / python / "triton_python_backend_stub"
    if not stub.is_file():
        raise PullError(f"the Triton wheel has no stub for Python {python}; use an interpreter it has one for")
    home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".triton-", dir=home))
    backend = scratch / "python"
    backend.mkdir()
    for file in (server / "backends" / "python").iterdir():
        if file.is_file():
            shutil.copy(file, backend / file.name)
    shutil.copy(stub, backend / stub.name)
    (backend / stub.name).chmod(0o755)
    scratch.chmod(0o755)
    try:
        scratch.rename(target)
    except OSError:
        shutil.rmtree(scratch)
        if not target.is_dir():
            raise
    return target


def _triton_commands(home: Path) -> Mapping[str, Sequence[str]]:
    binary = _wheel("pytriton") / "tritonserver" / "bin" / "tritonserver"
    return {"tritonserver": (str(binary), f"--backend-directory={triton_backends(home)}"), **_python()}


def _triton_environment() -> Mapping[str, str]:
    libraries = _wheel("pytriton").parent / "nvidia_pytriton.libs"
    interpreter = sysconfig.get_config_var("LIBDIR")
    packages = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    return {"LD_LIBRARY_PATH": f"{libraries}:{interpreter}", "PYTHONPATH": ":".join(packages)}


def _of_sources(repository: str, description: str) -> Image:
    """An image whose `python` finds the house's own packages in its working directory."""
    return Image(
        repository=repository,
        description=description,
        commands=lambda _home: _python(),
        environment=lambda: {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        default=("python",),
        directory=SOURCE_ROOT,
    )


TABLE: Final[Mapping[str, Image]] = {
    image.repository: image
    for image in (
        Image(
            repository=TRITON,
            description="tritonserver 2.51 with the Python backend, numpy and onnxruntime",
            commands=_triton_commands,
            environment=_triton_environment,
        ),
        _of_sources(SERVING, "python with the package serving in the working directory"),
        _of_sources(DRILLS, "python with the packages drills and signals in the working directory"),
        Image(
            repository=DEVICE_PLUGIN,
            description="registers the GPUs of a node with its kubelet",
            commands=lambda _home: {
                "nvidia-device-plugin": ("/bin/sh", "-c", "exec sleep infinity", "nvidia-device-plugin")
            },
            entrypoint=("nvidia-device-plugin",),
        ),
    )
}


def parse(reference: str) -> tuple[str, str, str]:
    """Repository, tag and digest of an image reference, absent parts empty; PullError when it is none."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise PullError(f'invalid image reference "{reference}"; write repository:tag@sha256:<64 hex>')
    return match["repository"], match["tag"] or "", match["digest"] or ""


def pull(reference: str) -> Image:
    """The table's entry for a reference; PullError when repository or digest are not the table's."""
    repository, _tag, digest = parse(reference)
    image = TABLE.get(repository)
    if image is None:
        raise PullError(f'repository "{repository}" does not exist; the lab has {", ".join(sorted(TABLE))}')
    if digest and digest != image.digest:
        raise PullError(
            f"{repository} has no manifest {digest}; the lab's image is {image.digest},"
            " as `python -m lab.kubernetes.images` prints it"
        )
    return image


def main() -> None:
    """Print every image of the table as `repository@digest`."""
    for repository in sorted(TABLE):
        sys.stdout.write(TABLE[repository].reference + os.linesep)


if __name__ == "__main__":
    main()
