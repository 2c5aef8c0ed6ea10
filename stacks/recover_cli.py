"""`tandem state export | import | fetch` and `tandem forget`: the ways back from a lost backend and a dead cluster."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from signals import export, snapshot
from signals.store import SignalStore
from stacks import engine as engines
from stacks import exclusive
from stacks.cli import EngineName, Env, Session, Stacks, Unlocked, console, opened, warn
from stacks.contract import TRAFFIC_LAYER, ContractError, StackName, TrafficOutputs
from stacks.recover import BEFORE, CLUSTER_LAYERS
from stacks.runs import EngineError

app = typer.Typer(no_args_is_help=True, help="Exports of stacks' states, and the way back into a backend.")
ways = typer.Typer()

Outputs = Annotated[
    Path | None,
    typer.Option("--outputs", help="A signed snapshot that says where the stores are; without it the last one here."),
]


@app.command("export")
def export_states(
    to: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Copies go here too.")] = None,
    env: Env = "lab",
    stack: Stacks = None,
    engine: EngineName = None,
) -> None:
    """Export the stacks' states as each `up` does: to this machine and, outside of the lab, to the sites' stores."""
    with opened(env, stack, None, engine) as session:
        stacks = list(chain.from_iterable(session.layers))
        paths = session.recovery.write(stacks, session.stores)
        for path in paths:
            _tell(f"exported {path if to is None else export.write(path.read_bytes(), to, path.stem)}")
        if not paths:
            raise EngineError(f"no state of {env} was exported; bring the stacks up first: tandem up --env {env}")


@app.command("import")
def import_states(
    source: Annotated[Path | None, typer.Option("--from", metavar="FOLDER", help="Default: this machine's.")] = None,
    env: Env = "lab",
    stack: Stacks = None,
    engine: EngineName = None,
    over: Annotated[bool, typer.Option("--over", help="Also in place of what the backend records.")] = False,
    outputs: Outputs = None,
    without_lock: Unlocked = False,
) -> None:
    """Fill a state backend that was lost from signed exports; afterwards `tandem up` goes on where they stopped."""
    with opened(env, stack, None, engine) as session:
        buckets = [] if without_lock else _stores(session, outputs)
        with session.alone("state import", unlocked=without_lock, known=buckets):
            stacks = list(chain.from_iterable(session.layers))
            found = session.recovery.restore(stacks, source or session.recovery.folder, over=over)
        for each in stacks:
            known = found.get(each)
            _tell(
                f"{each}: recorded as it was at {known.taken}, programs {known.revision}"
                if known
                else f"{each}: there is no export of it; it is recorded as before"
            )


@app.command("fetch")
def fetch_states(
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the exports are written.")],
    env: Env = "lab",
    stack: Stacks = None,
    engine: EngineName = None,
    outputs: Outputs = None,
) -> None:
    """Fetch the newest exports the sites' stores have, verified, for a machine that has none."""
    with opened(env, stack, None, engine) as session:
        stacks = list(chain.from_iterable(session.layers))
        for each in session.recovery.fetch(stacks, _stores(session, outputs), to):
            _tell(f"{each.stack}: as it was at {each.taken}, programs {each.revision}")


