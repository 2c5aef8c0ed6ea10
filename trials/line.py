"""A lab with everything on it, driven by the same commands anyone could type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

ENV: Final = "lab"
ROOT: Final = Path(__file__).resolve().parents[1]
SITE: Final = "private"
GATEWAYS: Final = "app.kubernetes.io/name=gateway"
RATE: Final = 10.0
"""Requests per second of a trial's users: enough for a quantile, and few beside what else the machine does."""
SPREAD_SECONDS: Final = 60
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
        self.stores_up(clock_factor=clock_factor, lab_options=lab_options)
        self.tandem("up", "--env", ENV)

    def stores_up(self, *, clock_factor: float, lab_options: tuple[str, ...] = ()) -> None:
        """The lab, the stores in it, and a model that is published to all of them and selected."""
        self.tandem("lab", "down")
        self.tandem("lab", "up", "--clock-factor", f"{clock_factor:g}", *lab_options)
        self.tandem("up", "--env", ENV, "--layer", "storage")
        package = self.package()
        self.tandem("model", "publish", package["package"], "--env", ENV)
        self.tandem("model", "promote", package["digest"], "--env", ENV, "--all-sites")

    def spread(self, site: str = SITE) -> None:
        """Gateways of a site on different machines again: a lost machine leaves them together.

        Raises TrialError when they stay where they are.
        """
        lab = json.loads((self.home / "lab" / "lab.json").read_text(encoding="utf-8"))
        api = f"http://{lab['topology']['sites'][site]['block']}.0.1:6443/api/v1/namespaces/tandem/pods"
        end = time.monotonic() + SPREAD_SECONDS
        with httpx.Client(trust_env=False, timeout=10) as http:
            while True:
                found = http.get(api, params={"labelSelector": GATEWAYS}).raise_for_status().json()["items"]
                pods = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
                if len({pod["spec"].get("nodeName") for pod in pods}) == len(pods) or len(pods) < 2:
                    return
                if time.monotonic() > end:
                    raise TrialError(f"the gateways of {site} still share a machine after {SPREAD_SECONDS} s")
                if all(_ready(pod) for pod in pods):
                    http.delete(f"{api}/{pods[-1]['metadata']['name']}").raise_for_status()
                time.sleep(1)

    def down(self) -> None:
        """Stop the lab and whatever it left."""
        self.tandem("lab", "down")

    def package(self) -> dict[str, Any]:
        """What training said of this line's model, trained for a moment where there is none yet."""
        kept = self.home / PACKAGE
        if not kept.exists():
            folder = str(self.home / "models")
            report = self.tandem(
                "model", "train", "--data", "generated", "--out", folder, "--seconds", str(TRAIN_SECONDS), "--json"
            )
            kept.write_text(report, encoding="utf-8")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
