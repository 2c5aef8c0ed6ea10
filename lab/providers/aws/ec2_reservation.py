"""EC2: capacity that is kept for somebody; recorded, for machines of the lab never run out."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from lab.providers.aws.cloud import Cloud
from lab.providers.aws.recorded import ACCOUNT, MOMENT, Recorded
from lab.providers.aws.rules import between, matches, one_of
from lab.providers.errors import Failure


class CapacityReservation(Recorded):
    """So many machines of one type in one zone; it grows and shrinks in place."""

    type_name = "aws:ec2/capacityReservation:CapacityReservation"
    defaults: ClassVar = {
        "ebsOptimized": False,
        "endDateType": "unlimited",
        "ephemeralStorage": False,
        "instanceMatchCriteria": "open",
        "tenancy": "default",
    }
    replace_on = (
        "availabilityZone",
        "ebsOptimized",
        "ephemeralStorage",
        "instanceMatchCriteria",
        "instancePlatform",
        "instanceType",
        "tenancy",
        "region",
    )
    in_place = ("endDate", "endDateType", "instanceCount")
    blank: ClassVar = {"endDate": "", "outpostArn": "", "placementGroupArn": ""}
    _ids: ClassVar[Iterator[int]] = itertools.count(1)

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from one_of(inputs, "instanceMatchCriteria", "open", "targeted")
        yield from one_of(inputs, "endDateType", "unlimited", "limited")
        yield from between(inputs, "instanceCount", 1, 1000)
        zone = rf"{cloud.region}[a-z]"
        yield from matches(inputs, "availabilityZone", zone, f"zones of {cloud.region} look like {cloud.region}a")

    def identity(self, inputs: dict[str, Any]) -> str:
        return f"cr-{next(self._ids):017x}"

    def computed(self, cloud: Cloud, identity: str, inputs: dict[str, Any], number: int) -> dict[str, Any]:
        return {
            "arn": f"arn:aws:ec2:{cloud.region}:{ACCOUNT}:capacity-reservation/{identity}",
            "createdDate": MOMENT,
            "ownerId": ACCOUNT,
        }


TYPES: Final = (CapacityReservation,)