@ways.command("forget")
def forget(
    site: Annotated[str, typer.Option("--site", help="The site whose cluster is dead for good.")],
    layer: Annotated[list[str], typer.Option("--layer", help="platform and serving; pool where the cluster is gone.")],
    env: Env = "lab",
    engine: EngineName = None,
    management_too: Annotated[
        bool, typer.Option("--management-too", help="Its management cluster, which holds the machines, is gone too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Although the site answers, or nobody can say.")] = False,
    without_lock: Unlocked = False,
) -> None:
    """Strike what lived in a dead cluster from the records, asking its API nothing; `tandem up` then builds it anew.

    Other sites and the traffic stack stay as they are: health checks keep users away from a site that is dead.
    """
    with opened(env, [f"{each}-{site}" for each in _layers(layer)], None, engine, recorded=True) as session:
        with session.alone("forget", unlocked=without_lock):
            if not yes:
                _refuse_alive(session, site)
            stacks = list(reversed(list(chain.from_iterable(session.layers))))
            forgotten = session.recovery.forget(stacks, management=management_too)
            for each in forgotten:
                for gone in each.names:
                    _tell(f"{each.stack}: forgot {gone}")
                _tell(f"{each.stack}: {len(each.names)} forgotten, {each.kept} kept; as it was: {each.before}")
            if not forgotten:
                raise EngineError(f"nothing of {site} is recorded in its cluster; nothing was forgotten")
            session.recovery.write(stacks, session.stores)
        _tell(
            f"traffic.{env} was not touched: its checks keep users away from {site} while it is dead. To keep them away"
            f" until it is proved: tandem site drain {site} --env {env}, or weight 0. To build it anew: tandem up --env"
            f" {env} --known-ill {site}. To take this back: tandem state import --env {env} --over --from"
            f" {session.recovery.folder / BEFORE} --stack ..."
        )


def _layers(named: list[str]) -> list[str]:
    """The layers to forget; what lives on a layer that is forgotten goes with it. Raises BadParameter."""
    for each in named:
        if each not in CLUSTER_LAYERS:
            raise typer.BadParameter(
                f"--layer {each}: only {', '.join(CLUSTER_LAYERS)} hold something in a cluster; what else is lost is"
                " restored or destroyed: docs/ways-back.md"
            )
    lowest = min(CLUSTER_LAYERS.index(each) for each in named)
    missing = [each for each in CLUSTER_LAYERS[lowest:] if each not in named]
    if missing:
        raise typer.BadParameter(
            f"--layer {CLUSTER_LAYERS[lowest]} without {', '.join(missing)}: what stands on a layer died with it;"
            f" add --layer {' --layer '.join(missing)}"
        )
    return sorted(set(named), key=CLUSTER_LAYERS.index)


def _refuse_alive(session: Session, site: str) -> None:
    env = session.workspace.env
    found = engines.outputs(session.workspace, session.engine, [[StackName(TRAFFIC_LAYER, None, env)]])
    try:
        traffic = TrafficOutputs.read(found[f"{TRAFFIC_LAYER}.{env}"])
        endpoint = traffic.sites[site]
    except (KeyError, ContractError):
        raise EngineError(
            f"traffic.{env} records no site {site}; nobody can say whether people are served there: look, then --yes"
        ) from None
    url = f"{traffic.scheme}://{endpoint.address}:{endpoint.port}{traffic.health_path}"
    if _golden(url, traffic):
        raise EngineError(
            f"{url} says that {site} is well; only what is dead is forgotten, and what runs is taken down: tandem"
            f" destroy --env {env} --stack serving-{site}. If you know better: --yes"
        )


def _golden(url: str, traffic: TrafficOutputs) -> bool:
    """Whether a site says that its golden answer is right."""
    asked: dict[str, Any] = {
        "headers": {"Host": traffic.service_name},
        "extensions": {"sni_hostname": traffic.service_name},
    }
    try:
        # A site whose certificate is wrong is alive all the same.
        with httpx.Client(verify=False, trust_env=False, timeout=traffic.request_timeout_seconds) as http:  # noqa: S501
            answer = http.get(url, **asked)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK and traffic.health_token in answer.text


def _stores(session: Session, outputs: Path | None) -> list[SignalStore]:
    """The signal buckets by the records, or by a snapshot where these are lost."""
    env, home = session.workspace.env, session.workspace.home
    if outputs is None and (standing := session.stores()):
        return standing
    path = outputs or snapshot.local(home, env)
    if outputs is None and not path.exists():
        warn(f"nobody knows where the stores of {env} are; name a snapshot with --outputs to lock them too")
        return []
    return exclusive.stores(snapshot.read(path, env, home).outputs)


def _tell(text: str) -> None:
    console.print(text, markup=False)
