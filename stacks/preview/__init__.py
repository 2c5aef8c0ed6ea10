"""What a change of programs or settings would do: two revisions evaluated in dry run, and the difference told.

    evaluator.py    runs programs, in a process of its own with the revision's code
    revision.py     one revision's stacks, evaluated layer by layer
    difference.py   what differs between two evaluations, and what follows from it
    replacement.py  which changes replace a resource, and how that is known
    aws_arguments.py aws_conditions.py effect.py    what it knows of AWS, and in which words it answers
    masking.py      no secret in anything that is printed
    text.py digest.py comment.py    the difference for a terminal, a machine, a pull request

PreviewError: a revision or a program that cannot be evaluated; says which and why.
"""

from __future__ import annotations


class PreviewError(Exception):
    """A revision or a program that cannot be evaluated."""
