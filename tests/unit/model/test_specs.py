# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations: hostile values are refused when they are made, or carried as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import (
    BuildOptions,
    Client,
    FleetSpec,
    Hardware,
    HostSpec,
    ImageSpec,
    InvalidInput,
    Repository,
    SingleSpec,
    TemplateSpec,
)
from stockyard.model.host import HostRecord
from stockyard.model.image import guest_path
from stockyard.model.template import TemplateRecord
from tests.helpers.samples import HOSTILE, host_record, template_record

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG5PyObBkKWPqZLiQHfJ8gdhiGJmJUNt8WluiUp+fbmL me@home"

NAMED: dict[str, Callable[[str], Any]] = {
    "fleet": lambda v: FleetSpec(v, "base"),
    "fleet template": lambda v: FleetSpec("ci", v),
    "fleet's names": lambda v: FleetSpec("ci", "base", names=(v,)),
    "recreate": lambda v: FleetSpec("ci", "base", recreate=v),
    "fleet tenant": lambda v: FleetSpec("ci", "base", tenant=v),
    "host": SingleSpec,
    "host tenant": lambda v: SingleSpec("a", tenant=v),
    "template": TemplateSpec,
    "template tenant": lambda v: TemplateSpec("a", tenant=v),
    "host of a template": lambda v: TemplateSpec("a", from_host=v or "-"),
    "docker": lambda v: TemplateSpec("a", docker=v),
    "directory of templates": lambda v: TemplateSpec("a", share_dir=v or "-"),
    "signer": lambda v: TemplateSpec("a", share_dir="/srv", trusted_keys=(v,)),
    "suite": lambda v: ImageSpec(suite=v),
    "accelerator": lambda v: Hardware(accelerator=v),
    "fork mode": lambda v: HostSpec(fork_mode=v),
    "engine identity": lambda v: HostSpec(engine_identity=v),
    "authorized key": lambda v: HostSpec(authorized_keys=(v,)),
    "egress": lambda v: HostSpec(egress=v),
    "egress proxy": lambda v: HostSpec(egress="proxy", egress_proxy=v),
    "egress allow": lambda v: HostSpec(egress="open", egress_allow=(v,)),
    "bind": lambda v: HostSpec(ports=(8080,), bind=v or "x"),
    "client": Client,
    "client tenant": lambda v: Client("a", tenant=v),
    "guest path": lambda v: ImageSpec(files={v: "x"}),
    "record owner": lambda v: host_record(owner=v),
    "record tenant": lambda v: host_record(tenant=v),
    "record name": lambda v: host_record(name=v),
    "record uuid": lambda v: host_record(uuid=v),
    "record address": lambda v: host_record(address=v),
    "record mac": lambda v: host_record(mac=v),
    "record phase": lambda v: host_record(phase=v),
    "record template": lambda v: host_record(template=v),
    "template record name": lambda v: template_record(name=v),
    "template record uuid": lambda v: template_record(uuid=v),
}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("option", NAMED)
def test_every_option_refuses_hostile_values(option: str, value: str) -> None:
    with pytest.raises(InvalidInput):
        NAMED[option](value)


# Text that is refused or carried in tests of its own: here, and in those of naming, network,
# spread, the PKI and templates from hosts.
ELSEWHERE = {
    "TemplateSpec.parent",
    "TemplateSpec.revision",
    "FleetSpec.labels",
    "FleetSpec.replace_on_labels",
    "FleetSpec.placement",
    "FleetSpec.local_hypervisor",
    "SingleSpec.labels",
    "SingleSpec.template",
    "HostSpec.network",
    "ImageSpec.packages",
    "ImageSpec.commands",
    "ImageSpec.source",
    "ImageSpec.ssh_user",
    "HostSpec.pool",
    "FleetSpec.on_full",
    "BuildOptions.mirror",
    "BuildOptions.security_mirror",
    "BuildOptions.proxy",
    "Client.directory",
    "Repository.url",
    "Repository.signed_by",
    "Repository.suite",
    "Repository.components",
}
HERE = {
    "FleetSpec.name",
    "FleetSpec.names",
    "FleetSpec.recreate",
    "FleetSpec.template",
    "FleetSpec.tenant",
    "SingleSpec.name",
    "SingleSpec.tenant",
    "Client.name",
    "Client.tenant",
    "TemplateSpec.name",
    "TemplateSpec.tenant",
    "TemplateSpec.from_host",
    "TemplateSpec.docker",
    "TemplateSpec.share_dir",
    "TemplateSpec.trusted_keys",
    "ImageSpec.suite",
    "ImageSpec.runtime",
    "ImageSpec.docker_packages",
    "ImageSpec.files",
    "Hardware.accelerator",
    "HostSpec.fork_mode",
    "HostSpec.engine_identity",
    "HostSpec.authorized_keys",
    "HostSpec.egress",
    "HostSpec.egress_proxy",
    "HostSpec.egress_allow",
    "HostSpec.bind",
}


