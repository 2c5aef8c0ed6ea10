"""Small rules many types share; each yields nothing for values that are not known yet."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from lab.providers.aws.cloud import Cloud
from lab.providers.errors import Failure
from lab.providers.values import UNKNOWN

SITE_TAG: Final = "tandem.io/site"


def parsed(text: str) -> Any:
    """A JSON text's value; the text itself when it is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def known(value: Any) -> bool:
    """Whether a value is given and known."""
    return value is not None and value is not UNKNOWN


def one_of(inputs: Mapping[str, Any], name: str, *allowed: Any) -> Iterator[Failure]:
    """The property is one of a few values."""
    value = inputs.get(name)
    if known(value) and value not in allowed:
        choices = ", ".join(str(item) for item in allowed)
        yield Failure(name, f"{name} is {value!r}; allowed are {choices}: choose one of them")


def between(inputs: Mapping[str, Any], name: str, low: int, high: int) -> Iterator[Failure]:
    """The property is an integer within bounds."""
    value = inputs.get(name)
    if known(value) and not (isinstance(value, int) and low <= value <= high):
        yield Failure(name, f"{name} is {value!r}; it has to lie within {low} and {high}: choose a value in between")


def at_least(inputs: Mapping[str, Any], name: str, low: int) -> Iterator[Failure]:
    """The property is an integer that is large enough."""
    value = inputs.get(name)
    if known(value) and not (isinstance(value, int) and value >= low):
        yield Failure(name, f"{name} is {value!r}; it has to be at least {low}: choose a larger value")


def matches(inputs: Mapping[str, Any], name: str, pattern: str, rule: str) -> Iterator[Failure]:
    """The property has a certain form."""
    value = inputs.get(name)
    if known(value) and not re.fullmatch(pattern, str(value)):
        yield Failure(name, f"{name} is {value!r}; {rule}: correct it")


def document(inputs: Mapping[str, Any], name: str) -> Iterator[Failure]:
    """The property is a JSON object in text form."""
    value = inputs.get(name)
    if known(value) and not isinstance(parsed(str(value)), dict):
        yield Failure(name, f"{name} is no JSON object; policies are JSON documents: use json.dumps of a dict")


def site_rules(cloud: Cloud, inputs: dict[str, Any], *, required: bool = False) -> Iterator[Failure]:
    """The site tag names a site of the lab."""
    tags = inputs.get("tags")
    if tags is not None and not isinstance(tags, dict):
        return
    site = cloud.all_tags(tags).get(SITE_TAG)
    sites = ", ".join(sorted(cloud.topology.sites))
    if site is None and required:
        yield Failure("tags", f"tag {SITE_TAG} is missing; the lab needs it to know the site: set it to one of {sites}")
    if known(site) and site not in cloud.topology.sites:
        yield Failure("tags", f"tag {SITE_TAG} is {site!r}; the lab has the sites {sites}: name one of them")


def cidr_rules(inputs: dict[str, Any], name: str, shortest: int, longest: int) -> Iterator[Failure]:
    """The property is an IPv4 block of an allowed size without host bits."""
    value = inputs.get(name)
    if not known(value):
        return
    try:
        length = ipaddress.IPv4Network(str(value)).prefixlen
    except ValueError:
        rule = "it has to be an IPv4 block without host bits"
        yield Failure(name, f"{name} is {value!r}; {rule}: give one like 10.0.0.0/{shortest}")
        return
    if not shortest <= length <= longest:
        yield Failure(name, f"{name} is {value!r}; its length has to lie within /{shortest} and /{longest}: resize it")
