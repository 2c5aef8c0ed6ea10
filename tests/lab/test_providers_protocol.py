"""The plugin server as an engine sees it; `Session` is the smallest engine there is."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"

import grpc
import pytest
from moto.server import ThreadedMotoServer
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from lab.providers import server as providers_server
from lab.providers import values
from lab.providers.aws.cloud import Cloud
from lab.providers.errors import ConfigurationError
from lab.providers.server import serve
from lab.schemas.aws_counterparts import COUNTERPARTS
from lab.topology import Topology

pytestmark = pytest.mark.live

SERVICES = ("s3", "ec2", "iam", "sts", "eks", "elbv2", "route53", "kms", "logs")
BUCKET = "aws:s3/bucket:Bucket"
ZONE = "aws:route53/zone:Zone"


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


@dataclass
class Made:
    type: str
    name: str
    identity: str
    inputs: dict[str, Any]
    state: dict[str, Any]


class Session:
    """One connection to the server, configured as one provider instance."""

    def __init__(self, port: int, package: str, settings: dict[str, Any], name: str = "default") -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self.stub: Any = provider_pb2_grpc.ResourceProviderStub(self._channel)
        encoded = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
        kind = f"pulumi:providers:{package}"
        self.stub.Configure(
            provider_pb2.ConfigureRequest(
                urn=self.urn(kind, name),
                name=name,
                type=kind,
                id="1",
                args=values.write(encoded),
                sends_old_inputs=True,
            )
        )

    def close(self) -> None:
        self._channel.close()

    @staticmethod
    def urn(type_name: str, name: str) -> str:
        return f"urn:pulumi:test::tandem::{type_name}::{name}"

    def check(
        self,
        type_name: str,
        logical: str,
        inputs: dict[str, Any],
        olds: dict[str, Any] | None = None,
        seed: bytes = b"s",
    ) -> tuple[dict[str, Any], list[Any]]:
        request = provider_pb2.CheckRequest(
            urn=self.urn(type_name, logical), news=values.write(inputs), randomSeed=seed
        )
        if olds is not None:
            request.olds.CopyFrom(values.write(olds))
        answer = self.stub.Check(request)
        return values.read(answer.inputs).value, list(answer.failures)

    def up(self, type_name: str, logical: str, /, *, seed: bytes = b"seed", **inputs: Any) -> Made:
        checked, failures = self.check(type_name, logical, inputs, seed=seed)
        assert not failures, failures
        request = provider_pb2.CreateRequest(urn=self.urn(type_name, logical), properties=values.write(checked))
        answer = self.stub.Create(request)
        return Made(type_name, logical, answer.id, checked, values.read(answer.properties).value)

    def preview(self, type_name: str, logical: str, /, **inputs: Any) -> dict[str, Any]:
        checked, failures = self.check(type_name, logical, inputs)
        assert not failures, failures
        request = provider_pb2.CreateRequest(
            urn=self.urn(type_name, logical), properties=values.write(checked), preview=True
        )
        return values.read(self.stub.Create(request).properties).value

    def diff(self, made: Made, /, **inputs: Any) -> Any:
        checked, failures = self.check(made.type, made.name, inputs, made.inputs)
        assert not failures, failures
        return self.stub.Diff(
            provider_pb2.DiffRequest(
                urn=self.urn(made.type, made.name),
                id=made.identity,
                olds=values.write(made.state),
                old_inputs=values.write(made.inputs),
                news=values.write(checked),
            )
        )

    def update(self, made: Made, /, *, preview: bool = False, **inputs: Any) -> Made:
        checked, failures = self.check(made.type, made.name, inputs, made.inputs)
        assert not failures, failures
        answer = self.stub.Update(
            provider_pb2.UpdateRequest(
                urn=self.urn(made.type, made.name),
                id=made.identity,
                olds=values.write(made.state),
                old_inputs=values.write(made.inputs),
                news=values.write(checked),
                preview=preview,
            )
        )
        return Made(made.type, made.name, made.identity, checked, values.read(answer.properties).value)

    def read(self, made: Made) -> tuple[str, dict[str, Any], dict[str, Any]]:
        answer = self.stub.Read(
            provider_pb2.ReadRequest(
                urn=self.urn(made.type, made.name),
                id=made.identity,
                properties=values.write(made.state),
                inputs=values.write(made.inputs),
            )
        )
        return answer.id, values.read(answer.properties).value, values.read(answer.inputs).value

    def delete(self, made: Made) -> None:
        self.stub.Delete(
            provider_pb2.DeleteRequest(
                urn=self.urn(made.type, made.name), id=made.identity, properties=values.write(made.state)
            )
        )


def aws_settings(url: str, **more: Any) -> dict[str, Any]:
    return {"region": "eu-central-1", "endpoints": [dict.fromkeys(SERVICES, url)], **more}


@pytest.fixture(scope="module")
def aws_url() -> Iterator[str]:
    moto = ThreadedMotoServer(ip_address="127.82.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    chosen = free_port()
    server = serve(chosen, Topology.default())
    yield chosen
    server.stop(0).wait()


@pytest.fixture
def aws(port: int, aws_url: str) -> Iterator[Session]:
    session = Session(port, "aws", aws_settings(aws_url, defaultTags={"tags": {"team": "search"}}))
    yield session
    session.close()


def refusal(error: pytest.ExceptionInfo[grpc.RpcError]) -> str:
    return str(error.value.details())  # type: ignore[attr-defined]  # every failed call has details


def test_an_endpoint_that_is_not_loopback_is_refused_before_anything_is_called(port: int) -> None:
    with pytest.raises(grpc.RpcError) as error:
        Session(port, "aws", {"region": "eu-central-1", "endpoints": [{"s3": "https://s3.amazonaws.com"}]})
    assert "127.0.0.0/8 only" in refusal(error)


@pytest.mark.parametrize(
    "server",
    ["https://10.0.0.1:6443", "http://localhost:6443", "http://127.0.0.1.example.org", "file:///etc/passwd"],
)
def test_a_kubeconfig_that_points_elsewhere_is_refused(port: int, server: str) -> None:
    kubeconfig = {"clusters": [{"name": "c", "cluster": {"server": server}}]}
    with pytest.raises(grpc.RpcError) as error:
        Session(port, "kubernetes", {"kubeconfig": json.dumps(kubeconfig)})
    assert "127.0.0.0/8 only" in refusal(error)


def test_bad_provider_settings_fail_in_check_config_with_the_setting_named(port: int, aws: Session) -> None:
    news = values.write({"regoin": "x", "endpoints": json.dumps([{"s3": "http://8.8.8.8"}])})
    answer = aws.stub.CheckConfig(provider_pb2.CheckRequest(urn=aws.urn("pulumi:providers:aws", "p"), news=news))
    reasons = {failure.property: failure.reason for failure in answer.failures}
    assert "did you mean 'region'" in reasons["regoin"]
    assert "region" in reasons
    assert "8.8.8.8" in reasons["endpoints"]


def test_an_unknown_type_names_the_urn(aws: Session) -> None:
    with pytest.raises(grpc.RpcError) as error:
        aws.check("aws:sqs/queue:Queue", "q", {})
    assert "urn:pulumi:test::tandem::aws:sqs/queue:Queue::q" in refusal(error)
    assert "does not implement" in refusal(error)


def test_a_type_that_nothing_is_held_against_names_the_urn_and_where_to_add_it(
    aws: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(cast("dict[str, Any]", COUNTERPARTS), ZONE)
    with pytest.raises(grpc.RpcError) as error:
        aws.check(ZONE, "z", {"name": "tandem.example"})
    assert f"urn:pulumi:test::tandem::{ZONE}::z" in refusal(error)
    assert "no counterpart among AWS's own models" in refusal(error)
    assert "lab/schemas/aws_counterparts.py" in refusal(error)


def test_an_unknown_function_names_its_token(aws: Session) -> None:
    with pytest.raises(grpc.RpcError) as error:
        aws.stub.Invoke(provider_pb2.InvokeRequest(tok="aws:ec2/getAmi:getAmi"))
    assert "aws:ec2/getAmi:getAmi" in refusal(error)


def test_the_zones_of_the_region_can_be_asked_for(aws: Session) -> None:
    token = "aws:index/getAvailabilityZones:getAvailabilityZones"
    answer = aws.stub.Invoke(provider_pb2.InvokeRequest(tok=token, args=values.write({"state": "available"})))
    zones = values.read(getattr(answer, "return")).value
    assert zones["names"] == ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
    assert len(zones["zoneIds"]) == 3


def test_a_connection_that_was_not_configured_is_refused(port: int) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub: Any = provider_pb2_grpc.ResourceProviderStub(channel)
        with pytest.raises(grpc.RpcError) as error:
            stub.Check(provider_pb2.CheckRequest(urn=Session.urn(BUCKET, "b"), news=values.write({})))
    assert "no configured aws provider" in refusal(error)


def test_two_connections_are_two_provider_instances(port: int, aws_url: str, aws: Session) -> None:
    other = Session(port, "aws", aws_settings(aws_url, region="us-west-2"), name="other")
    here, there = aws.up(BUCKET, "here"), other.up(BUCKET, "there", seed=b"2")
    other.close()
    assert (here.state["region"], there.state["region"]) == ("eu-central-1", "us-west-2")
    assert here.state["tagsAll"] == {"team": "search"}
    assert there.state["tagsAll"] == {}


def test_a_service_without_an_endpoint_is_never_called_at_its_own_address(port: int, aws_url: str) -> None:
    session = Session(port, "aws", {"region": "eu-central-1", "endpoints": [{"s3": aws_url}]})
    with pytest.raises(grpc.RpcError) as error:
        session.up(ZONE, "z", name="tandem.example")
    session.close()
    assert "no endpoint for route53" in refusal(error)


def test_an_api_that_does_not_answer_is_told_with_its_address(port: int) -> None:
    session = Session(port, "aws", aws_settings(f"http://127.82.0.9:{free_port('127.82.0.9')}"))
    with pytest.raises(grpc.RpcError) as error:
        session.up(ZONE, "z", name="tandem.example")
    session.close()
    assert "127.82.0.9" in refusal(error)
    assert "is the lab up" in refusal(error)


def test_a_preview_tells_inputs_and_leaves_the_rest_unknown(aws: Session) -> None:
    state = aws.preview(ZONE, "z", name="tandem.example", tags={"a": "b"})
    assert state["name"] == "tandem.example"
    assert state["tagsAll"] == {"team": "search", "a": "b"}
    assert state["zoneId"] is values.UNKNOWN
    assert state["nameServers"] is values.UNKNOWN


def test_secrets_stay_secret_in_every_answer(aws: Session) -> None:
    secret = {values.SIGNATURE: values.SECRET, "value": "for nobody"}
    news = values.write({"name": "secret.example", "comment": secret})
    checked = aws.stub.Check(provider_pb2.CheckRequest(urn=aws.urn(ZONE, "s"), news=news, randomSeed=b"s"))
    assert values.read(checked.inputs).secrets == {("comment",)}
    made = aws.stub.Create(provider_pb2.CreateRequest(urn=aws.urn(ZONE, "s"), properties=checked.inputs))
    properties = values.read(made.properties)
    assert properties.secrets == {("comment",)}
    assert properties.value["comment"] == "for nobody"


@pytest.mark.parametrize(
    ("inputs", "leaked"),
    [
        ({"name": "two words"}, "two words"),
        ({"tags": {"tandem.io/site": ["moon"]}}, "moon"),
        ({"name": "a.example", "forceDestroy": "hunter2"}, "hunter2"),
    ],
    ids=["rule", "within", "schema"],
)
def test_a_failed_check_does_not_print_what_is_secret(aws: Session, inputs: dict[str, Any], leaked: str) -> None:
    _, failures = aws.check(ZONE, "s", inputs)
    assert any(leaked in failure.reason for failure in failures)
    secret = {key: {values.SIGNATURE: values.SECRET, "value": value} for key, value in inputs.items()}
    _, failures = aws.check(ZONE, "s", secret)
    assert any("[secret]" in failure.reason for failure in failures)
    assert not any(leaked in failure.reason for failure in failures)


def test_instances_share_their_clients_and_not_their_keys(aws_url: str) -> None:
    one, two = (Cloud(aws_settings(aws_url), Topology.default()) for _ in range(2))
    other = Cloud(aws_settings(aws_url, accessKey="other"), Topology.default())
    assert one.client("s3") is two.client("s3")
    assert one.client("s3") is not other.client("s3")
    assert one.client("s3") is not one.client("kms")


def test_an_instance_in_use_is_not_forgotten_for_newer_ones(
    port: int, aws_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers_server, "CONNECTIONS_KEPT", 2)
    used, idle = (Session(port, "aws", aws_settings(aws_url)) for _ in range(2))
    used.check(ZONE, "z", {"name": "a.example"})
    newer = Session(port, "aws", aws_settings(aws_url))
    used.check(ZONE, "z", {"name": "a.example"})
    with pytest.raises(grpc.RpcError) as error:
        idle.check(ZONE, "z", {"name": "a.example"})
    assert "no configured aws provider" in refusal(error)
    for session in (used, idle, newer):
        session.close()


def test_a_made_up_name_stays_for_the_life_of_a_resource(aws: Session) -> None:
    made = aws.up(BUCKET, "Models", seed=b"first")
    assert made.identity.startswith("models-")
    assert len(made.identity) == len("models-") + 7
    answer = aws.diff(made, tags={"x": "y"})
    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert list(answer.diffs) == ["tags"]
    assert not answer.replaces


def test_a_name_that_becomes_too_long_is_refused_with_a_remedy(aws: Session) -> None:
    _, failures = aws.check(BUCKET, "b" * 60, {})
    assert [failure.property for failure in failures] == ["bucket"]
    assert "at most 63" in failures[0].reason


def test_a_lost_create_is_found_again_by_the_next_engine(port: int, aws_url: str, aws: Session) -> None:
    first = aws.up(ZONE, "lost", name="lost.example")
    second = Session(port, "aws", aws_settings(aws_url, defaultTags={"tags": {"team": "search"}}))
    again = second.up(ZONE, "lost", name="lost.example", seed=b"another")
    assert again.identity == first.identity
    assert "tandem.io/lab-resource" not in again.state["tagsAll"]
    changed = Session(port, "aws", aws_settings(aws_url))
    other = changed.up(ZONE, "lost", name="moved.example")
    assert other.identity != first.identity
    assert changed.read(first)[0] == "", "what was lost and is no longer wanted is removed"
    second.close()
    changed.close()


def test_a_replacement_is_never_mistaken_for_a_lost_create(aws: Session) -> None:
    old = aws.up("aws:kms/key:Key", "k", description="d")
    aws.diff(old, description="d")
    replacement = aws.up("aws:kms/key:Key", "k", description="d", seed=b"another")
    assert replacement.identity != old.identity


def test_a_resource_removed_by_somebody_else_is_gone_for_read_update_and_delete(aws: Session) -> None:
    made = aws.up(ZONE, "gone", name="gone.example")
    aws.delete(made)
    assert aws.read(made)[0] == ""
    aws.delete(made)
    with pytest.raises(grpc.RpcError) as error:
        aws.update(made, name="gone.example", comment="new")
    assert "gone" in refusal(error)


def test_a_taken_port_is_told_with_its_address() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="is taken"):
            serve(taken.getsockname()[1], Topology.default())
