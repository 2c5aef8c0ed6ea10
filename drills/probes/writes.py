"""Probes of the AWS API's writing half, and the count of what it was asked to write."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import boto3
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from drills.access import API_TIMEOUT_SECONDS
from drills.drill import NotRun, Observation

REFUSED: Final = "ServiceUnavailable"
LOG_PATH: Final = "/tandem/requests"


@dataclass(frozen=True)
class WritesRefused:
    """The API refuses a write, asked for as a dry run that would change nothing."""

    api: str

    @property
    def name(self) -> str:
        return "the AWS API refuses writes"

    async def ask(self) -> Observation:
        return await asyncio.to_thread(self._ask)

    def _ask(self) -> Observation:
        with _making_clients:
            ec2 = _ec2(self.api)
        try:
            ec2.create_vpc(CidrBlock="10.255.0.0/16", DryRun=True)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            return Observation(self.name, held=code == REFUSED, detail=code)
        except BotoCoreError as error:
            return Observation(self.name, held=False, detail=str(error)[:200])
        return Observation(self.name, held=False, detail="a dry run was carried out")


_making_clients = threading.Lock()
"""Clients may be shared between threads, making one may not."""


@cache
def _ec2(api: str) -> Any:
    """One client for each API: making one takes longer than asking."""
    return boto3.client(
        "ec2",
        endpoint_url=api,
        region_name="us-east-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",  # noqa: S106  the rehearsal's API asks for none
        config=Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 1}),
    )


@dataclass
class WritesAsked:
    """Counts what anybody asked the API to write, answered well or not."""

    api: str
    _since: int = field(default=0)
    _epoch: str = ""

    async def begin(self) -> None:
        """See Meter."""
        found = await self._read(0)
        self._since, self._epoch = int(found["latest"]), str(found["epoch"])

    async def end(self) -> dict[str, Any]:
        """`aws_writes`: each with service, action and status."""
        found = await self._read(self._since)
        if found["epoch"] != self._epoch:
            return {}  # it was started anew and has forgotten: not counted
        return {"aws_writes": [f"{call['service']} {call['action']} {call['status']}" for call in found["requests"]]}

    async def _read(self, since: int) -> dict[str, Any]:
        query = {"since": str(since), "writes": "true"}
        try:
            async with httpx.AsyncClient(timeout=API_TIMEOUT_SECONDS) as http:
                answer = await http.get(f"{self.api}{LOG_PATH}", params=query)
                answer.raise_for_status()
                content: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise NotRun(f"the API's log of requests cannot be read: {self.api}{LOG_PATH}: {error}") from error
        return content
