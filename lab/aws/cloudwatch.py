"""CloudWatch's alarms over what was really put into moto: judged at a pace, their state set, their topics told.

moto stores alarms and metrics and never compares them. The lab also publishes what Route 53 and ACM publish by
themselves: the status of each health check, as the prober sees it, and the days each certificate has left.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final

from moto.acm.models import acm_backends
from moto.cloudwatch.models import Alarm, CloudWatchBackend, MetricAggregatedDatum, MetricDatumBase, cloudwatch_backends
from moto.sns.models import sns_backends

from lab.aws import alarm as rules
from lab.aws import observations
from lab.aws.alarm import Rule, Sample
from lab.aws.server import ACCOUNT

EVALUATION_SECONDS: Final = 10.0
"""How often alarms are judged; AWS takes a minute for those with periods of a minute or more."""
KEPT_SECONDS: Final = 3 * 3600.0
"""moto keeps every value for ever; only a certificate's days look further back, and of them one day's may be gone."""
DAY_SECONDS: Final = 86_400
HEALTH_REGION: Final = "us-east-1"
"""Where Route 53 publishes its metrics, and nowhere else."""
NOTHING: Final = "-"
UNCHECKED: Final = "Unchecked: Initial alarm creation"
"""What AWS and moto say of an alarm that was never judged."""

log = logging.getLogger(__name__)


class CloudWatch:
    """Judges every alarm of the account again and again, in a thread of its own."""

    def __init__(
        self,
        report: Callable[[], dict[str, Any]],
        *,
        clock_factor: float = 1.0,
        tell: Executor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`report` gives the prober's view, as its status API does; `clock_factor` divides periods and pace.

        `tell` carries messages to topics; an endpoint that hangs must hold up no other alarm.
        """
        self._report, self._factor, self._clock = report, clock_factor, clock
        self._tell: Executor = tell or ThreadPoolExecutor(1, thread_name_prefix="sns")
        self._stopped = threading.Event()
        self._judged: dict[str, str] = {}
        """ARN of each alarm -> the state set here; one that was never judged has none."""
        self._published: dict[str, float] = {}

    def start(self) -> None:
        """Begin; the thread ends with the process."""
        threading.Thread(target=self._run, name="cloudwatch", daemon=True).start()

    def stop(self) -> None:
        """End before the next round."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(EVALUATION_SECONDS / self._factor):
            try:
                self.round()
            except Exception:  # a round that fails must not be the last one: alarms would freeze unseen
                log.exception("alarms were not judged")

    def round(self) -> None:
        """Publish what AWS publishes by itself, forget what is old, judge every alarm once."""
        self._publish_health()
        self._publish_expiry()
        seen = set()
        for region, backend in list(cloudwatch_backends[ACCOUNT].items()):
            _forget(backend.metric_data, self._clock() - KEPT_SECONDS)
            for alarm in list(backend.alarms.values()):
                seen.add(alarm.alarm_arn)
                self._judge(region, backend, alarm)
        for gone in set(self._judged) - seen:
            del self._judged[gone]

    def settle(self) -> None:
        """Put right that moto calls every alarm it is given OK: a new one is unknown, a changed one as before."""
        for backend in list(cloudwatch_backends[ACCOUNT].values()):
            for alarm in list(backend.alarms.values()):
                if alarm.state_reason == UNCHECKED:
                    alarm.state_value = self._judged.get(alarm.alarm_arn, rules.INSUFFICIENT)

    def _judge(self, region: str, backend: CloudWatchBackend, alarm: Alarm) -> None:
        rule = rule_of(alarm, self._factor)
        if rule is None:
            return
        now = self._clock()
        found = rules.points(rule, _samples(backend, alarm, now - rule.reach_seconds), now)
        before = self._judged.get(alarm.alarm_arn, rules.INSUFFICIENT)
        state = rules.judge(rule, found, before)
        if state != alarm.state_value or alarm.alarm_arn not in self._judged:
            values = ", ".join(NOTHING if value is None else f"{value:g}" for value in found)
            reason = (
                f"{rule.statistic} of the last periods, latest first: {values}; {rule.comparison} {rule.threshold:g}"
            )
            alarm.update_state(reason, "{}", state)
            self._judged[alarm.alarm_arn] = state
            if state != before:
                log.warning("alarm %s is now %s: %s", alarm.name, state, reason)
                self._announce(region, alarm, before)

    def _announce(self, region: str, alarm: Alarm, before: str) -> None:
        """Tell the topics that are to hear of this state."""
        actions = {
            rules.ALARM: alarm.alarm_actions,
            rules.OK: alarm.ok_actions,
            rules.INSUFFICIENT: alarm.insufficient_data_actions,
        }[alarm.state_value]
        message = json.dumps(
            {
                "AlarmName": alarm.name,
                "AlarmDescription": alarm.description,
                "AWSAccountId": ACCOUNT,
                "NewStateValue": alarm.state_value,
                "OldStateValue": before,
                "NewStateReason": alarm.state_reason,
                "StateChangeTime": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "Region": region,
                "AlarmArn": alarm.alarm_arn,
            }
        )
        subject = f'{alarm.state_value}: "{alarm.name}" in {region}'[:99]
        for action in actions if alarm.actions_enabled else ():
            if action.startswith("arn:aws:sns:"):
                self._tell.submit(_publish, action, subject, message)

    def _publish_health(self) -> None:
        """Route 53's HealthCheckStatus, once a minute; nothing while the prober is away, as it would be."""
        if not self._due("health", 60 / self._factor):
            return
        try:
            checks = self._report()["checks"]
        except observations.ProberAwayError as error:
            log.debug("no health to publish: %s", error)
            return
        data = [
            _datum("HealthCheckStatus", "HealthCheckId", check_id, 1.0 if check["healthy"] else 0.0)
            for check_id, check in checks.items()
            if not check["disabled"]
        ]
        cloudwatch_backends[ACCOUNT][HEALTH_REGION].put_metric_data("AWS/Route53", data)

    def _publish_expiry(self) -> None:
        """ACM's DaysToExpiry of certificates that are issued and not yet over, twice a day."""
        if not self._due("expiry", DAY_SECONDS / 2 / self._factor):
            return
        for region, backend in list(acm_backends[ACCOUNT].items()):
            for arn, bundle in list(backend._certificates.items()):
                facts = bundle.describe()["Certificate"]
                left = (facts["NotAfter"] - self._clock()) / DAY_SECONDS
                if facts["Status"] == "ISSUED" and left > 0:
                    datum = _datum("DaysToExpiry", "CertificateArn", arn, float(int(left)))
                    cloudwatch_backends[ACCOUNT][region].put_metric_data("AWS/CertificateManager", [datum])

    def _due(self, what: str, every_seconds: float) -> bool:
        now = self._clock()
        if now - self._published.get(what, float("-inf")) < every_seconds:
            return False
        self._published[what] = now
        return True


