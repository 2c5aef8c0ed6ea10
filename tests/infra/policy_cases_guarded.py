"""Cases of the rules of rights, of what must not be lost and of what must not be read."""

from __future__ import annotations

from typing import Any

from infra.policies.credentials import CONFIG_MAP, SECRET
from infra.policies.declared import UNKNOWN
from infra.policies.identity import CLUSTER_BINDINGS, CLUSTER_ROLES
from infra.policies.kept import ADDRESS, KEY, LOAD_BALANCER
from infra.policies.pods import DEPLOYMENT
from infra.policies.statements import ROLE
from infra.policies.storage import AWS_PROVIDER, BUCKET
from tests.infra.policy_case import cases, joined, made, stack
from tests.infra.policy_cases_storage import LAB, PROD, policy

TOPIC = "tandem:alarm_topic:AlarmTopic"


def rights(*statements: dict[str, Any]) -> dict[str, Any]:
    return stack(PROD, made(PROD, "aws:iam/rolePolicy:RolePolicy", "rights", policy(*statements)))


def attached(arn: str) -> dict[str, Any]:
    kind = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    return stack(PROD, made(PROD, kind, "rights", {"policyArn": arn}))


READ = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::models/*"}
IDENTITY = joined(
    cases(
        "no-wildcard-admin",
        ("everything", rights({"Effect": "Allow", "Action": "*", "Resource": "*"}), "red", "every resource"),
        ("a whole service", rights({"Effect": "Allow", "Action": ["iam:*"], "Resource": ["*"]}), "red", "iam:*"),
        ("all but one", rights({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}), "red", "all but"),
        (
            "a service but for one thing",
            rights({"Effect": "Allow", "Action": "s3:*", "NotResource": "x"}),
            "red",
            "s3:*",
        ),
        ("an administrator", attached("arn:aws:iam::aws:policy/AdministratorAccess"), "red", "AdministratorAccess"),
        (
            "one written into the role",
            stack(
                PROD,
                made(
                    PROD,
                    ROLE,
                    "r",
                    {"inlinePolicies": [policy({"Effect": "Allow", "Action": "*", "Resource": "*"})]},
                ),
            ),
            "red",
            "every resource",
        ),
        ("one action on one bucket", rights(READ), "green"),
        ("a whole service on one bucket", rights({**READ, "Action": "s3:*"}), "green"),
        ("a denial of everything", rights({"Effect": "Deny", "Action": "*", "Resource": "*"}), "green"),
        ("a worker's policy", attached("arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"), "green"),
        (
            "a text that is not known",
            stack(PROD, made(PROD, "aws:iam/policy:Policy", "p", {"policy": UNKNOWN})),
            "open",
        ),
    ),
    cases(
        "no-wildcard-role",
        ("all verbs", stack(PROD, made(PROD, CLUSTER_ROLES[0], "r", {"rules": [{"verbs": ["*"]}]})), "red", "verbs"),
        (
            "cluster-admin",
            stack(PROD, made(PROD, CLUSTER_BINDINGS[1], "b", {"roleRef": {"name": "cluster-admin"}})),
            "red",
            "cluster-admin",
        ),
        (
            "named",
            stack(PROD, made(PROD, CLUSTER_ROLES[0], "r", {"rules": [{"verbs": ["get"], "resources": ["pods"]}]})),
            "green",
        ),
    ),
)


def lasting(kind: str, inputs: dict[str, Any], *, protect: bool, where: str = PROD) -> dict[str, Any]:
    return stack(where, made(where, kind, "kept", inputs, protect=protect))


KEPT = joined(
    cases(
        "key-rotates",
        ("never", stack(PROD, made(PROD, KEY, "k", {})), "red", "rotated every year"),
        (
            "deleted at once",
            stack(PROD, made(PROD, KEY, "k", {"enableKeyRotation": True, "deletionWindowInDays": 7})),
            "red",
            "deletionWindowInDays is 7",
        ),
        (
            "every year",
            stack(PROD, made(PROD, KEY, "k", {"enableKeyRotation": True, "deletionWindowInDays": 14})),
            "green",
        ),
        (
            "of messages that pass",
            stack(PROD, made(PROD, KEY, "k", {"enableKeyRotation": True, "deletionWindowInDays": 7}, component=TOPIC)),
            "green",
        ),
        ("not known", stack(PROD, made(PROD, KEY, "k", {"enableKeyRotation": UNKNOWN})), "open"),
    ),
    cases(
        "lasting-protected",
        ("a key", lasting(KEY, {}, protect=False), "red", "protect is false"),
        ("an emptied bucket", lasting(BUCKET, {"forceDestroy": True}, protect=True), "red", "forceDestroy"),
        ("the edge's address", lasting(ADDRESS, {"tags": {"tandem.io/role": "edge"}}, protect=False), "red", "protect"),
        ("protected", lasting(BUCKET, {"forceDestroy": False}, protect=True), "green"),
        ("in the lab", lasting(KEY, {}, protect=False, where=LAB), "green"),
        ("a gateway's address", lasting(ADDRESS, {"tags": {"tandem.io/role": "nat"}}, protect=False), "green"),
        ("an address of something", lasting(ADDRESS, {"tags": UNKNOWN}, protect=False), "open"),
    ),
    cases(
        "edge-kept",
        ("neither", lasting(LOAD_BALANCER, {}, protect=False), "red", "enableDeletionProtection"),
        ("by AWS", lasting(LOAD_BALANCER, {"enableDeletionProtection": True}, protect=False), "green"),
        ("by Pulumi", lasting(LOAD_BALANCER, {}, protect=True), "green"),
        ("not known", lasting(LOAD_BALANCER, {"enableDeletionProtection": UNKNOWN}, protect=False), "open"),
    ),
)


def env(name: str, value: str) -> dict[str, Any]:
    container = {"name": "c", "env": [{"name": name, "value": value}]}
    return stack(PROD, made(PROD, DEPLOYMENT, "d", {"spec": {"template": {"spec": {"containers": [container]}}}}))


def arguments(*words: str) -> dict[str, Any]:
    container = {"name": "c", "args": list(words)}
    return stack(PROD, made(PROD, DEPLOYMENT, "d", {"spec": {"template": {"spec": {"containers": [container]}}}}))


def secret(**more: Any) -> dict[str, Any]:
    return stack(PROD, made(PROD, SECRET, "s", {"stringData": {"anything": "x"}}, **more))


SECRETS = joined(
    cases(
        "no-secret-in-manifest",
        ("a password in a pod", env("DB_PASSWORD", "x"), "red", "DB_PASSWORD"),
        ("a key by its look", env("WHO", "AKIAIOSFODNN7EXAMPLE"), "red", "env WHO"),
        ("a password in a URL", env("URL", "postgres://me:word@db/x"), "red", "env URL"),
        (
            "a key in a ConfigMap",
            stack(PROD, made(PROD, CONFIG_MAP, "m", {"data": {"key": "-----BEGIN PRIVATE KEY-----"}})),
            "red",
            "data.key",
        ),
        ("a password in an argument", arguments("--url=https://me:word@db/x"), "red", "an argument"),
        ("an argument", arguments("--url=https://db/x"), "green"),
        ("a word of health checks", env("HEALTH_TOKEN", "golden"), "green"),
        ("from a Secret", env("DB_PASSWORD", ""), "green"),
        ("a plain map", stack(PROD, made(PROD, CONFIG_MAP, "m", {"data": {"weights": "70"}})), "green"),
    ),
    cases(
        "secrets-marked",
        ("a Secret's data in the clear", secret(), "red", "stringData.anything"),
        (
            "a provider's key",
            stack(PROD, made(PROD, AWS_PROVIDER, "aws", {"secretKey": "x"})),
            "red",
            "secretKey",
        ),
        ("an output", stack(PROD, made(PROD, KEY, "k", {}), store_password="x"), "red", "output store_password"),
        ("marked", secret(secrets=frozenset({"stringData.anything"})), "green"),
        ("marked as a whole", secret(secrets=frozenset({"stringData"})), "green"),
        (
            "a provider's key, marked",
            stack(PROD, made(PROD, AWS_PROVIDER, "aws", {"secretKey": "x"}, secrets=frozenset({"secretKey"}))),
            "green",
        ),
        ("a word of health checks", stack(PROD, health_token="golden"), "green"),
        ("a component holds nothing", stack(PROD, made(PROD, TOPIC, "t", {"password": "x"})), "green"),
        ("not known yet", stack(PROD, made(PROD, SECRET, "s", {"data": {"x": UNKNOWN}})), "open"),
    ),
)
CASES = [*IDENTITY, *KEPT, *SECRETS]
