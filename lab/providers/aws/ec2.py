"""EC2: what its types have in common, and the zones of a region."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import MARKER_TAG, Cloud, code_of, to_tag_list
from lab.providers.aws.resource import AwsType


class Ec2Type(AwsType):
    """A resource of EC2: found by a describe call, tagged with create_tags."""

    describe: ClassVar[tuple[str, str, str]]
    """Describe method, its ids argument and the key of its answer."""

    def live(self, cloud: Cloud, identity: str) -> dict[str, Any] | None:
        """What the API says about it, or None when it is gone."""
        method, argument, key = self.describe
        try:
            found = getattr(cloud.client("ec2"), method)(**{argument: [identity]})[key]
        except ClientError as error:
            if "NotFound" in code_of(error) or "Malformed" in code_of(error):
                return None
            raise
        alive = [item for item in found if item.get("State") not in {"deleted", "deleting"}]
        return dict(alive[0]) if alive else None

    def tag(self, cloud: Cloud, identity: str, tags: dict[str, str], removed: list[str]) -> None:
        client = cloud.client("ec2")
        if tags:
            client.create_tags(Resources=[identity], Tags=to_tag_list(tags))
        if removed:
            client.delete_tags(Resources=[identity], Tags=[{"Key": key} for key in removed])

    def marked(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        for tag in cloud.client("ec2").describe_tags(Filters=[{"Name": "key", "Values": [MARKER_TAG]}])["Tags"]:
            yield tag["ResourceId"], tag["Value"]

    def gone(self, error: ClientError) -> bool:
        """Whether an error says that the resource is not there."""
        return "NotFound" in code_of(error)


def availability_zones(cloud: Cloud, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What `aws.get_availability_zones` returns."""
    filters = [{"Name": item["name"], "Values": item["values"]} for item in arguments.get("filters") or []]
    found = cloud.client("ec2").describe_availability_zones(Filters=filters)["AvailabilityZones"]
    state = arguments.get("state")
    left_out = {*(arguments.get("excludeNames") or []), *(arguments.get("excludeZoneIds") or [])}
    zones = sorted(
        (
            zone
            for zone in found
            if (not state or zone["State"] == state) and not left_out & {zone["ZoneName"], zone.get("ZoneId")}
        ),
        key=lambda zone: str(zone["ZoneName"]),
    )
    return {
        **arguments,
        "id": cloud.region,
        "region": cloud.region,
        "names": [zone["ZoneName"] for zone in zones],
        "zoneIds": [zone.get("ZoneId", "") for zone in zones],
        "groupNames": sorted({zone.get("GroupName") or cloud.region for zone in zones}),
    }
