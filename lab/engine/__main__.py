"""`python -m lab.engine {up|preview|destroy|outputs|import|stacks}`: exit status 0 when it worked, 1 when not."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from lab.engine.errors import EngineError
from lab.engine.folder import StateFolder
from lab.engine.project import load_project, load_settings
from lab.engine.report import Events, Lines, Reporter

POLITENESS: Final = 10
"""Added to the nice value: one machine has both clouds and the engines, and users must not feel an update."""


def main(arguments: list[str] | None = None, *, fork: bool = False) -> int:
    """Parse, run, and say what went wrong in one message; `fork` as of Runner. Lowers this process's priority."""
    os.nice(POLITENESS)
    options = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    events = options.json and options.command in {"up", "destroy"}
    reporter: Reporter = Events() if events else Lines(preview=options.command == "preview")
    try:
        return _run(options, reporter, fork=fork)
    except EngineError as error:
        reporter.log("error", str(error))
        return 1
    except KeyboardInterrupt:
        reporter.log("error", "interrupted; what was finished is recorded: run it again to go on")
        return 1


def _run(options: argparse.Namespace, reporter: Reporter, *, fork: bool) -> int:
    env = (options.stack or "").partition(".")[2] or "lab"
    home = Path(os.environ.get("TANDEM_HOME", ".tandem"))
    folder = options.state_dir or home / env / "state"
    if options.command == "stacks":
        _print({name: len(StateFolder(folder).load(name).resources) for name in StateFolder(folder).stacks()})
        return 0
    if options.stack is None:
        raise EngineError(f"{options.command} needs --stack NAME")
    if options.command == "outputs":
        _print(StateFolder(folder).shown_outputs(options.stack, show_secrets=options.show_secrets), sort=True)
        return 0
    if options.command == "import":
        if options.file is None:
            raise EngineError("import needs --file: a state as `pulumi stack export` prints it")
        StateFolder(folder).restore(options.stack, options.file)
        return 0
    # Only here: it brings gRPC and the SDK with it, which reading outputs does without.
    from lab.engine.run import Runner

    project = load_project(options.root, options.program)
    settings = load_settings(project, options.config_file, options.stack)
    runner = Runner(options.stack, project, settings, StateFolder(folder), reporter, options.idle_seconds, fork)
    if options.command == "up":
        runner.up()
    elif options.command == "destroy":
        runner.destroy()
    else:
        digest = runner.preview()
        if options.json:
            _print(digest)
        else:
            reporter.summary(Counter(digest["changeSummary"]), digest["duration"] / 1e9, failed=False)
    return 0


def _print(value: Any, *, sort: bool = False) -> None:
    print(json.dumps(value, indent=2, sort_keys=sort))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.engine", description="The embedded engine, for the lab only.")
    parser.add_argument("command", choices=["up", "preview", "destroy", "outputs", "import", "stacks"])
    parser.add_argument("--stack", help="<layer>[-<site>].<env>")
    parser.add_argument("--config-file", type=Path, help="the stack's settings, as in Pulumi.<stack>.yaml")
    parser.add_argument("--state-dir", type=Path, help="default: $TANDEM_HOME/<env>/state")
    parser.add_argument("--file", type=Path, help="import: the state to record in place of the recorded one")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder of Pulumi.yaml")
    parser.add_argument("--program", type=Path, help="default: `main` of Pulumi.yaml")
    parser.add_argument(
        "--json", action="store_true", help="events (up, destroy) or the digest (preview) as JSON on standard output"
    )
    parser.add_argument("--show-secrets", action="store_true", help="outputs: print secrets too")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="end a program that asks nothing this long")
    return parser


if __name__ == "__main__":
    sys.exit(main())
