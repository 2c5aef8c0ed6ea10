"""A preview from settings and revisions to a report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stacks.contract import StackName
from stacks.preview import PreviewError
from stacks.preview.report import Report, report
from stacks.preview.revision import Evaluated, checked_out, evaluate
from stacks.workspace import Workspace, WorkspaceError


def preview_programs(
    workspace: Workspace, only: Sequence[StackName] = (), layers: Iterable[str] = (), against: str = ""
) -> Report:
    """What the programs declare, or what they declare otherwise than those of revision `against`.

    Every stack is evaluated, for they refer to each other; the report is of those asked for. Raises PreviewError,
    WorkspaceError.
    """
    chosen = [stack for layer in workspace.order(only, layers) for stack in layer]
    if not against:
        return report(workspace.env, chosen, None, evaluate(workspace, workspace.order()), "")
    with checked_out(workspace.root, against) as folder, ThreadPoolExecutor(1) as pool:
        before = pool.submit(_before, workspace, folder)
        after = evaluate(workspace, workspace.order())
        return report(workspace.env, chosen, before.result(), after, against)


def _before(workspace: Workspace, folder: Path) -> Evaluated:
    """The other revision's programs with its own settings and this machine's; nothing where it has no such stacks."""
    other = Workspace(workspace.env, folder, workspace.home)
    try:
        layers = other.order()
    except WorkspaceError:
        return Evaluated({})
    try:
        return evaluate(other, layers)
    except PreviewError as error:
        raise PreviewError(f"the other revision: {error}") from error
