"""One model version on its way through an environment: published to every site's store, selected site by site.

Errors: ReleaseError
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from rich.console import Console
from rich.table import Table

from infra import residency
from infra.residency import DataClass
from serving import ServingError
from serving.manifest import Manifest, check_digest, verify
from serving.repository import BACKEND_FILE, CATALOGUE_FILE, CONFIGS, GOLDEN_FILE, MODEL_FILE
from serving.store import Store, check_version, versions
from serving.store import publish as publish_package
from signals.store import is_loopback
from stacks import engine as engines
from stacks.contract import PROJECT, ServingOutputs, StackName, StorageOutputs
from stacks.rollout import ACCEPTED_KEY, DIGEST_KEY
from stacks.workspace import LAB, PROD, Workspace, WorkspaceError, replace_file

app = typer.Typer(no_args_is_help=True, help="Versions of an environment.")
console = Console(stderr=True, highlight=False, soft_wrap=True)

Env = Annotated[str, typer.Option(help="Environment: lab, prod, or another one with settings.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
CLASSES: Final = {
    **dict.fromkeys((MODEL_FILE, BACKEND_FILE, GOLDEN_FILE, *CONFIGS), DataClass.MODELS),
    CATALOGUE_FILE: DataClass.ITEMS,
}
"""What each file of a package is; any other counts as what names a person, until somebody says here what it is."""


class ReleaseError(Exception):
    """A version that cannot be published or selected; the message says why and what to do."""


def stores(env: str, workspace: Workspace) -> dict[str, Store]:
    """Every site's model store, as its storage stack exports it."""
    layers = workspace.order(layers=["storage"])
    found = engines.outputs(workspace, engines.choose(env, None, workspace), layers)
    sites: dict[str, Store] = {}
    for stack in (stack for layer in layers for stack in layer):
        if str(stack) not in found:
            raise ReleaseError(f"{stack} is not up; bring it up first: tandem up --env {env} --layer storage")
        outputs = StorageOutputs.read(found[str(stack)])
        sites[outputs.site] = Store(
            name=outputs.site,
            bucket=outputs.model_bucket,
            endpoint=outputs.endpoint,
            region=outputs.region,
            profile=outputs.credentials_profile,
        )
    if all(is_loopback(store.endpoint) for store in sites.values()):
        # Stores on loopback ask for no identity, but an S3 client refuses to sign with none.
        os.environ.setdefault("AWS_ACCESS_KEY_ID", "none")
        os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "none")
    return sites


def check_residency(manifest: Manifest, workspace: Workspace) -> None:
    """A package goes to every site: nothing in it is bound to one. Raises ResidencyError naming the file."""
    stacks = [stack for layer in workspace.order(layers=["storage"]) for stack in layer]
    told = (workspace.settings(stack).get(f"{PROJECT}:{residency.SETTING}") for stack in stacks)
    allowed = all(each in (True, "true") for each in told)
    for name in sorted(manifest.files):
        held = CLASSES.get(name, DataClass.RAW_EVENTS)
        residency.check_may_leave([held], f"file {name} of {manifest.digest}", raw_events_may_leave=allowed)


def accepted(digest: str, selected_before: str, recorded: ServingOutputs | None) -> list[str]:
    """Every version a site has to accept once `digest` is selected, the new one first.

    The one that is served stays accepted, during the rollout and after it, so that the way back is one step. When an
    earlier rollout never ended, what it was rolling to may answer too. Selecting what is served changes nothing.
    """
    if recorded is None:
        return [digest]
    if recorded.model_digest == digest:
        return [digest, *(each for each in recorded.accepted_digests if each != digest)]
    rolling = [each for each in recorded.accepted_digests if each == selected_before]
    return list(dict.fromkeys([digest, recorded.model_digest, *rolling]))


def served(env: str, workspace: Workspace) -> dict[str, ServingOutputs]:
    """What each site's serving stack declares, where it is up."""
    exported = engines.outputs(workspace, engines.choose(env, None, workspace), workspace.order(layers=["serving"]))
    found = (ServingOutputs.read(outputs) for outputs in exported.values())
    return {outputs.site: outputs for outputs in found}


def promote_site(workspace: Workspace, site: str, digest: str, recorded: ServingOutputs | None = None) -> Path:
    """Select a version for one site: its serving stack's next `up` rolls to it. The settings file that says so."""
    values: dict[str, Any] = {
        DIGEST_KEY: digest,
        ACCEPTED_KEY: accepted(digest, selected(workspace, site), recorded),
    }
    stack = StackName("serving", site, workspace.env)
    tracked = workspace.tracked / f"Pulumi.{stack}.yaml"
    if workspace.env == LAB:
        # The lab's version is trained anew each time: it belongs to this machine and not under version control.
        path = workspace.overrides / tracked.name
        content: dict[str, Any] = _read(path) if path.exists() else {}
        content.setdefault("config", {}).update(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, yaml.safe_dump(content, sort_keys=False))
        return path
    tracked.write_text(edited(tracked.read_text(encoding="utf-8"), values, str(tracked)), encoding="utf-8")
    return tracked


