# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisor's URI and the environment: their values, and refusals before a connection."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import InvalidInput, Login, PublishSpec
from stockyard.errors import Unsupported
from stockyard.model.host import HostSpec
from stockyard.providers.vsphere.place import Place, login, parse
from stockyard.providers.vsphere.templates import check_host
from tests.helpers.samples import HOSTILE

NET = "network=VM+Network&addresses=192.0.2.10-192.0.2.99/24"


def test_a_uri_names_a_cluster() -> None:
    place = parse("vsphere://vc.example.org:8443/Frankfurt/Build/ci/nightly", {})
    assert place == Place("vc.example.org", 8443, "Frankfurt", "Build", "ci/nightly")
    assert parse("vsphere://vc/d/c/", {}).port == 443


def test_names_are_decoded_and_slashes_in_them_escaped_as_vsphere_does() -> None:
    place = parse("vsphere://vc/My%20DC/a%2Fb", {})
    assert (place.datacenter, place.cluster) == ("My DC", "a%2fb")


def test_environment_completes_the_uri() -> None:
    place = parse("vsphere:///d/c", {"VMWARE_HOST": "vc", "VMWARE_PORT": "444"})
    assert (place.host, place.port) == ("vc", 444)


def test_options_follow_a_question_mark() -> None:
    place = parse(
        f"vsphere://vc/d/c?{NET}&folder=lab/yard&endpoints=no&frozen=False&parallel=3"
        "&interface=eth0&attribute=A%20b",
        {},
    )
    assert (place.network, place.folder, place.endpoints, place.frozen) == (
        "VM Network",
        "lab/yard",
        False,
        False,
    )
    assert (place.parallel, place.interface, place.attribute) == (3, "eth0", "A b")
    assert place.addresses is not None
    assert place.addresses.netmask == "255.255.255.0"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("vsphere://vc", "does not name a cluster"),
        ("vsphere://vc/d", "does not name a cluster"),
        ("vsphere://vc//c", "does not name a cluster"),
        ("vsphere:///d/c", "does not name a vCenter"),
        ("vsphere://vc:0x/d/c", "has no valid port"),
        ("vsphere://vc:70000/d/c", "has no valid port"),
        ("vsphere://user:secret@vc/d/c", "contains a user name or a password"),
        ("vsphere://vc/d/c#x", "does not name a cluster"),
        ("vsphere://vc/d/c?x=1", "option 'x' is not known"),
        ("vsphere://vc/d/c?folder=", "folder: '' is not a name"),
        ("vsphere://vc/d/c?folder=a&folder=b", "sets an option twice"),
        ("vsphere://vc/d/c?endpoints=maybe", "endpoints: 'maybe' is neither true nor false"),
        ("vsphere://vc/d/c?parallel=0", "parallel: '0' is not a whole number"),
        ("vsphere://vc/d/c?parallel=65", "parallel: '65' is not a whole number"),
        ("vsphere://vc/d/c?parallel=x", "parallel: 'x' is not a whole number"),
        ("vsphere://vc/d/c?addresses=192.0.2.1", "addresses: '192.0.2.1' cannot be used"),
        ("vsphere://vc/d/c?gateway=192.0.2.1", "addresses: '' cannot be used"),
        ("vsphere://vc/d%00/c", "does not name a cluster"),
        ("vsphere://v c/d/c", "does not name a vCenter"),
        ("vsphere://[/d/c", "is not a URI"),
        ("vsphere://vc/d/c?folder", "is not valid after its question mark"),
    ],
)
def test_uri_without_a_cluster_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(uri, {})
    assert reason in refused.value.message
    assert refused.value.remedy
    assert "secret" not in str(refused.value)


@given(st.text(max_size=60) | st.sampled_from(HOSTILE))
def test_nothing_breaks_the_reader(text: str) -> None:
    for uri in (f"vsphere://{text}", f"vsphere://vc/{text}/c", f"vsphere://vc/d/c?{text}"):
        with suppress(InvalidInput):
            parse(uri, {})


def test_login_is_completed_from_the_environment() -> None:
    variables = {
        "VMWARE_USER": "u",
        "VMWARE_PASSWORD": "p",
        "VMWARE_VALIDATE_CERTS": "no",
        "VMWARE_CA_PATH": "/ca",
    }
    assert login(Login(), variables) == Login("u", "p", False, "/ca")
    assert login(Login("v", "q", True, "/x"), variables) == Login("v", "q", True, "/x")


def test_certificates_are_verified_unless_disabled() -> None:
    assert login(Login("u", "p"), {}).validate_certs is True


@pytest.mark.parametrize("incomplete", [Login(), Login("u"), Login(password="p")])
def test_login_without_name_or_password_is_refused(incomplete: Login) -> None:
    with pytest.raises(InvalidInput, match="is not set, and vCenter requires it"):
        login(incomplete, {})


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(Login("u", "secret"))


OPEN = "egress=open"
CASES = [
    ("endpoints=false", HostSpec(), ""),
    ("", HostSpec(), "need addresses"),
    (NET, HostSpec(), "is not the network of the addresses"),
    (NET, HostSpec(network="Other"), "is not the network of the addresses"),
    (NET, HostSpec(network="VM Network"), ""),
    (NET, HostSpec(network="VM Network", egress="open"), "is not possible in network"),
    (f"{NET}&gateway=192.0.2.1", HostSpec(network="VM Network", egress="open"), ""),
    (f"{NET}&gateway=192.0.2.1", HostSpec(network="VM Network"), "is not possible in network"),
    (
        NET,
        HostSpec(network="VM Network", egress="allow", egress_allow=("a.example.org",)),
        "egress_allow is not possible on vSphere",
    ),
    (
        f"{NET}&gateway=192.0.2.1",
        HostSpec(network="VM Network", egress="open", egress_allow=("10.0.0.1",)),
        "egress_allow is not possible on vSphere",
    ),
    (
        "endpoints=false",
        HostSpec(bind="192.0.2.1", ports=(80,)),
        "bind: a host on vSphere has its own address",
    ),
    (
        "endpoints=false",
        HostSpec(publish=PublishSpec("192.0.2.1")),
        "publish: a host on vSphere has its own address, which other machines can reach",
    ),
]


@pytest.mark.parametrize(("query", "spec", "complaint"), CASES)
def test_host_options_are_limited_by_their_network(
    query: str, spec: HostSpec, complaint: str
) -> None:
    place = parse(f"vsphere://vc/d/c{'?' * bool(query)}{query}", {})
    if not complaint:
        check_host(spec, place)
        return
    with pytest.raises(Unsupported, match=complaint):
        check_host(spec, place)
