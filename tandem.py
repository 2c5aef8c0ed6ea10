"""The command: joins the rooms' typer apps, nothing else."""

from __future__ import annotations

import typer

import drills.cli
import drills.site_cli
import gates
import lab.cli
import rehearsal
import release
import serving.cli
import stacks.cli
import stacks.lock_cli
import stacks.recover_cli

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"obj": gates.of},
    help="One recommender, two clouds, and drills that prove that losing either one is survivable.",
)
app.registered_commands += stacks.cli.app.registered_commands + stacks.recover_cli.ways.registered_commands
app.command("rehearse")(rehearsal.rehearse)

model = typer.Typer(no_args_is_help=True, help="Train, publish and select versions of the recommender.")
model.registered_commands += serving.cli.app.registered_commands + release.app.registered_commands

app.add_typer(model, name="model")
app.add_typer(drills.cli.app, name="drill")
app.add_typer(drills.site_cli.app, name="site")
app.add_typer(stacks.lock_cli.app, name="lock")
app.add_typer(stacks.recover_cli.app, name="state")
app.add_typer(lab.cli.app, name="lab")


def main() -> None:
    """Entry point of the `tandem` script."""
    app()


if __name__ == "__main__":
    main()