def edited(text: str, values: Mapping[str, Any], name: str) -> str:
    """A settings file with a version's keys set and every other line, comments too, as it was."""
    # A key with its value, which may be a list on lines of its own below it.
    entry = {
        key: re.compile(rf"^([ ]+){re.escape(key)}:.*\n(?:\1[ ]*-.*\n|\1[ ]+\S.*\n)*", re.MULTILINE) for key in values
    }
    text = text if text.endswith("\n") else f"{text}\n"
    places = list(entry[DIGEST_KEY].finditer(text))
    if len(places) != 1:
        raise ReleaseError(f"{name} sets {DIGEST_KEY} {len(places)} times; a serving stack sets it once: add the line")
    indent = places[0].group(1)
    written = "".join(
        f"{indent}{key}: {json.dumps(value) if isinstance(value, list) else value}\n" for key, value in values.items()
    )
    text = entry[ACCEPTED_KEY].sub("", text)
    return entry[DIGEST_KEY].sub(lambda _: written, text)


def selected(workspace: Workspace, site: str) -> str:
    """The version a site's settings select; empty where none is."""
    return str(workspace.settings(StackName("serving", site, workspace.env)).get(DIGEST_KEY) or "")


@app.command()
def publish(
    package: Annotated[Path, typer.Argument(help="Folder of a packaged version.")],
    env: Env = LAB,
    as_json: Json = False,
) -> None:
    """Upload a version to every site's store and read it back; exit 1 unless all of them hold it."""
    try:
        workspace = Workspace.of(env)
        check_residency(verify(package), workspace)
        publication = publish_package(package, list(stores(env, workspace).values()))
    except (ServingError, ReleaseError, WorkspaceError, engines.EngineError, ValueError) as error:
        raise _fail(error) from error
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "digest": publication.digest,
                    "selectable": publication.selectable,
                    "stores": dict(publication.outcome),
                }
            )
        )
    else:
        for name, reason in publication.outcome.items():
            console.print(f"{name:<12} {'holds every byte' if reason is None else reason}")
        console.print(f"{publication.digest} is {'selectable' if publication.selectable else 'not selectable'}")
    if not publication.selectable:
        console.print("publish again once every store is well: what is there already is kept")
        raise typer.Exit(1)


@app.command()
def promote(
    digest: Annotated[str, typer.Argument(help="sha256:<64 hex> of a published version.")],
    env: Env = LAB,
    site: Annotated[str | None, typer.Option(help="The site that is to serve it.")] = None,
    all_sites: Annotated[bool, typer.Option("--all-sites", help="Every site at once; refused in prod.")] = False,
) -> None:
    """Select a published version for a site; `tandem up` then rolls to it."""
    workspace = Workspace.of(env)
    try:
        check_digest(digest)
        known = stores(env, workspace)
        if all_sites == (site is not None):
            raise ReleaseError("name one site with --site, or take --all-sites")
        if all_sites and env == PROD:
            raise ReleaseError("--all-sites in prod: a bad version would take every site; promote one, watch it, go on")
        if site is not None and site not in known:
            raise ReleaseError(f"site {site!r} has no store; the sites are {', '.join(sorted(known))}")
        # In every store or not selectable: a site that fails over must not find that its own store lacks the version.
        recorded = served(env, workspace)
        for each in sorted(known):
            check_residency(check_version(known[each], _model(workspace, each), digest), workspace)
        for each in sorted(known) if site is None else [site]:
            console.print(
                f"{each:<12} selects {digest} ({promote_site(workspace, each, digest, recorded.get(each)).name})"
            )
    except (ServingError, ReleaseError, WorkspaceError, engines.EngineError, ValueError) as error:
        raise _fail(error) from error


@app.command()
def status(env: Env = LAB, as_json: Json = False) -> None:
    """Versions in the stores, which site selects which, and which is declared to be served."""
    workspace = Workspace.of(env)
    try:
        known = stores(env, workspace)
        found = versions(list(known.values()), _model(workspace, min(known)))
        declared = {site: outputs.model_digest for site, outputs in served(env, workspace).items()}
    except (ServingError, ReleaseError, WorkspaceError, engines.EngineError, ValueError) as error:
        raise _fail(error) from error
    rows = [
        {
            "digest": version.digest,
            "published": version.published.isoformat(timespec="seconds"),
            "selectable": version.selectable,
            "stores": list(version.stores),
            "selected": [site for site in sorted(known) if selected(workspace, site) == version.digest],
            "served": [site for site in sorted(declared) if declared[site] == version.digest],
        }
        for version in found
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("digest", "published", "stores", "selectable", "selected by", "declared by"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(
            str(row["digest"]),
            str(row["published"]),
            *(", ".join(row[key]) for key in ("stores",)),  # type: ignore[arg-type]  # the row is JSON
            "yes" if row["selectable"] else "no",
            *(", ".join(row[key]) for key in ("selected", "served")),  # type: ignore[arg-type]  # the row is JSON
        )
    Console().print(table)


def _model(workspace: Workspace, site: str) -> str:
    """The model's name in a site's store, as its serving stack's settings have it."""
    settings = workspace.settings(StackName("serving", site, workspace.env))
    return str(settings.get(f"{PROJECT}:model_name", "recommender"))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ReleaseError(f"{path} holds a {type(content).__name__}; a settings file is a mapping with `config:`")
    return content


def _fail(error: Exception) -> typer.Exit:
    console.print(f"[bold red]error[/bold red] {error}")
    return typer.Exit(1)
