"""What Jobs and CronJobs have to be before they are stored.

What the lab does not do with a Job is refused: a Job that quietly runs otherwise than it was asked to is worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from lab.kubernetes.api import syntax
from lab.kubernetes.api.cron import Schedule
from lab.kubernetes.api.errors import Cause
from lab.kubernetes.api.objects import Object, name_of
from lab.kubernetes.api.pod_rules import invalid, label, not_supported, pod_spec

_NUMBERS: Final = ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
_ABSENT: Final = ("backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "successPolicy")
_CONTROLLER: Final = "kubernetes.io/job-controller"
_REPLACEMENTS: Final = ("Failed", "TerminatingOrFailed")
_CONCURRENCY: Final = ("Allow", "Forbid", "Replace")
_ZONES: Final = ("Etc/UTC", "UTC")
_NAME_LIMIT: Final = 52
"""Of a CronJob: its Jobs add a time to it."""


def job(obj: Object, before: Object) -> Iterable[Cause]:
    """A Job, new or changed."""
    spec = obj["spec"]
    for key, value in ((spec["template"].get("metadata") or {}).get("labels") or {}).items():
        yield from label(key, value, "spec.template.labels")
    yield from _job_spec(spec, "spec")
    if before:
        for field in ("selector", "template", "completionMode", "completions"):
            if before["spec"].get(field) != spec.get(field):
                yield invalid(f"spec.{field}", "", syntax.IMMUTABLE_RULE)


def cron_job(obj: Object, _: Object) -> Iterable[Cause]:
    """A CronJob."""
    spec, name = obj["spec"], name_of(obj)
    if len(name) > _NAME_LIMIT:
        yield invalid("metadata.name", name, f"must be no more than {_NAME_LIMIT} characters")
    try:
        Schedule.parse(spec["schedule"])
    except ValueError as error:
        yield invalid("spec.schedule", spec["schedule"], str(error))
    if spec.get("timeZone", "UTC") not in _ZONES:
        yield not_supported("spec.timeZone", spec["timeZone"], _ZONES)
    if spec["concurrencyPolicy"] not in _CONCURRENCY:
        yield not_supported("spec.concurrencyPolicy", spec["concurrencyPolicy"], _CONCURRENCY)
    yield from _at_least_zero(
        spec, "spec", ("startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    )
    if "spec" in spec["jobTemplate"]:
        yield from _job_spec(spec["jobTemplate"]["spec"], "spec.jobTemplate.spec")


def _job_spec(spec: dict[str, Any], at: str) -> Iterable[Cause]:
    yield from pod_spec(spec["template"].get("spec") or {}, f"{at}.template.spec", ("OnFailure", "Never"))
    yield from _at_least_zero(spec, at, _NUMBERS)
    if spec.get("completionMode", "NonIndexed") != "NonIndexed":
        rule = "the lab does not run Indexed Jobs; leave completionMode out, or write NonIndexed"
        yield invalid(f"{at}.completionMode", spec["completionMode"], rule)
    if spec.get("podReplacementPolicy", _REPLACEMENTS[0]) not in _REPLACEMENTS:
        yield not_supported(f"{at}.podReplacementPolicy", spec["podReplacementPolicy"], _REPLACEMENTS)
    if spec.get("managedBy", _CONTROLLER) != _CONTROLLER:
        yield not_supported(f"{at}.managedBy", spec["managedBy"], (_CONTROLLER,))
    for name in _ABSENT:
        if name in spec:
            yield invalid(f"{at}.{name}", spec[name], "the lab does not do it; leave it out")


def _at_least_zero(spec: dict[str, Any], at: str, names: Iterable[str]) -> Iterable[Cause]:
    for name in names:
        if spec.get(name, 0) < 0:
            yield invalid(f"{at}.{name}", spec[name], "must be greater than or equal to 0")
