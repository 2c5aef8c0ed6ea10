"""What a stack reads from the stacks below it: recorded outputs, by the contract's keys only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pulumi
from pulumi import Output

from stacks import contract

CONFIG: Final = Path(__file__).resolve().parent / "config"


class Recorded:
    """The outputs another stack recorded at its last `up`."""

    def __init__(self, stack: contract.StackName) -> None:
        self._stack = stack
        self._reference = pulumi.StackReference(f"{stack.layer}-{stack.site}", stack_name=stack.qualified)

    def text(self, key: str) -> Output[str]:
        """A key of the contract that holds text."""
        return self._read(key).apply(str)

    def filled(self, key: str) -> Output[str]:
        """Text that must not be empty; raises ContractError once it is known to be."""
        return self._read(key).apply(lambda value: self._checked(key, value))

    def number(self, key: str) -> Output[float]:
        """A key of the contract that holds a number."""
        return self._read(key).apply(lambda value: self._number(key, value))

    def whole(self, key: str) -> Output[int]:
        """A key of the contract that holds a whole number; engines keep every number as a decimal one."""
        return self.number(key).apply(int)

    def words(self, key: str) -> Output[dict[str, str]]:
        """A key of the contract that maps names to text."""
        return self._read(key).apply(lambda value: {str(name): str(text) for name, text in dict(value).items()})  # type: ignore[call-overload]  # the contract's type

    def listed(self, key: str) -> Output[list[dict[str, str]]]:
        """A key of the contract that lists maps of names to text."""
        return self._read(key).apply(
            lambda value: [{str(name): str(text) for name, text in dict(row).items()} for row in list(value)]  # type: ignore[call-overload]  # the contract's type
        )

    def _read(self, key: str) -> Output[object]:
        keys = contract.LAYERS[self._stack.layer].keys()
        if key not in keys:
            raise contract.ContractError(
                f"{key!r} is no output of {self._stack}; a {self._stack.layer} stack exports {', '.join(keys)}:"
                " read one of these, or add it to stacks/contract.py"
            )
        return self._reference.require_output(key)

    def _number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise contract.ContractError(
                f"{key} of {self._stack} is {value!r}; it is a number: bring {self._stack} up again"
            )
        return float(value)

    def _checked(self, key: str, value: object) -> str:
        if not value:
            raise contract.ContractError(
                f"{key} of {self._stack} is empty; this stack needs it: check that both name the same kind of site,"
                f" and bring {self._stack} up again"
            )
        return str(value)


def sites_with_settings(env: str, config: Path = CONFIG) -> frozenset[str]:
    """The sites that have a serving stack's settings file in this environment."""
    stacks = (contract.StackName.parse(path.stem.removeprefix("Pulumi.")) for path in config.glob("Pulumi.serving-*"))
    return frozenset(stack.site or "" for stack in stacks if stack.env == env)
