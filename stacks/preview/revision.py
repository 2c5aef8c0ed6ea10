"""One revision's stacks, evaluated layer by layer: programs and settings as they stand in a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from infra.policies.declared import Declared, StackDeclared
from stacks.contract import PROJECT, StackName
from stacks.preview import PreviewError
from stacks.preview.credentials import ENCRYPTED, misplaced, texts
from stacks.secret_marks import encrypted, is_ciphertext, marked
from stacks.workspace import Workspace, WorkspaceError

EVALUATOR: Final = Path(__file__).with_name("evaluator.py")
GIT_SECONDS: Final = 60


@dataclass(frozen=True)
class Settings:
    """One stack's settings as its program gets them, defaults and all."""

    values: Mapping[str, str]
    secret: frozenset[str]
    """Keys of those that are secret."""
    given: frozenset[str]
    """Keys of those that stand in a file; the others have their default."""


@dataclass(frozen=True)
class Evaluated:
    """What one revision declares, stack by stack, and what kept some from being evaluated."""

    stacks: dict[str, StackDeclared]
    errors: dict[str, list[str]] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    """Every value that may be printed nowhere."""
    settings: dict[str, Settings] = field(default_factory=dict)
    """What each stack's program was given."""


@contextmanager
def checked_out(root: Path, revision: str) -> Iterator[Path]:
    """A folder with the revision's files, gone afterwards. Raises PreviewError for one git does not know."""
    with tempfile.TemporaryDirectory(prefix="tandem-preview-") as folder:
        archive = Path(folder) / "revision.tar"
        command = ["git", "-C", str(root), "archive", "--output", str(archive), revision]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=False)
        if done.returncode != 0:
            raise PreviewError(
                f"revision {revision!r} cannot be read: {done.stderr.strip()}; name a commit, branch or tag of this"
                " repository, and fetch it first"
            )
        target = Path(folder) / "files"
        target.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(target)], timeout=GIT_SECONDS, check=True)
        yield target


def evaluate(workspace: Workspace, layers: Sequence[Sequence[StackName]]) -> Evaluated:
    """Every stack of the layers, which come in the order of their references. Raises PreviewError.

    A stack that cannot be evaluated is in `errors`; what refers to it says so in its turn.
    """
    declared = _declared_settings(workspace.root)
    stacks: dict[str, StackDeclared] = {}
    errors: dict[str, list[str]] = {}
    settings: dict[str, Settings] = {}
    secrets: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="tandem-preview-") as folder, _evaluator(workspace.root, folder) as ask:
        for layer in layers:
            jobs = []
            for stack in layer:
                config, keys = _config(workspace, stack, declared)
                settings[str(stack)] = Settings(config, frozenset(keys), frozenset(workspace.settings(stack)))
                secrets.update(text for key in keys for text in texts(config[key]))
                secrets.update(text for value in config.values() for text in misplaced(value))
                jobs.append({"name": str(stack), "config": config, "secret_keys": keys, "below": list(stacks)})
            ask(jobs)
            for job in jobs:
                name = str(job["name"])
                found = _result(Path(folder) / f"{name}.json")
                if found.get("errors"):
                    errors[name] = [str(each) for each in found["errors"]]
                    continue
                stacks[name] = read(name, found)
                for resource in stacks[name].resources:
                    secrets.update(texts([_at(resource.inputs, path) for path in resource.secrets]))
    return Evaluated(stacks, errors, frozenset(secrets), settings)


@contextmanager
def _evaluator(root: Path, folder: str) -> Iterator[Any]:
    process = subprocess.Popen(
        # -P: a program's folder may hold modules that would hide the standard library's (platform.py).
        [sys.executable, "-P", str(EVALUATOR), str(root), folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )

    def ask(jobs: Iterable[Mapping[str, Any]]) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - opened as pipes above
        try:
            process.stdin.write(json.dumps(list(jobs)) + "\n")
            process.stdin.flush()
        except BrokenPipeError as error:
            raise PreviewError("the evaluator of programs died; run the preview again") from error
        if process.stdout.readline().strip() != "done":
            raise PreviewError(f"the evaluator of programs ended with exit code {process.wait(10)}; run it again")

    try:
        yield ask
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its programs too: they would write where nobody cleans up
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _result(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {
            "errors": ["its program ended without a result, or took longer than a program may: find the wait in it"]
        }
    return found


def _declared_settings(root: Path) -> dict[str, Any]:
    path = root / "Pulumi.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (FileNotFoundError, yaml.YAMLError) as error:
        raise PreviewError(f"{path} cannot be read: {error}; a revision needs one") from error
    return {
        key if ":" in key else f"{PROJECT}:{key}": spec if isinstance(spec, dict) else {"default": spec}
        for key, spec in (content.get("config") or {}).items()
    }


def _config(workspace: Workspace, stack: StackName, declared: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """A stack's settings as its program gets them, and which of them are secret."""
    try:
        given = workspace.settings(stack)
    except WorkspaceError as error:
        raise PreviewError(f"{stack}: {error}") from error
    values: dict[str, Any] = {
        key: spec["value"] if "value" in spec else spec.get("default")
        for key, spec in declared.items()
        if spec.get("value", spec.get("default")) is not None
    }
    values |= given
    ciphered = {key for key, value in values.items() if encrypted(value)}
    secret = sorted(ciphered | {key for key, spec in declared.items() if spec.get("secret") and key in values})
    return {key: _text(_decrypted(value)) for key, value in values.items()}, secret


def _decrypted(value: Any) -> Any:
    if isinstance(value, dict):
        return ENCRYPTED if is_ciphertext(value) else {key: _decrypted(item) for key, item in value.items()}
    return [_decrypted(item) for item in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, sort_keys=True)


def read(name: str, found: Mapping[str, Any]) -> StackDeclared:
    """An evaluator's result as rules and previews read it."""
    resources = []
    for each in found["resources"]:
        inputs, secrets = plain(each["inputs"])
        resources.append(
            Declared(
                stack=name,
                type=each["type"],
                name=each["name"],
                urn=each["urn"],
                parent=each["parent"],
                inputs=inputs,
                secrets=secrets,
                protect=bool(each["protect"]),
                depends_on=frozenset(each["depends_on"]),
                ignores=frozenset(each["ignores"]),
                provider=each["provider"],
            )
        )
    outputs, secret_outputs = plain(found["outputs"])
    return StackDeclared(name, tuple(resources), outputs, secret_outputs)


def plain(properties: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """Properties without marks of secrets, and the paths where those were."""
    secrets: set[str] = set()

    def opened(value: Any, path: str) -> Any:
        if isinstance(value, Mapping):
            if marked(value):
                secrets.add(path)
                return opened(value.get("value"), path)
            return {key: opened(item, f"{path}.{key}" if path else key) for key, item in value.items()}
        if isinstance(value, list):
            return [opened(item, f"{path}[{number}]") for number, item in enumerate(value)]
        return value

    return {key: opened(value, key) for key, value in properties.items()}, frozenset(secrets)


def _at(inputs: Mapping[str, Any], path: str) -> Any:
    """The value at a path written like data.password or rules[0].key."""
    value: Any = inputs
    for part in path.replace("[", ".[").split("."):
        value = value[int(part[1:-1])] if part.startswith("[") else value[part]
    return value
