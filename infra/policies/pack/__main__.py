"""The policy pack of the real CLI; it alone builds one, for a pack serves until it is ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import pulumi_policy
from pulumi_policy.proxy import UnknownValueError

from infra.policies.adapter import policies

if __name__ == "__main__":
    pulumi_policy.PolicyPack(
        name="tandem",
        enforcement_level=pulumi_policy.EnforcementLevel.MANDATORY,
        policies=policies(cast("Any", pulumi_policy), UnknownValueError),
    )
