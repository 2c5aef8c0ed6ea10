"""Runs a Pulumi program as the CLI's Python host does; each line of its jobs is one run of it.

It is a process of its own: it may hang, exit or crash, and it dies with its engine. Both passes of an `up` run in it,
so that the SDKs are imported once; the program's own modules are imported anew for each.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NoReturn

import pulumi
import pulumi.runtime

from lab.process import die_with_parent

THREADS: Final = 32


def main() -> None:
    """`program.py PARENT-PID JOBS-FD RESULTS-FD`."""
    die_with_parent(int(sys.argv[1]))
    serve(int(sys.argv[2]), int(sys.argv[3]))


def serve(jobs: int, results: int) -> NoReturn:
    """Run the program for each line of one descriptor, say on the other how it went, and end this process."""
    # asyncio would complain about everything a failed run leaves unfinished.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    kept = set(sys.modules)
    with os.fdopen(jobs, encoding="utf-8") as lines, os.fdopen(results, "w", encoding="utf-8") as told:
        for line in lines:
            job = json.loads(line)
            forget(Path(job["root"]), kept)
            ok = contextvars.copy_context().run(run, job)
            sys.stdout.flush()
            sys.stderr.flush()
            print(json.dumps({"ok": ok}), file=told, flush=True)
    # What a run left behind (threads, channels) must not keep the process.
    os._exit(0)


def forget(root: Path, kept: set[str]) -> None:
    """Drop the program's own modules, so that the next run starts as a first one."""
    for name, module in list(sys.modules.items()):
        origin = getattr(module, "__file__", None)
        if name in kept or not origin:
            continue
        path = Path(origin)
        path = path if path.is_absolute() else Path.cwd() / path
        if path.is_relative_to(root) and "site-packages" not in path.parts:
            del sys.modules[name]


def run(job: dict[str, Any]) -> bool:
    """One run; False when it failed, after saying why in the engine's log."""
    pulumi.runtime.set_all_config(job["config"], job["secret_keys"])
    pulumi.runtime.configure(
        pulumi.runtime.Settings(
            monitor=job["address"],
            engine=job["address"],
            project=job["project"],
            stack=job["stack"],
            organization="organization",
            root_directory=job["root"],
            dry_run=job["dry_run"],
        )
    )
    os.chdir(job["main"])
    sys.argv = ["."]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    pulumi.log.debug = _unsaid
    executor = ThreadPoolExecutor(THREADS)
    loop.set_default_executor(executor)
    try:
        loop.run_until_complete(pulumi.runtime.run_in_stack(lambda: _program(job["main"])))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
    # Whatever a program raises, SystemExit included, ends this run only.
    except BaseException as error:  # noqa: BLE001
        pulumi.log.error(f"the program failed:\n{_story(error, job['main'])}")
    else:
        return True
    finally:
        executor.shutdown(wait=True)
        loop.close()
    return False


def _unsaid(*_message: Any, **_about: Any) -> None:
    """What the SDK says of its own steps: several lines per resource, a call each, and the engine shows none."""


def _program(_main: str) -> None:
    runpy.run_path(".", run_name="__main__")


def _story(error: BaseException, main: str) -> str:
    """The traceback from the program's first line on."""
    frames = traceback.extract_tb(error.__traceback__)
    start = next((i for i, frame in enumerate(frames) if Path(main, frame.filename).resolve().is_relative_to(main)), 0)
    lines = traceback.format_list(frames[start:]) + traceback.format_exception_only(error)
    return "".join(lines)


if __name__ == "__main__":
    main()
