"""What a rule is: a sentence, how much it has to see, and a pure judgement of what is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from infra.policies.declared import Declared, StackDeclared

PROD: Final = "prod"
"""The environment some rules apply to alone: what is lost there is lost for good."""

Over = Literal["resource", "stack", "environment"]
Stacks = Mapping[str, StackDeclared]


@dataclass(frozen=True)
class Finding:
    """What a judgement says of one resource, or of a stack as a whole."""

    stack: str
    urn: str
    message: str
    """Value, rule, remedy; of an undecided one, what has to be known first."""
    decided: bool = True


@dataclass(frozen=True)
class Violation:
    """One place where a rule does not hold."""

    rule: str
    stack: str
    urn: str
    """Of the resource; empty where the stack as a whole is meant."""
    message: str

    def __str__(self) -> str:
        return f"{self.stack}: {self.urn.rpartition('::')[2] or 'the stack'}: {self.message} [{self.rule}]"


@dataclass(frozen=True)
class Undecided(Violation):
    """One place where a rule can be judged only once values are known."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A sentence every environment keeps to, and how to see whether it does."""

    name: str
    says: str
    over: Over
    """The least that has to be seen at once to judge it."""
    judge: Callable[[Stacks], Iterable[Finding]]
    only: str = ""
    """The one environment it applies to; empty for every one."""
    about: tuple[str, ...] = ()
    """Types it is about; none where it looks at whole stacks."""
    secretness: bool = False
    """Whether it goes by which values are secret, which a caller may not know."""

    def verdicts(self, stacks: Stacks) -> Iterator[Violation]:
        """Violations, and Undecided where a value it hangs on is not known yet."""
        concerned = {
            name: stack for name, stack in stacks.items() if not self.only or environment_of(name) == self.only
        }
        for found in self.judge(concerned):
            kind = Violation if found.decided else Undecided
            yield kind(self.name, found.stack, found.urn, found.message)

    def check(self, stacks: Stacks) -> list[Violation]:
        """The violations alone."""
        return [found for found in self.verdicts(stacks) if not isinstance(found, Undecided)]


def environment_of(stack: str) -> str:
    """The environment a stack's name ends in."""
    return stack.rpartition(".")[2]


def site_of(stack: str) -> str:
    """The site in a stack's name; empty for a layer above all sites."""
    return stack.rpartition(".")[0].partition("-")[2]


def layer_of(stack: str) -> str:
    """The layer a stack's name begins with."""
    return stack.rpartition(".")[0].partition("-")[0]


def wrong(where: Declared | StackDeclared, message: str) -> Finding:
    """The rule does not hold here."""
    return Finding(where.stack, where.urn if isinstance(where, Declared) else "", message)


def unsure(where: Declared | StackDeclared, what: str) -> Finding:
    """Whether the rule holds here depends on `what`, which is not known yet."""
    message = f"{what} is known after `up` only; until then nobody can tell"
    return Finding(where.stack, where.urn if isinstance(where, Declared) else "", message, decided=False)


ResourceJudge = Callable[[Declared], Iterable[Finding]]
StackJudge = Callable[[StackDeclared], Iterable[Finding]]
EnvironmentJudge = Callable[[Stacks], Iterable[Finding]]


def resource_rule(name: str, says: str, *types: str, only: str = "") -> Callable[[ResourceJudge], Rule]:
    """A rule each resource of these types keeps to by itself; of no types, every resource."""

    def made(judge: ResourceJudge) -> Rule:
        def over_all(stacks: Stacks) -> Iterator[Finding]:
            for stack in stacks.values():
                for resource in stack.resources:
                    if not types or resource.type in types:
                        yield from judge(resource)

        return Rule(name=name, says=says, over="resource", judge=over_all, only=only, about=types)

    return made


def stack_rule(name: str, says: str, *, only: str = "", secretness: bool = False) -> Callable[[StackJudge], Rule]:
    """A rule about how the resources of one stack stand to each other."""

    def made(judge: StackJudge) -> Rule:
        def over_all(stacks: Stacks) -> Iterator[Finding]:
            for stack in stacks.values():
                yield from judge(stack)

        return Rule(name=name, says=says, over="stack", judge=over_all, only=only, secretness=secretness)

    return made


def environment_rule(name: str, says: str, *, only: str = "") -> Callable[[EnvironmentJudge], Rule]:
    """A rule about how the stacks of one environment stand to each other."""

    def made(judge: EnvironmentJudge) -> Rule:
        def over_each(stacks: Stacks) -> Iterator[Finding]:
            for environment in sorted({environment_of(stack) for stack in stacks}):
                yield from judge({name: held for name, held in stacks.items() if environment_of(name) == environment})

        return Rule(name=name, says=says, over="environment", judge=over_each, only=only)

    return made
