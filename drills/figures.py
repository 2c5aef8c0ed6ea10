"""Figures of a drill for its journal and its report."""

from __future__ import annotations

import time
from typing import Any

from drills import load, measure
from drills.evidence import Evidence


def measures_of(evidence: Evidence, result: load.LoadResult) -> dict[str, Any]:
    """Figures for journal and report."""
    begun = evidence.broken or evidence.started
    ended = evidence.restored or time.monotonic()
    samples = evidence.samples
    stretches = {
        "before": [s for s in samples if s.finished < begun],
        "during": [s for s in samples if s.finished >= begun and s.intended < ended],
        "after": [s for s in samples if s.intended >= ended],
        "whole": samples,
    }
    return {
        "recovery_seconds": round(evidence.recovery_seconds(), 3) if evidence.stages else None,
        "recovery_bound_seconds": measure.recovery_bound_seconds(evidence.deployment.traffic),
        "fault_seconds": round(ended - begun, 3),
        "stages": [
            {
                "name": stage.name,
                **{
                    moment: None if value is None else round(value - begun, 3)
                    for moment, value in (
                        ("broken", stage.broken),
                        ("bitten", stage.bitten),
                        ("effect", stage.effect),
                        ("restored", stage.restored),
                        ("well", stage.well),
                    )
                },
            }
            for stage in evidence.stages
        ],
        "digests": {
            site: {
                "declared": serving.model_digest,
                "answered": sorted({s.digest or "" for s in samples if s.site == site and s.outcome == measure.OK}),
            }
            for site, serving in sorted(evidence.deployment.serving.items())
        },
        **{name: measure.summary(stretch) for name, stretch in stretches.items()},
        "facts": evidence.facts,
        "generator_lag": vars(result.lag),
        "timeline": measure.timeline(samples, begun),
    }
