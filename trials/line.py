"""A lab with everything on it, driven by the same commands anyone could type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ENV: Final = "lab"
ROOT: Final = Path(__file__).resolve().parents[1]
STEP_SECONDS: Final = 420
TRAIN_SECONDS: Final = 15
PACKAGE: Final = "trial-package.json"
"""Below a line's home: what training said, so that a lab that comes up again takes the model there is."""


class TrialError(Exception):
    """A command of a trial failed; what was tried says nothing then."""


@dataclass(frozen=True)
class Line:
    """The lab under `home`."""

    home: Path
    say: Callable[[str], None]

    def tandem(self, *arguments: str, root: Path = ROOT, expected: tuple[int, ...] = (0,)) -> str:
        """Standard output of `tandem ...`, from the sources at `root`."""
        self.say(f"$ tandem {' '.join(arguments)}")
        done = subprocess.run(
            [sys.executable, "-m", "tandem", *arguments],
            cwd=root,
            env={**os.environ, "TANDEM_HOME": str(self.home), "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )
        if done.returncode not in expected:
            raise TrialError(f"tandem {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout

    def up(self, *, clock_factor: float, lab_options: tuple[str, ...] = ()) -> None:
        """The whole line: lab, stores, a model trained for a moment, everything declared."""
        self.tandem("lab", "down")
        self.tandem("lab", "up", "--clock-factor", f"{clock_factor:g}", *lab_options)
        self.tandem("up", "--env", ENV, "--layer", "storage")
        package = self._package()
        self.tandem("model", "publish", package["package"], "--env", ENV)
        self.tandem("model", "promote", package["digest"], "--env", ENV, "--all-sites")
        self.tandem("up", "--env", ENV)

    def down(self) -> None:
        """Stop the lab and whatever it left."""
        self.tandem("lab", "down")

    def _package(self) -> dict[str, Any]:
        kept = self.home / PACKAGE
        if not kept.exists():
            folder = str(self.home / "models")
            report = self.tandem(
                "model", "train", "--data", "generated", "--out", folder, "--seconds", str(TRAIN_SECONDS), "--json"
            )
            kept.write_text(report, encoding="utf-8")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
