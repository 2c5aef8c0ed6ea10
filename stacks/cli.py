"""`tandem up | preview | outputs | destroy`: all stacks of an environment, in order, through one engine."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from signals import SignalError
from signals.store import SignalStore
from stacks import engine as engines
from stacks import exclusive
from stacks.contract import StackName
from stacks.plans import Plans
from stacks.preview import PreviewError, comment, digest, text
from stacks.preview.run import preview_programs
from stacks.recover import Recovery
from stacks.rollout import LAYER as SERVING
from stacks.rollout import Gates, GatesOf, previewed
from stacks.workspace import PROD, Workspace, WorkspaceError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Stacks of an environment.")
console = Console(stderr=True, highlight=False, soft_wrap=True)

_DONE: Final = {
    "create": ("created", "green"),
    "create-replacement": ("created anew", "magenta"),
    "update": ("updated", "yellow"),
    "replace": ("replaced", "magenta"),
    "delete": ("deleted", "red"),
    "delete-replaced": ("deleted the old", "red"),
    "discard-replaced": ("let go of the old", "red"),
    "same": ("unchanged", "dim"),
}
"""What a step is called when it is done, and its colour."""
_QUIET: Final = {"same", "read", "read-replacement", "refresh", "discard"}
_LEVELS: Final = {"warning": "yellow", "error": "bold red"}

Env = Annotated[str, typer.Option(help="Environment: lab, prod, or another one with settings.")]
Stacks = Annotated[
    list[str] | None, typer.Option("--stack", metavar="LAYER-SITE", help="Only this stack; may be repeated.")
]
Layers = Annotated[list[str] | None, typer.Option("--layer", help="Only this layer; may be repeated.")]
EngineName = Annotated[
    str | None, typer.Option("--engine", metavar="cli|embedded", help="Default: cli where pulumi is on PATH.")
]
Unlocked = Annotated[
    bool,
    typer.Option("--without-lock", help="Lock this machine only: for when every site's store is lost."),
]
AllAtOnce = Annotated[
    bool,
    typer.Option("--all-at-once", help="Change the sites side by side and watch none of them; refused in prod."),
]
KnownIll = Annotated[
    list[str] | None,
    typer.Option("--known-ill", metavar="SITE", help="Change the other sites although this one is ill."),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


class Lines:
    """A line per changed resource and per stack, on standard error; colours on a terminal only."""

    def __init__(self, *, would: bool = False) -> None:
        self._would = "would be " if would else ""

    def _say(self, stack: StackName, word: str, style: str, rest: str) -> None:
        head = f"{stack.layer}-{stack.site}" if stack.site else stack.layer
        console.print(Text.assemble((f"{head:<17}", "bold"), (f"{word} ", style), rest))

    def change(self, stack: StackName, op: str, kind: str, name: str) -> None:
        """See Progress."""
        if op not in _QUIET:
            word, style = _DONE.get(op, (op, ""))
            self._say(stack, self._would + word, style, f"{kind} {name}")

    def message(self, stack: StackName, severity: str, text: str) -> None:
        """See Progress."""
        self._say(stack, severity if severity in _LEVELS else "says", _LEVELS.get(severity, "dim"), text)

    def done(self, stack: StackName, counts: dict[str, int], seconds: float) -> None:
        """See Progress."""
        said = ", ".join(
            f"{number} {self._would if op != 'same' else ''}{_DONE.get(op, (op, ''))[0]}"
            for op, number in sorted(counts.items())
            if op not in _QUIET - {"same"}
        )
        self._say(
            stack,
            "previewed" if self._would else "done",
            "bold green",
            f"in {seconds:.1f} s: {said or 'nothing to do'}",
        )


class Form(StrEnum):
    """How a preview is told."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def named(env: str, stacks: list[str] | None) -> list[StackName]:
    """The stacks a command names, with or without their environment."""
    return [StackName.parse(name if name.endswith(f".{env}") else f"{name}.{env}") for name in stacks or ()]


