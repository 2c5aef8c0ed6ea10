"""The workflow files: actions that cannot be moved, commands that exist, and a gate that stands before prod."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import tandem

FOLDER = Path(__file__).resolve().parent.parent / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+\b")
PLACEHOLDER = re.compile(r"\$\{LAYER:\+(?P<words>[^}]*)\}")


def jobs(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))["jobs"])


def commands(text: str) -> list[list[str]]:
    """The `tandem` commands of a text, each as words, without quotes and up to a pipe or the like."""
    lines = [PLACEHOLDER.sub(r"\g<words>", line) for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [re.search(r"\.venv/bin/tandem ([^>|)]*)", line) for line in lines]
    return [match.group(1).replace('"', "").split() for match in found if match]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_sha(path: Path) -> None:
    used = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert used != []
    assert [line for line in used if not PINNED.search(line)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_command_and_option_exists(path: Path) -> None:
    for words in commands(path.read_text(encoding="utf-8")):
        command: Any = typer.main.get_command(tandem.app)
        for word in words:
            if hasattr(command, "commands"):
                assert word in command.commands, f"tandem {' '.join(words)}: there is no command {word!r}"
                command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, f"tandem {' '.join(words)}"


@pytest.mark.parametrize("name", ["plan.yml", "up.yml"])
def test_the_gate_for_prod_is_the_real_clis_plan_made_by_a_role_that_only_reads(name: str) -> None:
    """Run by the CLI from this tree, a preview is held to the rules: see tests/stacks/test_plans.py."""
    job = jobs(name)["plan"]
    assert job["environment"] == "prod-plan"
    roles = [step["with"]["role-to-assume"] for step in job["steps"] if "role-to-assume" in step.get("with", {})]
    assert roles == ["${{ vars.AWS_PLAN_ROLE }}"]
    runs = [step for step in job["steps"] if "run" in step]
    [at] = [index for index, step in enumerate(runs) if commands(step["run"])]
    [planned] = commands(runs[at]["run"])
    assert planned[:7] == ["preview", "--env", "prod", "--engine", "cli", "--plans", "plans"]
    assert "make check" in [step["run"] for step in runs[:at]], "it installs what the CLI judges by the rules with"
    assert "continue-on-error" not in runs[at], "a broken rule ends the job"
    assert "||" not in runs[at]["run"], "a broken rule ends the job"


def test_up_does_what_was_planned_in_the_same_run() -> None:
    job = jobs("up.yml")["up"]
    assert job["needs"] == "plan"
    [up] = [words for step in job["steps"] for words in commands(step.get("run", "")) if words[0] == "up"]
    assert up[:5] == ["up", "--env", "prod", "--plan", "plans"]
