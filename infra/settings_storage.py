"""The settings of `storage-<site>`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar, Final

from infra import checkers, checks, naming, object_store, receivers
from infra.bucket_life import COMPLIANCE, GOVERNANCE, MODES, Life, Lock
from infra.checks import SettingError
from infra.object_store import COLD_DAYS_LEAST, StoreKind
from infra.settings_base import KINDS, PRIVATE, PUBLIC, AwsSettings

AWS: Final = "aws"
EXTERNAL: Final = "external"
NONE: Final = "none"
COPIES: Final = (AWS, EXTERNAL, NONE)
LONGEST_DAYS: Final = 36_500
_PROFILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::(?P<account>[0-9]{12}):role/[\w+=,.@/-]+")


@dataclass(frozen=True, kw_only=True)
class StorageSettings(AwsSettings):
    """`storage-<site>`."""

    layer: ClassVar[str] = "storage"
    services: ClassVar[tuple[str, ...]] = ("cloudwatch", "iam", "kms", "s3", "sns", "sts")

    site: str
    kind: str
    store: str = ""
    """aws or ceph; empty for aws on a public site and ceph on a private one."""
    store_tls: bool = True
    """Whether buckets refuse what comes without TLS; false only for a store that speaks plain http."""
    lock_mode: str = GOVERNANCE
    lock_days: int = 30
    """How long versions of models and all backups cannot be deleted; 0 for no lock."""
    noncurrent_days: int = 30
    """From being replaced or deleted to being gone for good."""
    raw_events_days: int = 30
    events_cold_days: int = 90
    """From being written to the store's cheaper class; 0 for never."""
    events_days: int = 365
    raw_events_may_leave: bool = False
    """Whether raw events are copied too; they stay at their site unless somebody answers for that."""
    replication: str = NONE
    """aws: to replicas in the second region; external: by something the operator keeps; none."""
    backup: str = NONE
    """aws: to locked copies in the second region; external: by something the operator keeps; none."""
    second_region: str = ""
    second_endpoints: dict[str, str] = field(default_factory=dict)
    """Service to URL there, for what is not reached at AWS's own endpoint."""
    backup_role: str = ""
    """Role of another account that backups are kept in; empty for the site's own account."""
    alarm_emails: tuple[str, ...] = ()
    alarm_urls: tuple[str, ...] = ()
    force_destroy: bool = False
    """Whether deleting a bucket deletes the objects in it."""
    checker_cidrs: tuple[str, ...] = checkers.NETWORKS
    """Networks the health checkers read drain marks from."""
    gateway_cidrs: tuple[str, ...] = ()
    """Networks the store sees gateways come from that have neither identity nor key to read drain marks with."""
    credentials_profile: str = ""
    """Profile of the AWS configuration, where the store is opened by another identity than AWS's API."""

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.label("site", self.site, naming.SITE_LIMIT)
        checks.one_of("kind", self.kind, KINDS)
        checks.networks("checker_cidrs", self.checker_cidrs)
        if self.gateway_cidrs:
            checks.networks("gateway_cidrs", self.gateway_cidrs)
        self._check_store()
        self._check_times()
        self._check_copies()
        receivers.check(self.alarm_emails, self.alarm_urls)
        if self.credentials_profile and not _PROFILE.fullmatch(self.credentials_profile):
            raise SettingError(
                f"credentials_profile is {self.credentials_profile!r}; it names a profile of the AWS configuration on"
                " each machine that works with this store, in letters, digits and -_.@+: correct it, or remove it"
            )
        if self.protect and self.force_destroy:
            raise SettingError(
                "force_destroy and protect are both true; a protected bucket is not emptied on deletion:"
                " set one of them to false"
            )

    @property
    def store_kind(self) -> StoreKind:
        """What the site's store can do."""
        return object_store.KINDS[self.store or (AWS if self.kind == PUBLIC else object_store.CEPH.name)]

    @property
    def lock(self) -> Lock | None:
        """Of models and backups."""
        return Lock(mode=self.lock_mode, days=self.lock_days) if self.lock_days else None

    @property
    def events_life(self) -> Life:
        """Of pseudonymised events."""
        return Life(noncurrent_days=self.noncurrent_days, cold_days=self.events_cold_days, expire_days=self.events_days)

    @property
    def raw_events_life(self) -> Life:
        """Of raw events: gone soon, also what was replaced or deleted."""
        kept = min(self.noncurrent_days, self.raw_events_days)
        return Life(noncurrent_days=kept, expire_days=self.raw_events_days)

    @property
    def backup_account(self) -> str:
        """The account of the backups, where it is another one."""
        matched = _ROLE.fullmatch(self.backup_role)
        return matched["account"] if matched else ""

    @property
    def copied(self) -> bool:
        """Whether anything is declared in the second region."""
        return AWS in (self.replication, self.backup)

    def _check_store(self) -> None:
        if self.store:
            checks.one_of("store", self.store, object_store.KINDS)
        endpoint = self.aws_endpoints.get("s3", "")
        if not endpoint and (self.kind == PRIVATE or self.store_kind is object_store.CEPH):
            raise SettingError(
                "aws_endpoints has no s3; a private site keeps its data in its own object store:"
                " set aws_endpoints.s3 to that store's URL"
            )
        plain = endpoint.startswith("http:")
        if self.store_tls and plain:
            raise SettingError(
                f"store_tls is true and aws_endpoints.s3 is {endpoint}; such buckets would refuse every request: give"
                " the store an https URL, or set store_tls: false where it speaks no TLS at all"
            )
        if not self.store_tls and not plain:
            raise SettingError(
                f"store_tls is false and the store is reached at {endpoint or 'AWS'}, which speaks TLS; nothing is let"
                " through without it: remove store_tls"
            )

    def _check_times(self) -> None:
        checks.one_of("lock_mode", self.lock_mode, MODES)
        checks.between("lock_days", self.lock_days, 0, LONGEST_DAYS)
        checks.between("noncurrent_days", self.noncurrent_days, 1, LONGEST_DAYS)
        checks.between("raw_events_days", self.raw_events_days, 1, LONGEST_DAYS)
        checks.between("events_days", self.events_days, 1, LONGEST_DAYS)
        if self.lock and self.lock_mode == COMPLIANCE and self.force_destroy:
            raise SettingError(
                "lock_mode is compliance and force_destroy is true; nobody deletes what is locked so, not even to empty"
                f" a bucket: set lock_mode: {GOVERNANCE}, or force_destroy: false"
            )
        if self.events_cold_days and not COLD_DAYS_LEAST <= self.events_cold_days < self.events_days:
            raise SettingError(
                f"events_cold_days is {self.events_cold_days}; it is 0, or at least {COLD_DAYS_LEAST} and less than"
                f" events_days ({self.events_days}): choose one of these"
            )

    def _check_copies(self) -> None:
        for key in ("replication", "backup"):
            chosen = getattr(self, key)
            checks.one_of(key, chosen, COPIES)
            if chosen == AWS and not self.store_kind.replicates:
                raise SettingError(
                    f"{key} is aws and the store is {self.store_kind.name}; only AWS copies buckets to its regions: set"
                    f" {key}: external and let the store's own multisite do it, or none"
                )
        checks.endpoints("second_endpoints", self.second_endpoints, self.services)
        if not self.copied:
            for key in ("second_region", "second_endpoints", "backup_role"):
                if getattr(self, key):
                    raise SettingError(
                        f"{key} is set and neither replication nor backup is aws; nothing is declared there: remove it,"
                        " or set one of them to aws"
                    )
            return
        checks.region("second_region", self.second_region)
        if self.second_region == self.region:
            raise SettingError(
                f"second_region is {self.second_region}, the site's own; what takes one region takes both copies:"
                " choose another one"
            )
        if bool(self.second_endpoints) != bool(self.aws_endpoints):
            raise SettingError(
                "aws_endpoints and second_endpoints are not both set; a copy would cross from AWS to something else,"
                " which S3 does not do: set both or none"
            )
        if self.backup != AWS:
            if self.backup_role:
                raise SettingError(f"backup_role is set and backup is {self.backup}; set backup: aws, or remove it")
            return
        if not self.lock:
            raise SettingError(
                "backup is aws and lock_days is 0; what deletes the site could delete its backup: set lock_days"
            )
        if self.lock_days > self.events_days:
            raise SettingError(
                f"lock_days is {self.lock_days} and events_days {self.events_days}; a locked backup would keep events"
                " longer than they may be kept: lower lock_days or raise events_days"
            )
        if self.backup_role and not _ROLE.fullmatch(self.backup_role):
            raise SettingError(
                f"backup_role is {self.backup_role!r}; it is the ARN of a role: write it like"
                " arn:aws:iam::444455556666:role/tandem-backup"
            )
