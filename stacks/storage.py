"""`storage-<site>`: where a site keeps models, events and signals, and where what it holds is copied to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pulumi import Input, ResourceOptions

from infra import naming
from infra.alarm_topic import AlarmTopic, AlarmTopicArgs
from infra.backup import Backup, BackupArgs
from infra.bucket import Bucket, BucketArgs
from infra.bucket_life import Life
from infra.event_store import EventStore, EventStoreArgs
from infra.model_store import CLASSES as MODEL_CLASSES
from infra.model_store import ModelStore
from infra.replication import Copy, Replication, ReplicationArgs, ReplicationRole, Topics
from infra.residency import DataClass
from infra.settings import StorageSettings
from infra.settings_storage import AWS
from infra.signal_store import SignalStore, SignalStoreArgs
from stacks import contract, providers


def declare(stack: contract.StackName, settings: StorageSettings) -> dict[str, Any]:
    """The stores of the site, in the object store its settings name, and their copies in its second region."""
    opts = ResourceOptions(provider=providers.cloud(stack, settings, profile=settings.credentials_profile))
    args = BucketArgs(
        region=settings.region,
        kind=settings.store_kind,
        tls=settings.store_tls,
        lock=settings.lock,
        life=Life(noncurrent_days=settings.noncurrent_days),
        force_destroy=settings.force_destroy,
        protect=settings.protect,
        tags=naming.tags(settings.site),
    )
    models = ModelStore(settings.site, args, opts)
    events = EventStore(
        settings.site,
        EventStoreArgs(bucket=args, life=settings.events_life, raw_life=settings.raw_events_life),
        opts,
    )
    endpoint = settings.aws_endpoints.get("s3", "")
    signals = SignalStore(
        settings.site,
        SignalStoreArgs(
            bucket=args,
            region=settings.region,
            endpoint=endpoint,
            open_keys=contract.drain_key("*"),
            reader_cidrs=settings.checker_cidrs + settings.gateway_cidrs,
        ),
        opts,
    )
    rules = _Copies(stack, settings, args, opts).declare(models, events) if settings.copied else []
    return {
        "site": settings.site,
        "region": settings.region,
        "endpoint": endpoint,
        "model_bucket": models.bucket,
        "model_key_arn": models.store.key_arn,
        "signal_bucket": signals.bucket,
        "signal_url": signals.url,
        "credentials_profile": settings.credentials_profile,
        "replication_rules": rules,
    }


class _Copies:
    """Replicas, which follow the site's stores, and backups, which outlive them."""

    def __init__(
        self, stack: contract.StackName, settings: StorageSettings, args: BucketArgs, opts: ResourceOptions
    ) -> None:
        self._settings, self._opts = settings, opts
        self._args = replace(args, region=settings.second_region)
        region, endpoints = settings.second_region, settings.second_endpoints
        profile = settings.credentials_profile
        there = providers.cloud(stack, settings, region=region, endpoints=endpoints, profile=profile)
        self._there = ResourceOptions(provider=there)
        self._kept = self._there
        if settings.backup_role:
            role = settings.backup_role
            other = providers.cloud(stack, settings, region=region, endpoints=endpoints, role=role, profile=profile)
            self._kept = ResourceOptions(provider=other)
        self._topics: Topics | None = None
        if settings.alarm_emails or settings.alarm_urls:
            told = AlarmTopicArgs(emails=settings.alarm_emails, urls=settings.alarm_urls, tags=args.tags)
            name = f"{settings.site}-storage"
            self._topics = Topics(
                failed=AlarmTopic(name, told, opts).arn,
                late=AlarmTopic(f"{name}-{region}", told, self._there).arn,
            )
        self._rules: list[dict[str, Input[str]]] = []

    def declare(self, models: ModelStore, events: EventStore) -> list[dict[str, Input[str]]]:
        """A copy of each bucket that is copied, as rules; raw events only where a setting lets them leave."""
        site, settings = self._settings.site, self._settings
        replicas: dict[str, Bucket] = {}
        raw = events.raw if settings.raw_events_may_leave else None
        if settings.replication == AWS:
            replicas["models"] = ModelStore(f"{site}-replica", self._args, self._there).store
            copied = EventStoreArgs(
                bucket=self._args,
                life=settings.events_life,
                raw_life=settings.raw_events_life if raw else None,
            )
            store = EventStore(f"{site}-replica", copied, self._there)
            replicas["events"] = store.store
            if store.raw:
                replicas["raw-events"] = store.raw
        self._copy("models", models.store, MODEL_CLASSES, self._args.life, replicas)
        self._copy("events", events.store, (DataClass.PSEUDONYMISED_EVENTS,), settings.events_life, replicas)
        if raw:
            self._copy("raw-events", raw, (DataClass.RAW_EVENTS,), settings.raw_events_life, replicas)
        return self._rules

    def _copy(
        self,
        what: str,
        source: Bucket,
        classes: tuple[DataClass, ...],
        life: Life,
        replicas: dict[str, Bucket],
    ) -> None:
        settings, region = self._settings, self._settings.second_region
        # What names a person goes when its time is over; a backup would hold it back.
        backed_up = settings.backup == AWS and DataClass.RAW_EVENTS not in classes
        if what not in replicas and not backed_up:
            return
        name = f"{settings.site}-{what}"
        role = ReplicationRole(name, self._args.tags, self._opts)
        copies = []
        if what in replicas:
            copies.append(Copy(purpose="replica", bucket=replicas[what], region=region, deletions=True))
        if backed_up:
            kept = BackupArgs(
                bucket=replace(self._args, life=life),
                classes=classes,
                writer=role.arn,
                other_account=bool(settings.backup_account),
            )
            store = Backup(name, kept, self._kept).store
            account = settings.backup_account
            copies.append(Copy(purpose="backup", bucket=store, region=region, account=account, deletions=False))
        Replication(
            name,
            ReplicationArgs(
                source=source,
                source_region=settings.region,
                classes=classes,
                raw_events_may_leave=settings.raw_events_may_leave,
                role=role,
                copies=tuple(copies),
                topics=self._topics,
                there=self._there,
                tags=self._args.tags,
            ),
            self._opts,
        )
        self._rules += [
            {"source": source.name, "destination": copy.bucket.name, "rule": copy.purpose, "region": copy.region}
            for copy in copies
        ]
