# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refusals of a new host by this machine: ports, programs, memory and disk space."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from stockyard.errors import Conflict, MissingDependency, OutOfSpace, Unsupported
from stockyard.model.host import HostSpec
from stockyard.model.network import EVERYWHERE, PublishSpec
from stockyard.providers.libvirt import admission, network
from stockyard.providers.libvirt.images import Images
from stockyard.providers.libvirt.store import Store
from tests.helpers.samples import host_record, template_record


@pytest.fixture
def limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user on a machine with the usual limit."""
    path = tmp_path / "first"
    path.write_text("1024\n")
    monkeypatch.setattr(admission, "FIRST_PORT", path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.parametrize(
    "spec",
    [HostSpec(ports=(8080, 80)), HostSpec(ports=(80,), bind="127.0.0.1")],
)
@pytest.mark.usefixtures("limit")
def test_port_below_the_limit_of_users_is_refused(spec: HostSpec) -> None:
    with pytest.raises(
        Unsupported, match=r"port 80 cannot be published.*only ports from 1024"
    ) as refused:
        admission.check_ports(spec, [], system=False)
    assert "ip_unprivileged_port_start=80" in refused.value.remedy


@pytest.mark.usefixtures("limit")
def test_range_below_the_limit_of_users_is_refused(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("3000\n")
    spec = HostSpec(publish=PublishSpec("127.0.0.1", "2000-4000"))
    with pytest.raises(Unsupported, match="port 2000 cannot be published"):
        admission.check_ports(spec, [], system=False)


@pytest.mark.usefixtures("limit")
def test_port_from_the_limit_on_or_in_a_network_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission.check_ports(HostSpec(ports=(1024,)), [], system=False)
    admission.check_ports(HostSpec(ports=(80,), network="lab", egress="open"), [], system=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "probe", lambda _title, _ports: None)
    admission.check_ports(HostSpec(ports=(80,)), [], system=False)
    with pytest.raises(Unsupported):
        admission.check_ports(HostSpec(ports=(80,)), [], system=True)


def listening(address: str) -> socket.socket:
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen()
    return listener


def test_port_that_a_program_holds_at_every_address_is_refused() -> None:
    with listening(EVERYWHERE) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            Conflict,
            match=f"port {port} cannot be published.*a program on this machine listens on the "
            "port at every address",
        ):
            admission.check_ports(HostSpec(ports=(port,)), [], system=False)
        # Such a program may be the host that is deleted first.
        going = host_record(spec=HostSpec(ports=(port,), bind=EVERYWHERE))
        admission.check_ports(HostSpec(ports=(port,)), [going], system=False)


def test_port_that_a_program_holds_at_one_address_is_accepted() -> None:
    with listening("127.0.0.1") as listener:
        admission.check_ports(HostSpec(ports=(listener.getsockname()[1],)), [], system=False)


def test_host_that_is_larger_than_the_machine_is_refused(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  2097152 kB\nMemFree: 5 kB\nSwapTotal:  1048576 kB\n")
    template = template_record()
    admission.check_memory(HostSpec(memory_mib=3072), template, meminfo=meminfo)
    with pytest.raises(
        Unsupported, match=r"3200 MiB is larger than this machine, which has 3072 MiB"
    ):
        admission.check_memory(HostSpec(memory_mib=3200), template, meminfo=meminfo)
    meminfo.write_text("garbage")
    admission.check_memory(HostSpec(memory_mib=1 << 20), template, meminfo=meminfo)


def test_disks_that_the_storage_has_no_space_for_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.prepare()
    template, old = template_record(), host_record()
    for folder in (store.templates / template.uuid, store.hosts / old.uuid):
        folder.mkdir(parents=True)
        (folder / "disk.qcow2").write_bytes(b"x" * (8 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=20 << 20))

    def check(mode: str, count: int, *going: object) -> None:
        admission.check_space(
            HostSpec(fork_mode=mode),
            template,
            count,
            going,  # type: ignore[arg-type]
            store,
            Images(store),
        )

    check("full", 2)
    check("instant", 10)
    with pytest.raises(
        OutOfSpace, match=r"insufficient space for 3 disks.*24 MiB are needed, and 20 MiB are free"
    ):
        check("full", 3)
    check("full", 3, old)


def test_machine_without_the_program_for_disks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingDependency, match="qemu-img"):
        admission.check_programs()


def test_template_without_a_second_card_is_refused_for_an_uplink() -> None:
    def refusal(spec: HostSpec, *, has_uplink: bool) -> str:
        card = network.UPLINK_CARD[-1] if has_uplink else "other"
        text = (
            '<domain xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0" type="qemu">'
            '<os><type machine="pc">hvm</type></os>'
            f'<qemu:commandline><qemu:arg value="{card}"/></qemu:commandline></domain>'
        )
        domains = SimpleNamespace(find=lambda _record: SimpleNamespace(XMLDesc=lambda _flags: text))
        checks = admission.Admission(None, domains, None, None)  # type: ignore[arg-type]
        try:
            checks._check_card(spec, template_record())
        except Unsupported as error:
            return error.remedy
        return ""

    uplinked = HostSpec(egress="open")
    assert refusal(uplinked, has_uplink=False) == "build the template again"
    assert refusal(uplinked, has_uplink=True) == ""
    by_name = HostSpec(egress="allow", egress_allow=("a.example.org",))
    assert refusal(by_name, has_uplink=False) == "build the template again"
    assert refusal(HostSpec(), has_uplink=False) == ""
    assert refusal(HostSpec(network="lab", egress="open"), has_uplink=False) == ""
