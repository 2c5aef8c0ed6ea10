"""What a guide tells people to type, typed: its commands are the trial's, so the guide cannot say anything else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trials.line import ROOT, STEP_SECONDS, Line, TrialError

END_SECONDS: Final = 60.0
"""For commands that are ended to put back what they changed."""


def block(guide: str, name: str) -> str:
    """The commands the guide has under a name. Raises TrialError where it has none, or two."""
    found = re.findall(rf"^```sh {re.escape(name)}\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    if len(found) != 1:
        raise TrialError(f"the guide has {len(found)} blocks `sh {name}`; the trial types what stands there: one")
    return str(found[0])


@dataclass(frozen=True)
class Shell:
    """Types what the guide says, into one lab."""

    line: Line
    guide: str
    variables: Mapping[str, str]

    def type(self, name: str) -> str:
        """Standard output of the block of that name."""
        return self.run(block(self.guide, name))

    def run(self, commands: str) -> str:
        """Standard output of commands that all have to succeed; what still runs when time is up is ended."""
        for command in commands.splitlines():
            self.line.say(f"$ {command}")
        with subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=ROOT,
            env={
                **os.environ,
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
                "PYTHONPATH": str(ROOT),
                "TANDEM_HOME": str(self.line.home),
                **self.variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                printed, errors = process.communicate(timeout=STEP_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise TrialError(f"{commands.strip()}: not done after {STEP_SECONDS} s") from error
            finally:
                end(process)
        if process.returncode != 0:
            raise TrialError(f"{commands.strip()}: exit code {process.returncode}\n{printed[-1000:]}{errors[-3000:]}")
        return printed


def end(process: subprocess.Popen[str]) -> None:
    """End a shell and what it started, politely first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