def test_no_option_that_takes_text_is_forgotten() -> None:
    kinds = (
        FleetSpec,
        SingleSpec,
        TemplateSpec,
        ImageSpec,
        BuildOptions,
        Repository,
        Hardware,
        HostSpec,
        Client,
    )
    text = {
        f"{kind.__name__}.{f.name}" for kind in kinds for f in fields(kind) if "str" in str(f.type)
    }
    assert text == HERE | ELSEWHERE


@given(st.sampled_from(sorted(NAMED)), st.text())
def test_option_accepts_text_or_raises_a_stockyard_error(option: str, value: str) -> None:
    message = ""
    try:
        NAMED[option](value)
    except InvalidInput as error:
        message = str(error)
    assert message.isprintable()


@pytest.mark.parametrize(
    "value", ["../../etc/x", "a'/><qemu:arg value='-x", "$(id)", "ю", "{{ a }}", "", "x" * 255]
)
def test_label_is_unchanged(value: str) -> None:
    assert FleetSpec("ci", "base", labels={"k": value}).labels == {"k": value}


@pytest.mark.parametrize("value", ["a\nb", "a\0b", "x" * 256, "\ud800", 5])
def test_label_with_a_line_break_is_refused(value: Any) -> None:
    for make in (
        lambda: FleetSpec("ci", "base", labels={"k": value}),
        lambda: SingleSpec("a", labels={"k": value}),
    ):
        with pytest.raises(InvalidInput):
            make()


def test_a_fleet_name_leaves_room_for_a_number() -> None:
    assert FleetSpec("x" * 40, "base").name == "x" * 40
    with pytest.raises(InvalidInput):
        FleetSpec("x" * 41, "base")


@pytest.mark.parametrize("count", [-1, 10001, True, "3", 1.5])
def test_a_count_is_a_whole_number(count: Any) -> None:
    with pytest.raises(InvalidInput):
        FleetSpec("ci", "base", count=count)


@pytest.mark.parametrize("ports", [(0,), (65536,), (2222,), (2376,), (80, 80), (True,), ("80",)])
def test_invalid_ports_are_refused(ports: Any) -> None:
    with pytest.raises(InvalidInput, match="ports"):
        HostSpec(ports=ports)


@pytest.mark.parametrize(
    "key",
    ["ssh-ed25519", f"{KEY}\nssh-rsa AAAA", f'command="sh" {KEY}', "ssh-dss AAAA", "x" * 20000],
)
def test_text_that_is_not_one_public_key_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput):
        HostSpec(authorized_keys=(key,))


def test_a_public_key_is_taken() -> None:
    assert HostSpec(authorized_keys=(KEY,)).authorized_keys == (KEY,)


@pytest.mark.parametrize(
    "path",
    ["etc/x", "/", "/etc/", "//etc", "/etc/../x", "/etc/./x", "/a\nb", "/a\0", "/" + "x" * 300],
)
def test_a_path_in_the_guest_is_absolute_and_normal(path: str) -> None:
    with pytest.raises(InvalidInput):
        guest_path(path)


def test_odd_but_plain_paths_and_texts_are_carried() -> None:
    files = {"/etc/a'/><qemu:arg value='-x": "a\n\0b ü", "/etc/$(id)": ""}
    assert ImageSpec(files=files).files == files


@pytest.mark.parametrize("text", [None, 5, b"x", "\ud800"])
def test_a_file_holds_text(text: Any) -> None:
    with pytest.raises(InvalidInput, match="/etc/x"):
        ImageSpec(files={"/etc/x": text})


@pytest.mark.parametrize(
    "user", ["root", "stockyard-tls", "sshd", *[v for v in HOSTILE if v != "a-"]]
)
def test_invalid_login_name_is_refused(user: str) -> None:
    with pytest.raises(InvalidInput):
        ImageSpec(ssh_user=user)


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://a b", 'http://a"b', "http://$(id)", "javascript:x", "http://a\nb"]
)
@pytest.mark.parametrize("option", ["mirror", "security_mirror", "proxy"])
def test_invalid_url_is_refused(option: str, url: str) -> None:
    wrong: dict[str, Any] = {option: url}
    with pytest.raises(InvalidInput, match=option):
        BuildOptions(**wrong)


@pytest.mark.parametrize(
    "option",
    [
        {"vcpus": 0},
        {"vcpus": 5, "max_vcpus": 4},
        {"memory_mib": 511},
        {"spare_ports": 13},
        {"max_vcpus": 256},
    ],
)
def test_impossible_hardware_is_refused(option: dict[str, int]) -> None:
    with pytest.raises(InvalidInput):
        Hardware(**option)  # type: ignore[arg-type]


def test_no_two_objects_share_a_name_on_the_hypervisor() -> None:
    records: list[HostRecord | TemplateRecord] = [
        host_record(owner="a", tenant="b", name="template"),
        host_record(owner="a", tenant="b", name="c"),
        host_record(owner="a", tenant="bc", name="c"),
        host_record(owner="ab", tenant="c", name="c"),
        template_record(owner="a", tenant="b", name="c"),
        template_record(owner="a", tenant="b", name="c", generation="g2" * 32),
    ]
    assert len({r.domain for r in records}) == len(records)