class Session:
    """One command's workspace, engine and stacks."""

    def __init__(
        self,
        env: str,
        stacks: list[str] | None,
        layers: list[str] | None,
        engine: str | None,
        *,
        plans: Path | None = None,
        refresh: bool = False,
        recorded: bool = False,
        plan: Path | None = None,
    ) -> None:
        """With `recorded` a stack may be named that has no settings any more: what is recorded of it is enough."""
        self.workspace = Workspace.of(env)
        self.engine = engines.choose(env, engine, self.workspace, plans=plans, refresh=refresh, plan=plan)
        self.named = named(env, stacks)
        unset = set(self.named) - set(self.workspace.stacks()) if recorded else set()
        besides = [each for each in unset if self.engine.state(each) is not None]
        self.layers = self.workspace.order(self.named, layers or (), besides)
        if plan is not None:
            Plans(plan).check(chain.from_iterable(self.layers))

    def alone(
        self, purpose: str, *, unlocked: bool, known: Sequence[SignalStore] | None = None
    ) -> AbstractContextManager[exclusive.Held]:
        """Hold the environment's lock; `known` names the stores where the engine cannot be asked."""
        return exclusive.held(self.workspace, self.engine, purpose, warn, everywhere=not unlocked, known=known)

    def stores(self) -> list[SignalStore]:
        """The sites' signal buckets that are up."""
        return exclusive.standing(self.workspace, self.engine)

    @property
    def recovery(self) -> Recovery:
        """The ways back."""
        return Recovery(self.workspace, self.engine, warn)

    def gates(self, context: typer.Context, *, all_at_once: bool, known_ill: list[str] | None) -> Gates | None:
        """What is asked before and after a site changes; None when all change at once. Raises EngineError."""
        if all_at_once:
            if self.workspace.env == PROD:
                raise engines.EngineError(
                    f"--all-at-once is refused in {PROD}; a bad change must not reach every site at once: leave it out"
                )
            return None
        sites = sorted({stack.site for stack in self.workspace.stacks() if stack.site})
        for site in known_ill or ():
            if site not in sites:
                raise engines.EngineError(
                    f"--known-ill {site}: {self.workspace.env} has the sites {', '.join(sites)}: name one of them"
                )
        if not any(stack.layer == SERVING for layer in self.layers for stack in layer):
            return None
        made: GatesOf = context.obj
        return made(self.workspace, self.engine, say, known_ill or ())


def say(text: str) -> None:
    """Say what a gate sees."""
    console.print(Text.assemble(("gate    ", "bold"), text))


def warn(text: str) -> None:
    """Say what does not stop a command."""
    console.print(Text.assemble(("warning ", "yellow"), text))


