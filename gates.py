"""What is asked of the sites before a serving stack changes and after it has: the gates of a rollout.

The golden gate: every site answers its golden request rightly. The burn-rate gate: over the bake time the changed
site's gateways fail no larger share of requests than `burn_rate_limit` times what the availability objective allows
(https://sre.google/workbook/alerting-on-slos/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Final

from drills import gateways
from drills.drill import Probe, ask_all, failed, until_held
from drills.gateways import FAILED, Reading, SilentGatewaysError
from drills.probes import GoldenAnswer
from stacks import engine as engines
from stacks.contract import LAYERS, ContractError, Deployment, StackName
from stacks.rollout import GateError
from stacks.runs import Engine
from stacks.workspace import Workspace

Say = Callable[[str], None]

LAST_LAYER: Final = list(LAYERS)[-1]
WELL_SECONDS: Final = 120.0
"""For a site to be well again after its pods have rolled, beside its hold-down."""
LOOK_SECONDS: Final = 2.0
ILL_LOOKS: Final = 3
"""Wrong looks in a row that end a bake: one may be lost on its way."""
TELLING_REQUESTS: Final = 100
"""Fewer say nothing about a share of failures."""


def of(workspace: Workspace, engine: Engine, say: Say, known_ill: Collection[str] = ()) -> SiteGates | None:
    """The gates of one `up`; None until every layer has been up once, because nobody is served before.

    What was recorded by programs that exported less has none either, which is said.
    """
    outputs = engines.outputs(workspace, engine)
    try:
        Deployment.read(workspace.env, outputs)
    except ContractError as error:
        if any(StackName.parse(name).layer == LAST_LAYER for name in outputs):
            say(f"no gates: what is recorded does not tell where the sites are ({error}); the next up has them")
        return None
    return SiteGates(workspace, engine, say, known_ill)


class SiteGates:
    """The gates of one `up`. A site in `known_ill` is not asked about while others change."""

    def __init__(self, workspace: Workspace, engine: Engine, say: Say, known_ill: Collection[str] = ()) -> None:
        self._workspace = workspace
        self._engine = engine
        self._say = say
        self._known_ill = frozenset(known_ill)

    def before(self, stack: StackName) -> None:
        """Every other site is well. Raises GateError."""
        deployment = self.recorded()
        if deployment is None:
            return
        others = sorted(set(deployment.traffic.sites) - {stack.site or ""} - self._known_ill)
        asked: list[Probe] = [GoldenAnswer(deployment, site) for site in others]
        missing = failed(asyncio.run(until_held(asked, _well_seconds(deployment, others))))
        if missing:
            raise GateError(
                f"its change was not begun: {missing[0]}; a site changes while all others are well: heal that one"
                " first, or name it if it cannot be healed now: --known-ill SITE"
            )

    def after(self, stack: StackName) -> None:
        """The changed site is well, stays so for the bake time, and fails nobody meanwhile. Raises GateError."""
        deployment, site = self.recorded(), stack.site or ""
        if deployment is None or site not in deployment.traffic.sites or site in self._known_ill:
            return
        golden = GoldenAnswer(deployment, site)
        missing = failed(asyncio.run(until_held([golden], _well_seconds(deployment, [site]))))
        if missing:
            raise GateError(f"golden gate: {missing[0]}; {_WAY_BACK}")
        bake = deployment.traffic.bake_seconds
        if bake:
            self._say(f"{site} bakes for {bake} s: golden answers and failures are watched")
        begun = self._reading(deployment, site)
        asyncio.run(_bake(golden, bake))
        self._burn(deployment, site, begun, self._reading(deployment, site))

    def _burn(self, deployment: Deployment, site: str, begun: Reading | None, ended: Reading | None) -> None:
        asked, bad = counted(begun, ended)
        if asked < TELLING_REQUESTS:
            self._say(f"burn-rate gate of {site}: {asked:.0f} requests while it baked are too few to tell")
            return
        objective = deployment.traffic.objectives.availability_percent
        allowed = 1 - objective / 100
        share = bad / asked
        limit = deployment.traffic.burn_rate_limit
        if share > limit * allowed:
            raise GateError(
                f"burn-rate gate: {bad:.0f} of {asked:.0f} requests failed while it baked, {share:.2%}; allowed are"
                f" {limit:g} times the {allowed:.3%} of the objective {objective:g} %; {_WAY_BACK}"
            )
        self._say(f"burn-rate gate of {site}: {bad:.0f} of {asked:.0f} requests failed while it baked")

    def _reading(self, deployment: Deployment, site: str) -> Reading | None:
        try:
            return gateways.read(deployment, site)
        except SilentGatewaysError as error:
            self._say(f"burn-rate gate of {site} cannot count: {error}")
            return None

    def recorded(self) -> Deployment | None:
        """What is recorded now; None until every layer has been up once."""
        try:
            return Deployment.read(self._workspace.env, engines.outputs(self._workspace, self._engine))
        except ContractError:
            return None


_WAY_BACK: Final = "no other site is changed; set the settings back and bring this site up again"


def counted(begun: Reading | None, ended: Reading | None) -> tuple[float, float]:
    """Requests and failures between two readings; a pod that came in between counts from its start."""
    if begun is None or ended is None:
        return 0.0, 0.0
    asked = bad = 0.0
    for name, pod in ended.pods.items():
        before = begun.pods.get(name, {})
        asked += max(0.0, pod["requests"] - before.get("requests", 0.0))
        bad += max(0.0, pod[FAILED] - before.get(FAILED, 0.0))
    return asked, bad


async def _bake(golden: Probe, seconds: float) -> None:
    """Look at the site until the time is over. Raises GateError after several wrong looks in a row."""
    end = time.monotonic() + seconds
    wrong = 0
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(LOOK_SECONDS, left))
        missing = failed(await ask_all([golden]))
        wrong = wrong + 1 if missing else 0
        if wrong == ILL_LOOKS:
            raise GateError(f"golden gate, while it baked: {missing[0]}; {_WAY_BACK}")


def _well_seconds(deployment: Deployment, sites: Collection[str]) -> float:
    return WELL_SECONDS + max((deployment.serving[site].hold_down_seconds for site in sites), default=0)
