"""One custom resource from its record to its declaration: created, left alone, updated, replaced or deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from lab.engine.answers import Made
from lab.engine.difference import Difference, changed_paths, compare, covers, parse_path
from lab.engine.errors import ProviderError, ResourceError
from lab.engine.goal import Goal
from lab.engine.plugin import Plugin
from lab.engine.providers import Providers
from lab.engine.removal import dependents_to_replace, refuse_protected, waves
from lab.engine.report import Step
from lab.engine.snapshot import Snapshot
from lab.engine.state import Operation, Resource, now
from lab.engine.values import secret


class Lifecycle:
    """Steps on custom resources; in a dry run it asks the providers and changes nothing."""

    def __init__(
        self, snapshot: Snapshot, providers: Providers, record: Callable[[Step], None], *, dry_run: bool
    ) -> None:
        self._snapshot = snapshot
        self._providers = providers
        self._record = record
        self._dry_run = dry_run

    def apply(self, goal: Goal, new: Resource, old: Resource | None, interrupted: Operation | None) -> Resource:
        """Bring the resource to what `new` declares; `interrupted` is what an earlier run began on it."""
        plugin = self._providers.get(goal.provider, goal.urn)
        if not (plugin.configured or self._dry_run):
            raise ResourceError(
                plugin.urn,
                "its settings are still unknown in a real run; an output it is made from was not set by its provider",
            )
        live = None if old is None or old.pending_replacement else old
        if (
            live is not None
            and interrupted is not None
            and interrupted.type == "deleting"
            and plugin.configured
            and not plugin.exists(live, goal.urn)
        ):
            live = None
        if live is None:
            new.inputs = self._check(plugin, new, None, old.id if old else "")
            op = "replace" if old is not None and old.pending_replacement else "create"
            return self._create(new, plugin, Step(op, new.urn, new.type, new.provider, old, new), drop=old)
        declared = new.inputs
        new.inputs = self._check(plugin, new, live, "")
        difference = self._compare(plugin, goal, new, live)
        if difference.replaces:
            new.inputs = declared
            return self._replace(goal, new, live, plugin, difference)
        if interrupted is not None and interrupted.type == "creating":
            self.recover(interrupted)
        if difference.changed or live.init_errors or (interrupted is not None and interrupted.type == "updating"):
            return self._update(new, live, plugin, difference)
        new.id, new.outputs = live.id, live.outputs
        new.created, new.modified = live.created, live.modified
        return self._done(Step("same", new.urn, new.type, new.provider, live, new), None, drop=live)

    def _check(self, plugin: Plugin, new: Resource, old: Resource | None, replaced: str) -> dict[str, object]:
        if not plugin.configured:
            return new.inputs
        # The same name for the same attempt: a create repeated after a crash finds what the first one made.
        seed = hashlib.sha256(f"{new.urn}\n{replaced}".encode()).digest()
        return plugin.check(new.urn, old.inputs if old else None, new.inputs, seed)

    def _compare(self, plugin: Plugin, goal: Goal, new: Resource, old: Resource) -> Difference:
        if plugin.configured:
            difference = plugin.diff(old, new.urn, new.inputs, goal.ignore_changes)
        else:
            difference = compare(old.inputs, new.inputs)
        if difference.changed and goal.replace_on_changes:
            paths = [*changed_paths(old.inputs, new.inputs), *map(parse_path, difference.details)]
            patterns = [parse_path(each) for each in goal.replace_on_changes]
            difference.replace_for(
                dict.fromkeys(str(path[0]) for path in paths if path and any(covers(each, path) for each in patterns))
            )
        if old.provider != goal.provider:
            difference.replace_for(["provider"])
        return difference

    def _finish(self, new: Resource, made: Made) -> None:
        new.outputs = {
            key: secret(value) if key in new.additional_secret_outputs else value for key, value in made.outputs.items()
        }
        new.init_errors = list(made.errors)
        new.modified = now()
        new.created = new.created or new.modified

    def _done(
        self, step: Step, operation: Operation | None, *, drop: Resource | None = None, retire: Resource | None = None
    ) -> Resource:
        new = step.new
        assert new is not None  # noqa: S101 - every step that ends here made something
        self._snapshot.end(operation, put=new, drop=drop, retire=retire)
        self._record(step)
        if new.init_errors:
            raise ResourceError(new.urn, f"it is there but not ready: {'; '.join(new.init_errors)}")
        return new

    def _create(
        self, new: Resource, plugin: Plugin, step: Step, *, drop: Resource | None = None, retire: Resource | None = None
    ) -> Resource:
        timeout = new.custom_timeouts.get("create")
        if self._dry_run:
            previewed = plugin.configured and plugin.previews
            self._finish(
                new,
                plugin.create(new.urn, new.inputs, timeout, preview=True) if previewed else Made("", dict(new.inputs)),
            )
            return self._done(step, None, drop=drop, retire=retire)
        operation = self._snapshot.begin("creating", replace(new))
        try:
            made = plugin.create(new.urn, new.inputs, timeout, preview=False)
        except ProviderError as error:
            self._snapshot.end(operation, uncertain=error.uncertain)
            raise
        if not made.id:
            self._snapshot.end(operation, uncertain=True)
            raise ResourceError(
                new.urn, "its provider answered Create without an id; a created resource has one: correct the provider"
            )
        new.id = made.id
        self._finish(new, made)
        return self._done(step, operation, drop=drop, retire=retire)

    def _update(self, new: Resource, old: Resource, plugin: Plugin, difference: Difference) -> Resource:
        step = Step("update", new.urn, new.type, new.provider, old, new, difference)
        timeout = new.custom_timeouts.get("update")
        new.id, new.created = old.id, old.created
        if self._dry_run and not (plugin.configured and plugin.previews):
            self._finish(new, Made(old.id, dict(new.inputs)))
            return self._done(step, None, drop=old)
        operation = None if self._dry_run else self._snapshot.begin("updating", replace(new))
        try:
            made = plugin.update(old, new.urn, new.inputs, new.ignore_changes, timeout, preview=self._dry_run)
        except ProviderError as error:
            if operation is not None:
                self._snapshot.end(operation, uncertain=error.uncertain)
            raise
        self._finish(new, made)
        return self._done(step, operation, drop=old)

    def _replace(self, goal: Goal, new: Resource, old: Resource, plugin: Plugin, difference: Difference) -> Resource:
        # Like the real engine: unprotecting and replacing may happen in one run.
        refuse_protected([old] if goal.protect else [], "replaced")
        step = Step("replace", new.urn, new.type, new.provider, old, new, difference)
        new.inputs = self._check(plugin, new, None, old.id)
        delete_first = goal.delete_before_replace if goal.delete_before_replace is not None else difference.delete_first
        if not delete_first:
            return self._create(new, plugin, step, retire=old)
        doomed = dependents_to_replace(old, self._snapshot.remaining(), self._ask)
        refuse_protected(doomed, "replaced")
        for wave in waves(doomed):
            for each in wave:
                self._unmake(each)
        self._unmake(old)
        return self._create(new, plugin, step, drop=old)

    def _ask(self, dependent: Resource, inputs: dict[str, object]) -> Difference:
        plugin = self._providers.get(dependent.provider, dependent.urn)
        return (
            plugin.diff(dependent, dependent.urn, inputs, dependent.ignore_changes)
            if plugin.configured
            else Difference()
        )

    def _unmake(self, old: Resource) -> None:
        """Delete it, but keep the record that it has to be made again."""
        if self._dry_run or old.retain_on_delete:
            self._snapshot.end(None, unmake=old)
            return
        operation = self._snapshot.begin("deleting", old)
        self._delete(old, operation)
        self._snapshot.end(operation, unmake=old)
        self._record(Step("delete-replaced", old.urn, old.type, old.provider, old))

    def remove(self, old: Resource, gone: set[str]) -> None:
        """Delete it for good; what is deleted with one of `gone`, the URNs that go in the same run, is left to it."""
        touch = old.custom and not (old.is_provider or old.external or old.pending_replacement or old.retain_on_delete)
        operation = None
        if touch and old.deleted_with not in gone and not self._dry_run:
            operation = self._snapshot.begin("deleting", old)
            self._delete(old, operation)
        self._snapshot.end(operation, drop=old)
        if not old.external:
            self._record(Step("delete-replaced" if old.delete else "delete", old.urn, old.type, old.provider, old))

    def _delete(self, old: Resource, operation: Operation) -> None:
        try:
            self._providers.get(old.provider, old.urn).delete(old, old.custom_timeouts.get("delete"))
        except ResourceError as error:
            # Whatever the provider says of a failed deletion, it may have begun: the next run asks what is there.
            self._snapshot.end(operation, uncertain=isinstance(error, ProviderError))
            raise

    def recover(self, operation: Operation) -> None:
        """Find what an interrupted create left behind: create it again, which adopts it, and mark it for deletion."""
        lost = operation.resource
        if self._dry_run:
            return
        plugin = self._providers.get(lost.provider, lost.urn)
        made = plugin.create(lost.urn, lost.inputs, lost.custom_timeouts.get("create"), preview=False)
        known = self._snapshot.find(lost.urn)
        if made.id and (known is None or known.id != made.id):
            self._finish(lost, made)
            lost.id, lost.delete = made.id, True
            self._snapshot.adopt(lost)
