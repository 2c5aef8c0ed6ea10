"""Addresses of the lab."""

from __future__ import annotations

import ipaddress
import itertools
import json

import pytest

from lab.topology import SiteAddresses, Topology, TopologyError, home_directory


def test_the_default_topology_has_the_addresses_the_settings_name() -> None:
    topology = Topology.default()
    private, public = topology.site("private"), topology.site("public")
    assert (private.kind, public.kind) == ("private", "public")
    assert private.api_url == "http://127.10.0.1:6443"
    assert public.store_url == "http://127.20.0.2:9000"
    assert public.edge_address == "127.20.0.10"
    assert topology.aws_url == "http://127.30.0.1:5000"
    assert (topology.dns_host, topology.dns_port) == ("127.30.0.53", 5353)
    assert topology.prober_url == "http://127.30.0.53:5380"
    assert topology.provider_port == 7301


def test_pods_and_services_get_addresses_that_never_meet() -> None:
    site = Topology.default().site("private")
    pods = set(site.pod_addresses())
    services = set(site.cluster_ips())
    assert next(site.pod_addresses()) == "127.10.64.1"
    assert next(site.cluster_ips()) == "127.10.128.1"
    assert not pods & services
    assert site.node_address(1) == "127.10.1.1"
    assert all(ipaddress.ip_address(address).is_loopback for address in itertools.islice(pods, 100))


def test_a_topology_survives_being_written_and_read(tmp_path) -> None:
    topology = Topology.in_blocks({"a": ("private", "127.77"), "b": ("public", "127.78"), "c": ("public", "127.79")})
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "lab.json").write_text(json.dumps({"topology": topology.to_json()}))
    assert Topology.load(tmp_path) == topology


def test_a_lab_that_is_not_up_is_told_so(tmp_path) -> None:
    with pytest.raises(TopologyError, match="the lab is not up; start it: tandem lab up"):
        Topology.load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "block", "complaint"),
    [
        ("hybrid", "127.10", "kind 'hybrid' is not one of private, public"),
        ("private", "10.0", "block '10.0' is not two octets of 127.0.0.0/8"),
        ("private", "127.10.1", "is not two octets"),
        ("private", "127.900", "is not two octets"),
    ],
)
def test_a_site_outside_loopback_or_of_no_known_kind_is_refused(kind, block, complaint) -> None:
    with pytest.raises(TopologyError, match=complaint):
        SiteAddresses(name="x", kind=kind, block=block)


@pytest.mark.parametrize(
    "wrong",
    [
        {"aws_url": "http://0.0.0.0:5000"},
        {"aws_url": "http://localhost:5000"},
        {"dns_host": "0.0.0.0"},
        {"prober_url": "http://192.0.2.1:5380"},
    ],
    ids=str,
)
def test_what_stands_above_the_sites_lies_on_loopback_too(wrong) -> None:
    document = {**Topology.default().to_json(), **wrong}
    with pytest.raises(TopologyError, match=rf"{next(iter(wrong))}: '.*' is not an address of 127.0.0.0/8"):
        Topology.from_json(document)


def test_an_unknown_site_is_named_with_those_there_are() -> None:
    with pytest.raises(TopologyError, match="'moon' is not in this lab, which has private, public"):
        Topology.default().site("moon")


def test_the_home_is_absolute_and_comes_from_the_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    assert home_directory() == tmp_path
    monkeypatch.delenv("TANDEM_HOME")
    monkeypatch.chdir(tmp_path)
    assert home_directory() == tmp_path / ".tandem"


def test_the_home_has_one_spelling(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "other").symlink_to("real")
    assert home_directory(tmp_path / "other") == home_directory(tmp_path / "real" / ".." / "real") == tmp_path / "real"
