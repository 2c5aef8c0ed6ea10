"""Every key of the contract has a reader; that each is exported is checked where the programs run."""

import ast
from functools import cache
from pathlib import Path

import pytest

from stacks.contract import LAYERS, Objectives, SiteEndpoint

ROOT = Path(__file__).resolve().parent.parent
READERS = ("drills", "signals", "stacks", "release.py", "rehearsal.py", "tandem.py")
REFERENCE_METHODS = ("text", "filled", "number", "whole", "words", "listed")
"""How stacks/references.py reads a recorded output by its name."""
KEYS = sorted({(cls.__name__, key) for cls in (*LAYERS.values(), SiteEndpoint, Objectives) for key in cls.keys()})  # noqa: SIM118


@cache
def names_read() -> set[str]:
    """Attributes, and strings passed to a reference, in everything that reads outputs."""
    found: set[str] = set()
    for reader in READERS:
        place = ROOT / reader
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            if path.name == "contract.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(node.attr)
                elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in REFERENCE_METHODS:
                    found.update(str(given.value) for given in node.args if isinstance(given, ast.Constant))
    return found


@pytest.mark.parametrize(("outputs", "key"), KEYS, ids=[f"{outputs}.{key}" for outputs, key in KEYS])
def test_a_contract_key_is_read_by_a_drill_a_later_stack_or_a_command(outputs: str, key: str) -> None:
    assert key in names_read(), f"{outputs}.{key} is exported and nobody reads it: drop it or use it"