@contextmanager
def opened(
    env: str,
    stacks: list[str] | None,
    layers: list[str] | None,
    engine: str | None,
    *,
    plans: Path | None = None,
    refresh: bool = False,
    recorded: bool = False,
    plan: Path | None = None,
) -> Iterator[Session]:
    """A command's session: failures become one message and exit status 1, a signal an orderly end of the engines."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield Session(env, stacks, layers, engine, plans=plans, refresh=refresh, recorded=recorded, plan=plan)
    except (engines.EngineError, WorkspaceError, SignalError, ValueError) as error:
        for text in (str(error), *getattr(error, "__notes__", ())):
            console.print(Text.assemble(("error ", "bold red"), text))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        console.print("stopped; what was in flight is finished and recorded")
        raise typer.Exit(1) from error


def _print(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


@app.command()
def up(
    context: typer.Context,
    env: Env = "lab",
    stack: Stacks = None,
    layer: Layers = None,
    engine: EngineName = None,
    all_at_once: AllAtOnce = False,
    known_ill: KnownIll = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="With the CLI: do what these plans of `preview --plans` say, or nothing."),
    ] = None,
    without_lock: Unlocked = False,
    as_json: Json = False,
) -> None:
    """Make the stacks what their programs declare, layer by layer; nobody else works on the environment meanwhile.

    What is served changes one site at a time: the others have to be well before, and the changed one afterwards.
    """
    with opened(env, stack, layer, engine, plan=plan) as session, session.alone("up", unlocked=without_lock) as held:
        gates = session.gates(context, all_at_once=all_at_once, known_ill=known_ill)
        with session.recovery.kept(session.layers, session.stores):
            counts = engines.up(
                session.workspace, session.engine, Lines(), session.layers, gates=gates, after=held.after
            )
        held.record(warn)
        if as_json:
            _print(counts)


@app.command()
def preview(
    env: Env = "lab",
    stack: Stacks = None,
    layer: Layers = None,
    against: Annotated[
        str, typer.Option(metavar="REV", help="Compare with what this git revision declares; else everything is new.")
    ] = "",
    form: Annotated[Form, typer.Option("--format", help="For people, for machines, for a pull request.")] = Form.TEXT,
    engine: Annotated[
        str | None,
        typer.Option(metavar="cli|embedded", help="Ask this engine, with state and credentials, instead."),
    ] = None,
    plans: Annotated[Path | None, typer.Option(metavar="FOLDER", help="With the CLI: save each stack's plan.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="With the CLI: ask the cloud how things are.")] = False,
    no_changes: Annotated[
        bool, typer.Option("--expect-no-changes", help="With an engine: exit 1 when anything would change.")
    ] = False,
) -> None:
    """Say what `up` would change; nothing is changed.

    Without an engine it compares programs: no credentials, no state, no network. Exit 1 when a program cannot be
    evaluated or a rule is violated.
    """
    if engine is None and (plans or refresh or no_changes):
        raise typer.BadParameter("--plans, --refresh and --expect-no-changes ask an engine: add --engine cli")
    if engine is not None and against:
        raise typer.BadParameter("--against compares programs, and an engine compares with its state: leave one out")
    if engine is None:
        _program_diff(env, stack, layer, against, form)
        return
    with opened(env, stack, layer, engine, plans=plans, refresh=refresh) as session:
        progress = Lines(would=True)
        digests = engines.in_layers(
            session.engine,
            session.layers,
            lambda each: previewed(session.workspace, session.engine, each, progress, steps=plans is not None),
            keep_going=True,
        )
        if form is Form.JSON:
            _print(digests)
        changing = sorted(name for name, digest in digests.items() if set(digest.get("changeSummary") or {}) - {"same"})
        if no_changes and changing:
            raise engines.EngineError(f"{', '.join(changing)}: no change was expected; see what drifted above")


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def _program_diff(env: str, stack: list[str] | None, layer: list[str] | None, against: str, form: Form) -> None:
    # Settings in the clear lie in a folder of its own while programs run: a cancelled preview removes it too.
    signal.signal(signal.SIGTERM, _stopped)
    try:
        report = preview_programs(Workspace.of(env), named(env, stack), layer or (), against)
    except KeyboardInterrupt as error:
        console.print("stopped; nothing is left behind")
        raise typer.Exit(1) from error
    except (PreviewError, WorkspaceError, ValueError) as error:
        console.print(Text.assemble(("error ", "bold red"), str(error)))
        raise typer.Exit(1) from error
    if form is Form.JSON:
        _print(digest.document(report))
    elif form is Form.MARKDOWN:
        typer.echo(comment.markdown(report, comment.repository(os.environ)))
    else:
        printer = Console(highlight=False, soft_wrap=True)
        for line in text.lines(report):
            printer.print(line)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def outputs(
    env: Env = "lab", stack: Stacks = None, layer: Layers = None, engine: EngineName = None, as_json: Json = False
) -> None:
    """Print what the stacks export; secrets masked."""
    with opened(env, stack, layer, engine) as session:
        found = engines.outputs(session.workspace, session.engine, session.layers)
        for missing in [each for each in session.named if str(each) not in found]:
            raise engines.StackFailed(missing, f"it is not up; bring it up first: tandem up --env {env}")
        if as_json:
            _print(found)
            return
        for name, exported in found.items():
            typer.echo(name)
            for key, value in exported.items():
                typer.echo(f"  {key} = {value if isinstance(value, str) else json.dumps(value)}")


@app.command()
def destroy(
    env: Env = "lab",
    stack: Stacks = None,
    layer: Layers = None,
    engine: EngineName = None,
    without_lock: Unlocked = False,
    as_json: Json = False,
) -> None:
    """Delete everything the stacks hold, last layer first; nobody else works on the environment meanwhile.

    Nothing is deleted while any of it is protected. A stack named by --stack needs no settings any more.
    """
    with (
        opened(env, stack, layer, engine, recorded=True) as session,
        session.alone("destroy", unlocked=without_lock) as held,
    ):
        session.recovery.refuse_protected(session.layers)
        # Nothing is written into stores that go.
        left = tuple if any(each[0].layer == exclusive.STORAGE for each in session.layers) else session.stores
        with session.recovery.kept(session.layers, left):
            counts = engines.destroy(
                session.workspace, session.engine, Lines(), session.layers, before=held.before_deletion
            )
        if as_json:
            _print(counts)
