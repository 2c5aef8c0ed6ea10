"""Ways back: exports of every stack's state outside of the backend, a lost backend filled again, a dead site forgotten.

An export is signed. On this machine it lies in `$TANDEM_HOME/<env>/exports`, readable by its owner only; outside of the
lab also in every site's signal bucket, where nothing goes whose secrets are not encrypted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from signals import SignalError, export, snapshot
from signals.export import Export
from signals.store import SignalStore
from stacks import engine as engines
from stacks.checkpoint import Checkpoint, Record, name
from stacks.contract import StackName
from stacks.runs import Engine, EngineError, StackFailed
from stacks.workspace import LAB, Workspace

Say = Callable[[str], None]
Stacks = Sequence[StackName]

CLUSTER_LAYERS: Final = ("pool", "platform", "serving")
"""Layers that hold something in a site's cluster, in the order they come up."""
POOL: Final = "pool"
MANAGEMENT: Final = "management"
"""The provider of a private pool's management cluster: another cluster than the one that is dead."""
BEFORE: Final = "before-forget"


@dataclass(frozen=True)
class Forgotten:
    """What was struck from one stack's state."""

    stack: StackName
    names: list[str]
    kept: int
    """Resources that are recorded still."""
    before: Path
    """The state as it was, exported."""


@dataclass(frozen=True)
class Recovery:
    """An environment's states and their exports, through one engine."""

    workspace: Workspace
    engine: Engine
    say: Say

    @property
    def folder(self) -> Path:
        """The exports on this machine."""
        return export.local(self.workspace.home, self.workspace.env)

    def checkpoint(self, stack: StackName) -> Checkpoint | None:
        """What is recorded of the stack; None when nothing is. Raises StackFailed."""
        text = self.engine.state(stack)
        return None if text is None else Checkpoint.parse(text, f"the state of {stack}")

    @contextmanager
    def kept(self, layers: Sequence[Stacks], stores: Callable[[], Sequence[SignalStore]]) -> Iterator[None]:
        """Refuse to work on stacks the backend has lost; export them all when the work is over, well or not.

        Raises EngineError. An interrupted run exports nothing: its engine is asked to end.
        """
        stacks = list(chain.from_iterable(layers))
        self._refuse_lost(stacks)
        try:
            yield
        except (EngineError, SignalError):
            self.write(stacks, stores)
            raise
        self.write(stacks, stores)

    def _refuse_lost(self, stacks: Stacks) -> None:
        def lost(stack: StackName) -> str:
            known = self._last(stack)
            if known is None or not (held := Checkpoint.parse(known.state, f"the export of {stack}").resources):
                return ""
            here = self.checkpoint(stack)
            if here is not None and here.records:
                return ""
            return f"{stack} ({len(held)} resources at {known.taken})"

        found = [each for each in engines.in_layers(self.engine, [stacks], lost).values() if each]
        if found:
            raise EngineError(
                f"the state backend records nothing of {', '.join(found)}; whatever is done now would make them a"
                f" second time, or leave them: tandem state import --env {self.workspace.env}. If something else than"
                f" tandem has destroyed them, delete their files in {self.folder}"
            )

    def _last(self, stack: StackName) -> Export | None:
        try:
            return export.read(self.folder, self.workspace.env, str(stack), self.workspace.home)
        except SignalError as error:
            self.say(f"{error}; nobody can say whether the state backend has lost {stack}")
            return None

    def refuse_protected(self, layers: Sequence[Stacks]) -> None:
        """Raise EngineError, naming them all, when anything in these stacks refuses deletion: before the first goes."""

        def named(stack: StackName) -> list[str]:
            here = self.checkpoint(stack)
            return [] if here is None else here.protected

        stacks = list(chain.from_iterable(layers))
        found = {stack: names for stack, names in engines.in_layers(self.engine, [stacks], named).items() if names}
        if found:
            listed = "; ".join(f"{stack}: {', '.join(names)}" for stack, names in sorted(found.items()))
            raise EngineError(
                f"protected: {listed}. What is protected is not destroyed, and neither was anything else: set `protect:"
                f" false` in the settings of these stacks, `tandem up --env {self.workspace.env}`, then destroy again"
            )

    def write(self, stacks: Stacks, stores: Callable[[], Sequence[SignalStore]] = tuple) -> list[Path]:
        """Export the stacks' states; what does not work is said and stops nothing."""
        revision = snapshot.revision(self.workspace.root)
        found: list[SignalStore] = []
        if self.workspace.env != LAB:
            try:
                found = list(stores())
            except EngineError as error:
                self.say(f"no state is exported to the stores: {error}")

        def one(stack: StackName) -> Path | None:
            try:
                return self._write(stack, revision, found)
            except (EngineError, SignalError, OSError, ValueError) as error:
                self.say(f"the state of {stack} was not exported: {error}")
                return None

        return [path for path in engines.in_layers(self.engine, [stacks], one).values() if path]

    def _write(self, stack: StackName, revision: str, stores: Sequence[SignalStore]) -> Path | None:
        text = self.engine.state(stack)
        if text is None:
            return None
        document = export.sign(Export.of(self.workspace.env, str(stack), revision, text), self.workspace.home)
        path = export.write(document, self.folder, str(stack))
        if stores and Checkpoint.parse(text, f"the state of {stack}").has_plain_secrets:
            self.say(f"the state of {stack} holds secrets in plain text: it is exported to this machine only")
            return path
        for store in stores:
            try:
                store.put(export.key_of(str(stack)), document)
            except SignalError as error:
                self.say(f"the state of {stack} was not exported to the store of {store.site}: {error}")
        return path

    def fetch(self, stacks: Stacks, stores: Sequence[SignalStore], folder: Path) -> list[Export]:
        """Write the newest export of each stack that any of the stores has into a folder. Raises EngineError."""
        newest: dict[str, tuple[Export, bytes]] = {}
        for store in stores:
            for stack in stacks:
                key = export.key_of(str(stack))
                try:
                    stored = store.get(key)
                    if stored is None:
                        continue
                    where, env, home = store.place(key), self.workspace.env, self.workspace.home
                    seen = export.verify(stored.body, env, str(stack), home, where=where)
                except SignalError as error:
                    self.say(str(error))
                    continue
                known = newest.get(str(stack))
                if known is None or seen.taken > known[0].taken:
                    newest[str(stack)] = (seen, stored.body)
        if not newest:
            asked = ", ".join(store.site for store in stores) or "none"
            raise EngineError(f"no store holds an export (asked: {asked}); `tandem up` outside of the lab writes them")
        for stack_name, (_, document) in newest.items():
            export.write(document, folder, stack_name)
        return [seen for seen, _ in newest.values()]

    def restore(self, stacks: Stacks, folder: Path, *, over: bool) -> dict[StackName, Export]:
        """Fill the backend from the exports in a folder; a stack that is recorded there stays, unless `over`.

        Everything is read and verified before anything is recorded. Raises EngineError, SignalError.
        """
        env, home = self.workspace.env, self.workspace.home
        found = {stack: each for stack in stacks if (each := export.read(folder, env, str(stack), home))}
        if not found:
            raise EngineError(
                f"{folder} holds no export of {', '.join(map(str, stacks))}; name the folder that does: --from FOLDER,"
                f" or fetch them from the stores: tandem state fetch --env {env} --to FOLDER"
            )
        for stack, each in found.items():
            Checkpoint.parse(each.state, f"the export of {stack}")
            here = None if over else self.checkpoint(stack)
            if here is not None and here.resources:
                raise StackFailed(
                    stack,
                    f"the backend records {len(here.resources)} resources of it; an import takes their place: leave it"
                    " out with --stack, or, if what is recorded is wrong, --over",
                )
        for stack, each in found.items():
            self.engine.restore(stack, each.state)
        return found

    def forget(self, stacks: Stacks, *, management: bool = False) -> list[Forgotten]:
        """Strike what lived in the site's cluster from the stacks' states; nothing is asked of the cluster or a cloud.

        With `management` also what lived in its management cluster. The states as they were are kept beside the
        exports. Raises StackFailed.
        """
        env, home = self.workspace.env, self.workspace.home
        done = []
        for stack in stacks:
            here = self.checkpoint(stack)
            if here is None:
                continue
            left, gone = here.without_cluster(pool=stack.layer == POOL, management=None if management else MANAGEMENT)
            if left.records == here.records:
                continue
            before = Export.of(env, str(stack), snapshot.revision(self.workspace.root), here.text)
            path = export.write(export.sign(before, home), self.folder / BEFORE, str(stack))
            self.engine.restore(stack, left.text)
            done.append(Forgotten(stack, [_named(each) for each in gone], len(left.resources), path))
        return done


def _named(record: Record) -> str:
    return name(record) + (" (protected)" if record.get("protect") else "")
