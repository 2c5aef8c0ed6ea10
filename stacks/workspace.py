"""Where an environment's stacks, settings and states are; what a stack's settings come to.

Tracked settings are `stacks/config/Pulumi.<stack>.yaml`. An environment may override single keys of them in
`$TANDEM_HOME/<env>/config/Pulumi.<stack>.yaml`. What an engine gets is both, merged, in `.../config/merged/`.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import yaml

from stacks.contract import PROJECT, SITE_LAYERS, TRAFFIC_LAYER, StackName
from stacks.secret_marks import encrypted

LAB: Final = "lab"
PROD: Final = "prod"
ROOT: Final = Path(__file__).resolve().parents[1]
_SALT: Final = "encryptionsalt"
_ENCRYPTION: Final = ("secretsprovider", _SALT, "encryptedkey")
"""Top-level keys of a settings file that say how its `secure:` values are encrypted."""


class WorkspaceError(Exception):
    """Settings that are missing or cannot be used; the message names the file."""


@dataclass(frozen=True)
class Workspace:
    """One environment on this machine."""

    env: str
    root: Path
    home: Path
    _passing: dict[str, Mapping[str, Any]] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Settings that hold for one run of a stack only, by stack."""

    @classmethod
    def of(cls, env: str, root: Path = ROOT) -> Self:
        """The environment under `$TANDEM_HOME`, by default `.tandem` in the current directory."""
        return cls(env, root, Path(os.environ.get("TANDEM_HOME") or ".tandem").absolute())

    @property
    def tracked(self) -> Path:
        """Settings that are under version control."""
        return self.root / "stacks" / "config"

    @property
    def overrides(self) -> Path:
        """Settings of this machine's environment."""
        return self.home / self.env / "config"

    @property
    def states(self) -> Path:
        """States of the embedded engine."""
        return self.home / self.env / "state"

    def stacks(self) -> list[StackName]:
        """Every stack of the environment that has settings."""
        found = {
            path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in self._files(f"Pulumi.*.{self.env}.yaml")
        }
        if not found:
            raise WorkspaceError(
                f"environment {self.env!r} has no stack: neither {self.tracked} nor {self.overrides} holds a"
                f" Pulumi.<stack>.{self.env}.yaml; add one per stack, for example"
                f" Pulumi.storage-private.{self.env}.yaml"
            )
        return sorted((StackName.parse(name) for name in found), key=str)

    def _files(self, pattern: str) -> Iterable[Path]:
        return [*self.tracked.glob(pattern), *self.overrides.glob(pattern)]

    def order(
        self, only: Iterable[StackName] = (), layers: Iterable[str] = (), besides: Iterable[StackName] = ()
    ) -> list[list[StackName]]:
        """Stacks to bring up, one layer after the other; those of one layer do not need each other.

        `besides` are stacks that have no settings any more.
        """
        wanted, chosen = set(only), set(layers)
        stacks = sorted({*self.stacks(), *besides}, key=str)
        for stack in wanted - set(stacks):
            raise WorkspaceError(
                f"stack {stack} has no settings in {self.tracked};"
                f" there are {', '.join(map(str, stacks))}: name one of them"
            )
        for layer in chosen - {*SITE_LAYERS, TRAFFIC_LAYER}:
            raise WorkspaceError(
                f"{layer!r} is no layer; the layers are {', '.join(SITE_LAYERS)} and {TRAFFIC_LAYER}: name one of them"
            )
        kept = [each for each in stacks if (not wanted or each in wanted) and (not chosen or each.layer in chosen)]
        ordered = [[each for each in kept if each.layer == layer] for layer in (*SITE_LAYERS, TRAFFIC_LAYER)]
        return [layer for layer in ordered if layer]

    def settings(self, stack: StackName) -> dict[str, Any]:
        """What the stack's settings come to: overrides over tracked ones, and over both what is passing."""
        name = f"Pulumi.{stack}.yaml"
        tracked, override = (_read(folder / name).get("config") or {} for folder in (self.tracked, self.overrides))
        return {**tracked, **override, **self._passing.get(str(stack), {})}

    @contextmanager
    def passing(self, stack: StackName, settings: Mapping[str, Any]) -> Iterator[None]:
        """Put settings over the stack's own while the block runs; no file a person wrote is touched."""
        self._passing[str(stack)] = settings
        try:
            yield
        finally:
            del self._passing[str(stack)]

    def merge(self, stack: StackName, folder: str = "") -> Path:
        """Write the stack's settings, overrides over tracked ones key by key, and return the file.

        A file that is up to date is left alone: the CLI encrypts values in it, so it has a folder of its own.
        """
        merged = self.overrides / "merged" / folder
        tracked, override, before = (
            _read(each / f"Pulumi.{stack}.yaml") for each in (self.tracked, self.overrides, merged)
        )
        content: dict[str, Any] = {"config": self.settings(stack)}
        # A salt without an encrypted value is what some `pulumi stack init` left behind, with a passphrase of its own.
        ours = _ENCRYPTION if encrypted(content) else tuple(key for key in _ENCRYPTION if key != _SALT)
        encryption: dict[str, Any] = {key: before[key] for key in _ENCRYPTION if key in before}
        encryption |= {key: each[key] for each in (tracked, override) for key in ours if key in each}
        path = merged / f"Pulumi.{stack}.yaml"
        stamp = path.with_suffix(".sha256")
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        if not (path.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == digest):
            merged.mkdir(parents=True, exist_ok=True)
            replace_file(path, yaml.safe_dump({**content, **encryption}, sort_keys=False, allow_unicode=True))
            stamp.write_text(digest, encoding="utf-8")
        return path

    def encryption(self, path: Path) -> dict[str, str]:
        """How secrets are encrypted by who works with this settings file; nothing in it is one."""
        found = _read(path)
        return {key: str(found[key]) for key in _ENCRYPTION if key in found}

    def encrypt_alike(self, path: Path, encryption: Mapping[str, str]) -> None:
        """Have a merged settings file encrypt as another one does, unless it holds values encrypted its own way."""
        content = _read(path)
        if not encrypted(content.get("config") or {}):
            kept = {key: value for key, value in content.items() if key not in _ENCRYPTION}
            replace_file(path, yaml.safe_dump({**kept, **encryption}, sort_keys=False, allow_unicode=True))

    def between_steps(self, stack: StackName) -> bool:
        """Whether settings hold for the present run of the stack only: the first of two steps."""
        return str(stack) in self._passing

    def plain_secrets(self, path: Path) -> dict[str, str]:
        """Settings that Pulumi.yaml declares secret and a settings file holds in plain text."""
        declared = _read(self.root / "Pulumi.yaml").get("config") or {}
        secret = {
            key if ":" in key else f"{PROJECT}:{key}"
            for key, spec in declared.items()
            if isinstance(spec, Mapping) and spec.get("secret")
        }
        config = _read(path).get("config") or {}
        return {key: str(value) for key, value in config.items() if key in secret and not isinstance(value, Mapping)}

    def engine_environment(self) -> dict[str, str]:
        """What an engine needs in its environment to reach the lab; nothing outside the lab."""
        if self.env != LAB:
            return {}
        path = self.home / "lab" / "lab.json"
        try:
            return {
                key: str(value)
                for key, value in json.loads(path.read_text(encoding="utf-8"))["engine_environment"].items()
            }
        except FileNotFoundError as error:
            raise WorkspaceError(f"the lab is not up ({path} is not there); start it: tandem lab up") from error
        except (ValueError, KeyError, AttributeError) as error:
            raise WorkspaceError(
                f"{path} does not say how to reach the lab ({error!r}); start it anew: tandem lab down, tandem lab up"
            ) from error


def replace_file(path: Path, text: str) -> None:
    """Write a file only its owner may read, in one step."""
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    temporary.touch(mode=0o600)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise WorkspaceError(f"{path} is no YAML: {error}; correct the file") from error
    if not isinstance(content, dict):
        raise WorkspaceError(
            f"{path} holds a {type(content).__name__}; a settings file is a mapping with `config:`: correct the file"
        )
    return content
