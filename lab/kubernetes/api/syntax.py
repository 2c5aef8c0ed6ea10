"""Rules for names, labels and quantities."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_ENVIRONMENT: Final = re.compile(r"[ -<>-~]+")
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_QUANTITY: Final = re.compile(
    r"([+-]?[0-9]+\.?[0-9]*|[+-]?\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]+)?"
)
_FACTORS: Final = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    **{f"{prefix}i": Decimal(1024**power) for power, prefix in enumerate("KMGTPE", 1)},
}

SUBDOMAIN_RULE: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character, at most 253 characters"
)
LABEL_RULE: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character, at most 63 characters"
)
SERVICE_RULE: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character,"
    " and end with an alphanumeric character, at most 63 characters"
)
KEY_RULE: Final = (
    "a label key is a name of at most 63 alphanumeric characters, '-', '_' or '.', with an optional DNS subdomain and"
    " '/' before it"
)
VALUE_RULE: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character, at most 63 characters"
)
ENVIRONMENT_RULE: Final = (
    "a valid environment variable name must consist only of printable ASCII characters other than '='"
)
IMMUTABLE_RULE: Final = "field is immutable"
QUANTITY_RULE: Final = "quantities must be a decimal number with an optional suffix such as m, k, M, Gi"
PORT_NAME_RULE: Final = "a port name has at most 15 lower case alphanumeric characters or '-', and at least one letter"


def subdomain(text: str) -> bool:
    """DNS-1123 subdomain: names of most objects."""
    return len(text) <= 253 and bool(_SUBDOMAIN.fullmatch(text))


def label(text: str) -> bool:
    """DNS-1123 label: names of namespaces, containers, volumes."""
    return len(text) <= 63 and bool(_LABEL.fullmatch(text))


def service_name(text: str) -> bool:
    """DNS-1035 label: names of services."""
    return len(text) <= 63 and bool(_SERVICE.fullmatch(text))


def path_segment(text: str) -> bool:
    """Names of RBAC objects: anything that can stand in a URL."""
    return text not in ("", ".", "..") and "/" not in text and "%" not in text


def qualified(key: str) -> bool:
    """Keys of labels, annotations and extended resources."""
    prefix, slash, name = key.rpartition("/")
    return len(name) <= 63 and bool(_QUALIFIED.fullmatch(name)) and (not slash or subdomain(prefix))


def label_value(text: str) -> bool:
    """Values of labels."""
    return text == "" or (len(text) <= 63 and bool(_QUALIFIED.fullmatch(text)))


def environment_name(text: str) -> bool:
    """Names of environment variables."""
    return bool(_ENVIRONMENT.fullmatch(text))


def port_name(text: str) -> bool:
    """IANA service names: names of container ports."""
    return len(text) <= 15 and bool(_PORT_NAME.fullmatch(text))


def quantity(text: str | float) -> Decimal | None:
    """The amount a quantity such as 500m or 2Gi means; None when it is none."""
    found = _QUANTITY.fullmatch(str(text).strip())
    if not found:
        return None
    number, suffix = found[1], found[2] or ""
    try:
        if suffix[:1] in ("e", "E") and len(suffix) > 1:
            return Decimal(number) * Decimal(10) ** int(suffix[1:])
        return Decimal(number) * _FACTORS.get(suffix, Decimal(1))
    except (InvalidOperation, ValueError):
        return None


def quantity_text(amount: Decimal) -> str:
    """A quantity as short as it can be written without loss."""
    if amount == amount.to_integral_value():
        for prefix in ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki"):
            if amount and amount % _FACTORS[prefix] == 0:
                return f"{int(amount / _FACTORS[prefix])}{prefix}"
        return str(int(amount))
    return f"{int((amount * 1000).to_integral_value(rounding='ROUND_CEILING'))}m"
