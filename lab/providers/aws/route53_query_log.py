"""Route 53: query logging; the lab's name server answers queries and writes none down."""

# ruff: noqa: ARG002 - methods take what their interface says, needed or not

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from botocore.exceptions import ClientError

from lab.providers.aws.cloud import Cloud, code_of
from lab.providers.aws.resource import AwsType
from lab.providers.aws.rules import matches
from lab.providers.errors import Failure, ProviderError

_GONE: Final = {"NoSuchQueryLoggingConfig", "NoSuchHostedZone"}
_ALL_STREAMS: Final = ":*"
"""Ends a group's ARN where it means what is in the group; moto wants it, the real API takes both."""


class QueryLog(AwsType):
    """The log group a zone's queries go to."""

    type_name = "aws:route53/queryLog:QueryLog"
    replace_on = ("cloudwatchLogGroupArn", "zoneId")
    delete_first = True  # a zone has one

    def rules(self, cloud: Cloud, inputs: dict[str, Any]) -> Iterator[Failure]:
        yield from matches(
            inputs,
            "cloudwatchLogGroupArn",
            r"arn:aws:logs:us-east-1:\d*:log-group:/aws/route53/.+",
            "queries are logged in us-east-1, to a group below /aws/route53/",
        )

    def create(self, cloud: Cloud, inputs: dict[str, Any], tags: dict[str, str]) -> str:
        client, group = cloud.client("route53"), _streams(inputs["cloudwatchLogGroupArn"])
        pages = client.get_paginator("list_query_logging_configs").paginate()
        every = [config for page in pages for config in page["QueryLoggingConfigs"]]
        for config in [config for config in every if config["HostedZoneId"] == inputs["zoneId"]]:
            if config["CloudWatchLogsLogGroupArn"] != group:
                raise ProviderError(f"zone {inputs['zoneId']} logs to another group already; a zone has one: remove it")
            return str(config["Id"])
        made = client.create_query_logging_config(HostedZoneId=inputs["zoneId"], CloudWatchLogsLogGroupArn=group)
        return str(made["QueryLoggingConfig"]["Id"])

    def read(self, cloud: Cloud, identity: str, inputs: dict[str, Any]) -> dict[str, Any] | None:
        try:
            found = cloud.client("route53").get_query_logging_config(Id=identity)["QueryLoggingConfig"]
        except ClientError as error:
            if code_of(error) in _GONE:
                return None
            raise
        return {
            "arn": f"arn:aws:route53:::queryloggingconfig/{identity}",
            "zoneId": found["HostedZoneId"],
            "cloudwatchLogGroupArn": found["CloudWatchLogsLogGroupArn"].removesuffix(_ALL_STREAMS),
        }

    def delete(self, cloud: Cloud, identity: str, state: dict[str, Any]) -> None:
        try:
            cloud.client("route53").delete_query_logging_config(Id=identity)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise


def _streams(group_arn: str) -> str:
    return group_arn.removesuffix(_ALL_STREAMS) + _ALL_STREAMS


TYPES: Final = (QueryLog,)
