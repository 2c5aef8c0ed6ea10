"""One pass over the program: every resource it registers, every output, then what it no longer declares."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final

from lab.engine.difference import Difference, compare, keep_ignored
from lab.engine.errors import EngineError, ProgramError, ProviderError, ResourceError
from lab.engine.folder import StateFolder
from lab.engine.goal import Goal, referenced_stack, require_provider, unsupported
from lab.engine.graph import Graph
from lab.engine.lifecycle import Lifecycle
from lab.engine.loopback import refuse_others
from lab.engine.plugin import Plugin
from lab.engine.providers import Providers
from lab.engine.removal import refuse_protected, waves
from lab.engine.report import Reporter, Step
from lab.engine.snapshot import Snapshot
from lab.engine.state import Operation, Resource, now
from lab.engine.urn import PROVIDER_PREFIX, STACK_TYPE, former_urns
from lab.engine.values import has_secret

PARALLEL: Final = 8
GET_RESOURCE: Final = "pulumi:pulumi:getResource"


class Deployment:
    """The engine behind one run of the program. Its methods are called from the monitor's threads."""

    def __init__(
        self,
        stack: str,
        project: str,
        snapshot: Snapshot,
        folder: StateFolder,
        reporter: Reporter,
        *,
        dry_run: bool,
        graph: Graph,
    ) -> None:
        """A dry run fills `graph`; a real one has to keep to it."""
        self.stack = stack
        self.project = project
        self.dry_run = dry_run
        self.steps: list[Step] = []
        self.failure: EngineError | None = None
        self.in_flight = 0
        self.last_activity = time.monotonic()
        self._snapshot = snapshot
        self._folder = folder
        self._reporter = reporter
        self._graph = graph
        self._lock = threading.Lock()
        self._seen: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._root_outputs: dict[str, Any] | None = None
        self.providers = Providers(snapshot)
        self._lifecycle = Lifecycle(snapshot, self.providers, self._record, dry_run=dry_run)

    @property
    def counts(self) -> Counter[str]:
        """Steps by operation."""
        return Counter(step.op for step in self.steps if step.op not in {"delete-replaced", "read"})

    def fail(self, error: EngineError) -> None:
        """End the run with the first failure; nothing new begins after it."""
        with self._lock:
            self.failure = self.failure or error

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request of the program, so that a silent program can be told from a waiting one."""
        with self._lock:
            self.in_flight += 1
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1
                self.last_activity = time.monotonic()

    def _record(self, step: Step) -> None:
        with self._lock:
            self.steps.append(step)
        self._reporter.step(step)

    def _agree(self, urn: str, role: str, properties: dict[str, Any], edges: Mapping[str, list[str]]) -> None:
        if self.dry_run:
            self._graph.record(urn, role, properties, edges)
        else:
            self._graph.verify(urn, role, properties, edges)

    def register(self, goal: Goal) -> Resource:
        """Make the resource what the program declares; its id is empty while it is unknown."""
        with self._lock:
            if goal.urn in self._seen:
                raise ResourceError(
                    goal.urn,
                    "two resources of the program have this URN; a URN is unique: give one of them another name",
                )
            self._seen.add(goal.urn)
        self._agree(goal.urn, "inputs", goal.inputs, goal.property_dependencies)
        old, aliases = self._find(goal)
        inputs = keep_ignored(goal.inputs, old.inputs, goal.ignore_changes) if old else goal.inputs
        new = Resource(
            goal.urn, goal.type, goal.custom, inputs=inputs, parent=goal.parent, protect=goal.protect,
            dependencies=goal.dependencies, property_dependencies=goal.property_dependencies, provider=goal.provider,
            additional_secret_outputs=goal.additional_secret_outputs, aliases=aliases,
            custom_timeouts=goal.custom_timeouts, retain_on_delete=goal.retain_on_delete,
            deleted_with=goal.deleted_with, ignore_changes=goal.ignore_changes,
            replace_on_changes=goal.replace_on_changes,
        )  # fmt: skip
        if not goal.custom:
            return self._component(new, old)
        if goal.type.startswith(PROVIDER_PREFIX):
            return self._provider(new, old)
        require_provider(goal.provider, goal.urn)
        return self._lifecycle.apply(goal, new, old, self._snapshot.interruption(goal.urn))

    def _find(self, goal: Goal) -> tuple[Resource | None, list[str]]:
        """The recorded resource under its URN or a former one."""
        with self._lock:
            renamed = dict(self._renamed)
        aliases = former_urns(goal.urn, goal.parent, goal.aliases, renamed, kind=goal.type, name=goal.name)
        found = self._snapshot.find(goal.urn)
        if found is None:
            for former in aliases:
                found = self._snapshot.find(former)
                if found is None:
                    continue
                with self._lock:
                    if former in self._seen or former in self._renamed.values():
                        raise ResourceError(
                            goal.urn,
                            f"its alias {former} is another resource of this program; an alias is a former name:"
                            " remove it",
                        )
                    self._renamed[goal.urn] = former
                self._snapshot.rename(former, goal.urn)
                break
        return found, aliases

    def _component(self, new: Resource, old: Resource | None) -> Resource:
        difference = compare(old.inputs, new.inputs) if old else Difference()
        op = "create" if old is None else "update" if difference.changed else "same"
        new.outputs = old.outputs if old else {}
        new.created, new.modified = (old.created, old.modified) if old else (now(), now())
        self._snapshot.end(None, put=new, drop=old)
        self._record(Step(op, new.urn, new.type, "", old, new, difference))
        return new

    def _provider(self, new: Resource, old: Resource | None) -> Resource:
        package = new.type.removeprefix(PROVIDER_PREFIX)
        refuse_others(new.urn, package, new.inputs)
        plugin = Plugin(new.urn, old.id if old else str(uuid.uuid4()))
        new.inputs = plugin.check_config(old, new.inputs)
        refuse_others(new.urn, package, new.inputs)
        difference = Difference()
        if old is not None and old.inputs != new.inputs:
            difference = plugin.diff_config(old, new.inputs)
        op = (
            "create"
            if old is None
            else "replace"
            if difference.replaces
            else "update"
            if difference.changed
            else "same"
        )
        if op == "replace":
            refuse_protected([old] if old is not None and new.protect else [], "replaced")
            plugin.id = str(uuid.uuid4())
        plugin.configure(new.inputs)
        self.providers.add(plugin)
        new.id, new.outputs = plugin.id, dict(new.inputs)
        new.created = old.created if old is not None and op != "replace" else now()
        new.modified = old.modified if old is not None and op == "same" else now()
        replaced = op == "replace"
        self._snapshot.end(None, put=new, drop=None if replaced else old, retire=old if replaced else None)
        self._record(Step(op, new.urn, new.type, "", old, new, difference))
        return new

    def read_stack(self, urn: str, request: Any) -> dict[str, Any]:
        """Outputs of another stack of the same environment."""
        name = referenced_stack(request.id, self.project)
        if name == self.stack:
            raise ResourceError(urn, f"stack {name!r} refers to itself; a reference names another stack: correct it")
        outputs = self._folder.outputs(name)
        secrets = sorted(key for key, value in outputs.items() if has_secret(value))
        state = {"name": request.id, "outputs": outputs, "secretOutputNames": secrets}
        new = Resource(
            urn, request.type, custom=True, external=True, id=request.id, parent=request.parent,
            inputs={"name": request.id}, outputs=state, dependencies=sorted(request.dependencies),
            created=now(), modified=now(),
        )  # fmt: skip
        with self._lock:
            if urn in self._seen:
                raise ResourceError(urn, "two stack references have this URN; a URN is unique: share the first one")
            self._seen.add(urn)
        self._snapshot.end(None, put=new, drop=self._snapshot.find(urn))
        self._record(Step("read", urn, new.type, "", None, new))
        return state

    def register_outputs(self, urn: str, outputs: dict[str, Any]) -> None:
        """Outputs of a component; the stack's own count once the program has ended well."""
        self._agree(urn, "outputs", outputs, {})
        resource = self._snapshot.declared(urn)
        if resource is None:
            raise ProgramError(f"{urn}: outputs of a resource that was never registered; register the component first")
        if resource.type == STACK_TYPE:
            self._root_outputs = outputs
        elif resource.outputs != outputs:
            resource.outputs = outputs
            self._snapshot.save()

    def invoke(self, request: Any, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """A function's result; None while it is unknown."""
        if request.tok == GET_RESOURCE:
            found = self._snapshot.declared(str(arguments.get("urn")))
            if found is None:
                raise ProgramError(
                    f"{GET_RESOURCE}: this run has registered no {arguments.get('urn')}; only its own resources can"
                    " be looked up"
                )
            return {"urn": found.urn, "id": found.id, "state": found.outputs}
        if request.tok.startswith("pulumi:pulumi:"):
            raise ProgramError(unsupported(f"function {request.tok}"))
        require_provider(request.provider, f"function {request.tok}")
        plugin = self.providers.get(request.provider, f"function {request.tok}")
        return plugin.invoke(request.tok, arguments, preview=self.dry_run) if plugin.configured else None

    def finish(self) -> None:
        """Keep the stack's outputs and remove what the program no longer declares."""
        root = next(
            (each for each in self._snapshot.state().resources if each.type == STACK_TYPE and each.urn in self._seen),
            None,
        )
        if root is not None and self._root_outputs is not None:
            root.outputs = self._root_outputs
            self._snapshot.save()
        for operation in list(self._snapshot.interrupted.values()):
            if operation.type == "creating" and not self.dry_run:
                self._recover(operation)
        self._remove(self._snapshot.remaining())

    def _recover(self, operation: Operation) -> None:
        try:
            self._lifecycle.recover(operation)
        except ResourceError as error:
            if isinstance(error, ProviderError) and error.uncertain:
                raise
            self._reporter.log(
                "warning",
                f"{error}; it was being created when an earlier run was killed: remove by hand what that run left,"
                " if anything",
            )

    def _remove(self, resources: list[Resource]) -> None:
        refuse_protected([each for each in resources if not each.delete], "deleted")
        gone = {each.urn for each in resources}
        with ThreadPoolExecutor(PARALLEL) as pool:
            for wave in waves(resources):
                futures = [pool.submit(self._lifecycle.remove, each, gone) for each in wave]
                try:
                    failures = [future.exception() for future in futures]
                except KeyboardInterrupt:
                    # Deletions in flight end and are recorded; the others are for the next run.
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                for failure in failures:
                    if failure is not None:
                        raise failure
        self._snapshot.interrupted.clear()
        self._snapshot.save()
