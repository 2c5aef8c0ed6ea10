"""How many GPUs an EC2 instance type has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from infra.checks import SettingError

_ONE: Final = {"xlarge": 1, "2xlarge": 1, "4xlarge": 1, "8xlarge": 1, "16xlarge": 1}
_BY_FAMILY: Final[Mapping[str, Mapping[str, int]]] = {
    "g4dn": {**_ONE, "12xlarge": 4, "metal": 8},
    "g5": {**_ONE, "12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6": {**_ONE, "12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "g6e": {**_ONE, "12xlarge": 4, "24xlarge": 4, "48xlarge": 8},
    "p4d": {"24xlarge": 8},
    "p5": {"4xlarge": 1, "48xlarge": 8},
}
"""https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html"""


def gpus_of(instance_type: str) -> int:
    """GPUs of one instance. Raises SettingError for a type that is not in the table."""
    family, _, size = instance_type.partition(".")
    found = _BY_FAMILY.get(family, {}).get(size)
    if found is None:
        raise SettingError(
            f"instance type {instance_type!r} is not known to have a GPU; the families are {', '.join(_BY_FAMILY)}:"
            " choose one of them, or add it to infra/gpu_instances.py"
        )
    return found