def rule_of(alarm: Alarm, clock_factor: float = 1.0) -> Rule | None:
    """What this alarm goes by; None for one the lab does not judge."""
    if alarm.metric_data_queries or alarm.rule or alarm.statistic not in rules.STATISTICS:
        return None
    if alarm.comparison_operator not in rules.COMPARISONS:
        return None
    periods = int(alarm.evaluation_periods)
    return Rule(
        statistic=alarm.statistic,
        comparison=alarm.comparison_operator,
        threshold=float(alarm.threshold),
        period_seconds=float(alarm.period) / clock_factor,
        periods=periods,
        to_alarm=int(alarm.datapoints_to_alarm or periods),
        treatment=alarm.treat_missing_data or "missing",
    )


def _samples(backend: CloudWatchBackend, alarm: Alarm, since: float) -> Iterator[Sample]:
    wanted = {(dimension.name, dimension.value) for dimension in alarm.dimensions}
    for datum in list(backend.metric_data):
        if datum.namespace != alarm.namespace or datum.name != alarm.metric_name:
            continue
        moment = _time(datum)
        if moment < since or {(dimension.name, dimension.value) for dimension in datum.dimensions} != wanted:
            continue
        if isinstance(datum, MetricAggregatedDatum):
            yield Sample(moment, datum.sum, datum.min, datum.max, datum.sample_count)
        else:
            value = float(datum.value)  # type: ignore[attr-defined]  # the only other kind of value there is
            yield Sample(moment, value, value, value)


def _time(datum: MetricDatumBase) -> float:
    """When the value was measured; moto's own clock has no zone and means UTC."""
    moment: datetime = datum.timestamp
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _forget(data: list[MetricDatumBase], before: float) -> None:
    """Drop the oldest values; what other threads add meanwhile stands at the end and stays."""
    old = 0
    for datum in data:
        if _time(datum) >= before:
            break
        old += 1
    del data[:old]


def _datum(name: str, dimension: str, value: str, number: float) -> dict[str, Any]:
    return {"MetricName": name, "Dimensions": [{"Name": dimension, "Value": value}], "Value": number}


def _publish(topic: str, subject: str, message: str) -> None:
    try:
        sns_backends[ACCOUNT][topic.split(":")[3]].publish(message, topic, subject=subject)
    except Exception as error:  # noqa: BLE001 - an endpoint of anybody's; the alarm stands either way
        log.warning("%s was not told: %r", topic, error)
