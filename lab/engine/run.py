"""The four things the embedded engine does to a stack: up, preview, destroy, outputs."""

from __future__ import annotations

import functools
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from lab.engine.child import IDLE_SECONDS, Child
from lab.engine.deployment import Deployment
from lab.engine.errors import EngineError
from lab.engine.folder import StateFolder
from lab.engine.graph import Graph
from lab.engine.monitor import serve
from lab.engine.project import Project, Settings
from lab.engine.report import Reporter, Step
from lab.engine.snapshot import Snapshot
from lab.engine.urn import STACK_TYPE

_SETTLE_SECONDS: Final = 15.0
"""How long an interrupted run waits for provider calls in flight, so that their end is recorded."""


class Held:
    """Keeps what a dry run says until it is known whether anybody needs it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._said: list[tuple[str, str, str]] = []
        self.holding = True

    def step(self, step: Step) -> None:
        """Changes that were only tried are nobody's news."""
        if not self.holding:
            self._reporter.step(step)

    def log(self, severity: str, message: str, urn: str = "") -> None:
        """Keep it, or pass it on."""
        if self.holding:
            self._said.append((severity, message, urn))
        else:
            self._reporter.log(severity, message, urn)

    def summary(self, counts: Counter[str], seconds: float, *, failed: bool) -> None:
        """Summaries are of the real run."""
        self._reporter.summary(counts, seconds, failed=failed)

    def release(self, *, tell: bool) -> None:
        """Pass on from here; `tell` also what was held."""
        self.holding = False
        for said in self._said if tell else ():
            self._reporter.log(*said)
        self._said.clear()


@dataclass(frozen=True)
class Runner:
    """Everything a run of one stack needs."""

    stack: str
    project: Project
    settings: Settings
    folder: StateFolder
    reporter: Reporter
    idle_seconds: float = IDLE_SECONDS
    fork: bool = False
    """Programs run in a copy of this process, which has the SDKs imported, not in a new interpreter."""

    def up(self) -> Counter[str]:
        """Make the stack what the program declares; the steps taken, by operation."""
        began = time.monotonic()
        with self.folder.locked(self.stack):
            state = self.folder.load(self.stack)
            for operation in state.operations:
                self.reporter.log(
                    "warning", f"{operation.resource.urn}: {operation.type} it was interrupted; this run settles it"
                )
            held = Held(self.reporter)
            graph = Graph()
            with self._child(held) as child:
                rehearsal = self._deployment(Snapshot(state, None), held, graph, dry_run=True)
                try:
                    self._pass(rehearsal, child, held)
                except BaseException:
                    held.release(tell=True)
                    raise
                held.release(tell=False)
                deployment = self._deployment(
                    Snapshot(state, self.folder.file(self.stack)), self.reporter, graph, dry_run=False
                )
                try:
                    self._pass(deployment, child, held)
                except BaseException:
                    self.reporter.summary(deployment.counts, time.monotonic() - began, failed=True)
                    raise
        self.reporter.summary(deployment.counts, time.monotonic() - began, failed=False)
        return deployment.counts

    def preview(self) -> dict[str, Any]:
        """What `up` would do, in PreviewDigest shape; nothing is changed."""
        began = time.monotonic()
        said = Diagnostics(self.reporter)
        with self._child(said) as child:
            deployment = self._deployment(Snapshot(self.folder.load(self.stack), None), said, Graph(), dry_run=True)
            self._pass(deployment, child, said)
        shown = [
            step
            for step in deployment.steps
            if step.op not in {"same", "read", "delete-replaced"} or step.type == STACK_TYPE
        ]
        return {
            "config": self.settings.masked(),
            "steps": [step.to_json() for step in shown],
            "diagnostics": said.said,
            "duration": round((time.monotonic() - began) * 1e9),
            "changeSummary": dict(sorted(deployment.counts.items())),
        }

    def destroy(self) -> Counter[str]:
        """Remove every recorded resource, what needs another before it; the program is not run."""
        began = time.monotonic()
        with self.folder.locked(self.stack):
            state = self.folder.load(self.stack)
            if not state.resources and not state.operations:
                self.reporter.summary(Counter(), 0.0, failed=False)
                return Counter()
            snapshot = Snapshot(state, self.folder.file(self.stack))
            deployment = self._deployment(snapshot, self.reporter, Graph(), dry_run=False)
            try:
                deployment.finish()
            except BaseException:
                self.reporter.summary(deployment.counts, time.monotonic() - began, failed=True)
                raise
            finally:
                deployment.providers.close()
        self.reporter.summary(deployment.counts, time.monotonic() - began, failed=False)
        return deployment.counts

    def _child(self, reporter: Reporter) -> Child:
        say = functools.partial(reporter.log, "info")
        return Child(self.project, say, idle_seconds=self.idle_seconds, fork=self.fork)

    def _deployment(self, snapshot: Snapshot, reporter: Reporter, graph: Graph, *, dry_run: bool) -> Deployment:
        return Deployment(self.stack, self.project.name, snapshot, self.folder, reporter, dry_run=dry_run, graph=graph)

    def _pass(self, deployment: Deployment, child: Child, reporter: Reporter) -> None:
        try:
            with serve(deployment, self.settings, reporter) as address:
                child.run(deployment, self.settings, address)
            deployment.finish()
        except KeyboardInterrupt:
            deployment.fail(EngineError("interrupted; what was finished is recorded, run it again to go on"))
            deployment.providers.cancel()
            deadline = time.monotonic() + _SETTLE_SECONDS
            while deployment.in_flight and time.monotonic() < deadline:
                time.sleep(0.05)
            raise
        finally:
            deployment.providers.close()


class Diagnostics:
    """What a preview said, kept for its digest; errors are passed on as well."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self.said: list[dict[str, str]] = []

    def step(self, step: Step) -> None:
        """Steps are read from the deployment."""
        self._reporter.step(step)

    def log(self, severity: str, message: str, urn: str = "") -> None:
        """Keep what is worth showing."""
        if severity != "debug":
            self.said.append(
                {"urn": urn, "message": message, "severity": severity}
                if urn
                else {"message": message, "severity": severity}
            )
            self._reporter.log(severity, message, urn)

    def summary(self, counts: Counter[str], seconds: float, *, failed: bool) -> None:
        """The digest has its own."""
