"""`tandem up | preview | outputs | destroy`: all stacks of an environment, in order, through one engine."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from signals import SignalError
from stacks import engine as engines
from stacks import exclusive
from stacks.contract import StackName
from stacks.workspace import Workspace, WorkspaceError

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


class Session:
    """One command's workspace, engine and stacks."""

    def __init__(self, env: str, stacks: list[str] | None, layers: list[str] | None, engine: str | None) -> None:
        self.workspace = Workspace.of(env)
        self.engine = engines.choose(env, engine, self.workspace)
        named = [StackName.parse(name if name.endswith(f".{env}") else f"{name}.{env}") for name in stacks or ()]
        self.layers = self.workspace.order(named, layers or ())
        self.named = named

    def alone(self, purpose: str, *, unlocked: bool) -> AbstractContextManager[exclusive.Held]:
        """Hold the environment's lock."""
        return exclusive.held(self.workspace, self.engine, purpose, warn, everywhere=not unlocked)


def warn(text: str) -> None:
    """Say what does not stop a command."""
    console.print(Text.assemble(("warning ", "yellow"), text))


@contextmanager
def _session(env: str, stacks: list[str] | None, layers: list[str] | None, engine: str | None) -> Iterator[Session]:
    """Turn failures into one message and exit status 1, and a signal into an orderly end of the engines."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield Session(env, stacks, layers, engine)
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
    env: Env = "lab",
    stack: Stacks = None,
    layer: Layers = None,
    engine: EngineName = None,
    without_lock: Unlocked = False,
    as_json: Json = False,
) -> None:
    """Make the stacks what their programs declare, layer by layer; nobody else works on the environment meanwhile."""
    with _session(env, stack, layer, engine) as session, session.alone("up", unlocked=without_lock) as held:
        counts = engines.up(session.workspace, session.engine, Lines(), session.layers, after=held.after)
        held.record(warn)
        if as_json:
            _print(counts)


@app.command()
def preview(
    env: Env = "lab", stack: Stacks = None, layer: Layers = None, engine: EngineName = None, as_json: Json = False
) -> None:
    """Say what `up` would change; nothing is changed."""
    with _session(env, stack, layer, engine) as session:
        progress = Lines(would=True)
        digests = engines.in_layers(
            session.engine, session.layers, lambda each: session.engine.preview(each, progress), keep_going=True
        )
        if as_json:
            _print(digests)


@app.command()
def outputs(
    env: Env = "lab", stack: Stacks = None, layer: Layers = None, engine: EngineName = None, as_json: Json = False
) -> None:
    """Print what the stacks export; secrets masked."""
    with _session(env, stack, layer, engine) as session:
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
    """Delete everything the stacks hold, last layer first; nobody else works on the environment meanwhile."""
    with _session(env, stack, layer, engine) as session, session.alone("destroy", unlocked=without_lock) as held:
        counts = engines.destroy(
            session.workspace, session.engine, Lines(), session.layers, before=held.before_deletion
        )
        if as_json:
            _print(counts)
