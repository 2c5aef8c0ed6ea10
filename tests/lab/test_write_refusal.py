"""A refusal that ends by itself, said in the shape of each protocol."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from lab.aws.write_refusal import WriteRefusal, service_error

FORM = {"CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8"}
XML, JSON = {"CONTENT_TYPE": "text/xml"}, {"CONTENT_TYPE": "application/json"}
TARGET = {"CONTENT_TYPE": "application/x-amz-json-1.1", "HTTP_X_AMZ_TARGET": "TrentService.CreateKey"}


def test_a_refusal_ends_when_its_time_has_passed() -> None:
    now = [100.0]
    refusal = WriteRefusal(lambda: now[0])
    assert refusal.seconds == 0
    refusal.begin(30)
    now[0] += 29
    assert refusal.seconds == 1
    refusal.begin(5)
    assert refusal.seconds == 5
    now[0] += 5
    assert refusal.seconds == 0


def test_a_refusal_ends_at_once_when_told() -> None:
    refusal = WriteRefusal(lambda: 100.0)
    refusal.begin(30)
    refusal.end()
    assert refusal.seconds == 0


@pytest.mark.parametrize("seconds", [0, -1, 86_401, float("nan"), float("inf"), True, "5", None, [5]], ids=repr)
def test_only_a_bounded_number_of_seconds_is_taken(seconds) -> None:
    refusal = WriteRefusal()
    with pytest.raises(ValueError, match="must be a number above 0"):
        refusal.begin(seconds)
    assert refusal.seconds == 0


@pytest.mark.parametrize(
    ("service", "environ", "path"),
    [
        ("ec2", FORM, "./Errors/Error"),
        ("iam", FORM, "./Error"),
        ("elasticloadbalancing", FORM, "./Error"),
        ("route53", XML, "./Error"),
        ("unheard-of", XML, "./Error"),
        ("s3", {}, "."),
    ],
)
def test_xml_errors_lie_where_the_service_puts_them(service, environ, path) -> None:
    error = service_error(environ, service, "ServiceUnavailable", "a < b", 503)
    root = ET.fromstring(error.body)  # noqa: S314  # made by this module
    found = root.find(path)
    assert root.tag == {"ec2": "Response", "s3": "Error"}.get(service, "ErrorResponse")
    assert (found.findtext("Code"), found.findtext("Message")) == ("ServiceUnavailable", "a < b")
    if service not in ("ec2", "s3"):
        assert found.findtext("Type") == "Receiver"


@pytest.mark.parametrize(
    ("service", "environ"), [("eks", JSON), ("kms", TARGET), ("unheard-of", JSON)], ids=["rest", "target", "unknown"]
)
def test_json_errors_name_their_type_in_body_and_header(service, environ) -> None:
    error = service_error(environ, service, "ServiceUnavailable", "no", 503)
    assert json.loads(error.body) == {"__type": "ServiceUnavailable", "message": "no"}
    assert dict(error.headers)["x-amzn-ErrorType"] == "ServiceUnavailable"
