"""S3's replication between the lab's stores: bytes move, soon after they were written, as a bucket's rules say.

What moto lacks: it keeps the rules and copies nothing. A version keeps its id in every copy. A destination that refuses
a copy makes the version FAILED, which is never tried again, as S3 does not; one that is away is asked again and the
version stays PENDING. What was there before the rule is not copied, nor what is itself a copy, nor the deletion of a
single version.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.s3.models import FakeBucket, FakeDeleteMarker, FakeKey, s3_backends

from lab.aws.bucket_policy import REPLICA_HEADER
from lab.aws.server import ACCOUNT

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PENDING: Final = "PENDING"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
REPLICA: Final = "REPLICA"
DELAY_SECONDS: Final = 0.2
"""From a write to its copy, at least: a reader that is quicker finds nothing there, as it would in S3."""
LONGEST_PAUSE_SECONDS: Final = 5.0
_REGION: Final = "us-east-1"
_CONFIG: Final = Config(
    connect_timeout=2,
    read_timeout=30,
    retries={"total_max_attempts": 1},
    proxies={},
    s3={"addressing_style": "path"},
)

Version = FakeKey | FakeDeleteMarker


@dataclass(frozen=True)
class Rule:
    """One rule of a bucket that is switched on, as much of it as the lab acts on."""

    name: str
    priority: int
    bucket: str
    """Where to."""
    replica_key: str
    prefix: str
    tags: tuple[tuple[str, str], ...]
    deletions: bool
    keyed: bool
    """Whether objects under KMS keys are copied too."""

    def matches(self, version: Version, tags: Mapping[str, str]) -> bool:
        """Whether this version is to be copied."""
        if not version.name.startswith(self.prefix):
            return False
        if isinstance(version, FakeDeleteMarker):
            return self.deletions and not self.tags
        if (version.encryption or "").startswith("aws:kms") and not self.keyed:
            return False
        return all(tags.get(key) == value for key, value in self.tags)


@dataclass
class _Task:
    """One version on its way to one bucket."""

    version: Version
    source: str
    rule: Rule
    written: float


@dataclass
class _Lane:
    """What waits for one bucket, in the order it was written; nothing overtakes."""

    waiting: deque[_Task] = field(default_factory=deque)
    not_before: float = 0.0
    pause: float = 0.0


class Replicator:
    """Copies in one thread; `places` are the stores a destination may be in, by URL."""

    def __init__(
        self,
        places: Sequence[str],
        *,
        delay_seconds: float = DELAY_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._places = tuple(places)
        self._delay = delay_seconds
        self._clock = clock
        self._lanes: dict[str, _Lane] = {}
        self._changed = threading.Condition()
        self._clients: dict[str, S3Client] = {}
        self._homes: dict[str, str] = {}
        self._failed: dict[str, int] = {}
        self._worker: threading.Thread | None = None

    def written(self, bucket: FakeBucket, name: str) -> None:
        """The newest version of this key was written just now, by somebody who is not a store."""
        versions = bucket.keys.getlist(name, [])
        if not versions:
            return
        version: Version = versions[-1]
        tags = s3_backends[ACCOUNT]["aws"].tagger.get_tag_dict_for_resource(getattr(version, "arn", ""))
        chosen: dict[str, Rule] = {}
        for rule in sorted(rules(bucket), key=lambda rule: rule.priority):
            if rule.matches(version, tags):
                chosen[rule.bucket] = rule
        if not chosen:
            return
        _results(version).update(dict.fromkeys(chosen, PENDING))
        with self._changed:
            for rule in chosen.values():
                task = _Task(version, bucket.name, rule, self._clock())
                self._lanes.setdefault(rule.bucket, _Lane()).waiting.append(task)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="replication", daemon=True)
                self._worker.start()
            self._changed.notify()

    def report(self) -> dict[str, Any]:
        """What waits, for how long already, and what was given up, by rule."""
        with self._changed:
            waiting = [task for lane in self._lanes.values() for task in lane.waiting]
            now = self._clock()
            return {
                "pending": len(waiting),
                "oldest_seconds": max((now - task.written for task in waiting), default=0.0),
                "failed": dict(self._failed),
            }

    def _work(self) -> None:
        while True:
            with self._changed:
                while (task := self._due()) is None:
                    self._changed.wait(self._wait_seconds())
            outcome = self._copy(task)
            with self._changed:
                lane = self._lanes[task.rule.bucket]
                if outcome is None:
                    lane.pause = min(LONGEST_PAUSE_SECONDS, lane.pause * 2 or 0.5)
                    lane.not_before = self._clock() + lane.pause
                    continue
                lane.waiting.popleft()
                lane.pause = 0.0
                _results(task.version)[task.rule.bucket] = outcome
                if outcome == FAILED:
                    name = f"{task.source} {task.rule.name}"
                    self._failed[name] = self._failed.get(name, 0) + 1

    def _due(self) -> _Task | None:
        now = self._clock()
        for lane in self._lanes.values():
            if lane.waiting and now >= max(lane.not_before, lane.waiting[0].written + self._delay):
                return lane.waiting[0]
        return None

    def _wait_seconds(self) -> float | None:
        times = [
            max(lane.not_before, lane.waiting[0].written + self._delay) for lane in self._lanes.values() if lane.waiting
        ]
        return max(0.0, min(times) - self._clock()) if times else None

    def _copy(self, task: _Task) -> str | None:
        """What became of it; None while the destination is away."""
        bucket = task.rule.bucket
        try:
            client = self._client(bucket)
            if client is None:
                return FAILED
            _send(client, task)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            self._homes.pop(bucket, None)
            return None if status >= 500 else FAILED
        except (BotoCoreError, OSError):
            self._homes.pop(bucket, None)
            return None
        except ValueError:
            return FAILED  # the version was deleted for good before its turn
        return COMPLETED

    def _client(self, bucket: str) -> S3Client | None:
        """The store that has this bucket; None when all of them answer and none has."""
        if bucket not in self._homes:
            away: Exception | None = None
            for place in self._places:
                try:
                    self._connected(place).head_bucket(Bucket=bucket)
                except ClientError:
                    continue
                except (BotoCoreError, OSError) as error:
                    away = error
                    continue
                self._homes[bucket] = place
                break
            else:
                if away is not None:
                    raise away
                return None
        return self._connected(self._homes[bucket])

    def _connected(self, place: str) -> S3Client:
        if place not in self._clients:
            session = boto3.session.Session(
                aws_access_key_id="lab",
                aws_secret_access_key="lab",  # noqa: S106  # the lab's stores take any
                region_name=_REGION,
            )
            self._clients[place] = session.client("s3", endpoint_url=place, config=_CONFIG)
        return self._clients[place]


def rules(bucket: FakeBucket) -> list[Rule]:
    """The rules of a bucket that are switched on."""
    found = getattr(bucket, "replication", None) or {}
    return [_rule(rule) for rule in found.get("Rule", []) if rule.get("Status") == "Enabled"]


def status(version: Version | None) -> str:
    """What S3 says of a version in `x-amz-replication-status`; empty where it says nothing."""
    if version is None:
        return ""
    if getattr(version, "is_replica", False):
        return REPLICA
    results = set(_results(version).values())
    return next((each for each in (FAILED, PENDING, COMPLETED) if each in results), "")


def arrived(bucket: FakeBucket, name: str, version_id: str) -> None:
    """The newest version of this key is a copy and has the id it has at its source."""
    version: Any = bucket.keys.getlist(name)[-1]
    tagger = s3_backends[ACCOUNT]["aws"].tagger
    tags = {} if isinstance(version, FakeDeleteMarker) else tagger.get_tag_dict_for_resource(version.arn)
    version._version_id = version_id
    version.is_replica = True
    if tags:  # moto keeps them by the id it had given
        tagger.tag_resource(version.arn, tagger.convert_dict_to_tags_input(tags))


def holds(bucket: FakeBucket, name: str, version_id: str) -> bool:
    """Whether this copy arrived before."""
    return any(str(version.version_id) == version_id for version in bucket.keys.getlist(name, []))


def _results(version: Any) -> dict[str, str]:
    """Destination to what became of the copy."""
    if not hasattr(version, "replication_results"):
        version.replication_results = {}
    found: dict[str, str] = version.replication_results
    return found


def _rule(rule: Mapping[str, Any]) -> Rule:
    where = rule.get("Filter") or {}
    both = where.get("And") or {}
    tags = both.get("Tag") or where.get("Tag") or []
    destination = rule["Destination"]
    encrypted = (rule.get("SourceSelectionCriteria") or {}).get("SseKmsEncryptedObjects") or {}
    return Rule(
        name=str(rule.get("ID", "")),
        priority=int(rule.get("Priority", 1)),
        bucket=str(destination["Bucket"]).rpartition(":")[2],
        replica_key=(destination.get("EncryptionConfiguration") or {}).get("ReplicaKmsKeyID") or "",
        prefix=both.get("Prefix") or where.get("Prefix") or rule.get("Prefix") or "",
        tags=tuple((tag["Key"], tag["Value"]) for tag in (tags if isinstance(tags, list) else [tags])),
        deletions=(rule.get("DeleteMarkerReplication") or {}).get("Status") == "Enabled",
        keyed=encrypted.get("Status") == "Enabled",
    )


def _send(client: S3Client, task: _Task) -> None:
    """Write the copy; raises what boto3 raises, and ValueError for a version that is gone."""
    version = task.version
    operation = "DeleteObject" if isinstance(version, FakeDeleteMarker) else "PutObject"

    def named(params: dict[str, Any], **_: Any) -> None:
        params["headers"][REPLICA_HEADER] = str(version.version_id)

    client.meta.events.register(f"before-call.s3.{operation}", named, unique_id="replica")
    try:
        if isinstance(version, FakeDeleteMarker):
            client.delete_object(Bucket=task.rule.bucket, Key=version.name)
        else:
            client.put_object(Bucket=task.rule.bucket, Key=version.name, **_contents(version, task.rule))
    finally:
        client.meta.events.unregister(f"before-call.s3.{operation}", named, unique_id="replica")


def _contents(version: FakeKey, rule: Rule) -> Any:
    """Bytes, metadata, tags and lock of a version; of its encryption, what the rule says."""
    metadata = dict(version.metadata)
    found: dict[str, Any] = {
        "Body": version.value,
        "ContentType": metadata.pop("Content-Type", None) or metadata.pop("content-type", "binary/octet-stream"),
        "Metadata": {
            key.removeprefix("x-amz-meta-"): value for key, value in metadata.items() if key.startswith("x-amz-meta-")
        },
    }
    if version.lock_mode and version.lock_until:
        found |= {"ObjectLockMode": version.lock_mode, "ObjectLockRetainUntilDate": version.lock_until}
    if rule.replica_key:
        found |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": rule.replica_key}
    tags = s3_backends[ACCOUNT]["aws"].tagger.get_tag_dict_for_resource(version.arn)
    if tags:
        found["Tagging"] = "&".join(f"{key}={value}" for key, value in tags.items())
    return found
