"""The program of every stack: `<layer>[-<site>].<env>` -> settings -> declare -> exactly the contract's keys."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

# A program starts with its own folder first on the path, where platform.py and serving.py would hide a module of the
# standard library and a room of the house.
sys.path[0] = str(Path(__file__).resolve().parents[1])

import pulumi  # noqa: E402 - the path first

from infra import settings  # noqa: E402
from stacks import contract  # noqa: E402


def main() -> None:
    """Declare the stack that is being run."""
    stack = contract.StackName.parse(pulumi.get_stack())
    declared = settings.read(stack.layer, stack.site)
    # Only the module of this layer: a traffic stack imports no Kubernetes.
    exported = importlib.import_module(f"stacks.{stack.layer}").declare(stack, declared)
    contract.LAYERS[stack.layer].check_keys(exported)
    for key, value in exported.items():
        pulumi.export(key, value)


main()
