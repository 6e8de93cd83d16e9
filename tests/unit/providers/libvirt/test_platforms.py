# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The platform of a hypervisor, read from capabilities as libvirt 9 and 11 report them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockyard import Cpu, Hardware, HypervisorError, Platform, Unsupported
from stockyard.providers.libvirt import platforms
from stockyard.providers.libvirt.machine import Machine
from stockyard.providers.libvirt.platforms import Platforms
from tests.helpers.samples import template_record

pytest.importorskip("libvirt")

CAPABILITIES = """
<domainCapabilities>
  <path>/usr/bin/qemu-system-x86_64</path>
  <machine>pc-q35-7.2</machine>
  <cpu>
    <mode name='host-passthrough' supported='yes'/>
    <mode name='host-model' supported='yes'>
      <model fallback='forbid'>{model}</model>
      <vendor>Intel</vendor>
      <feature policy='require' name='ssbd'/>
      <feature policy='disable' name='hle'/>
    </mode>
    <mode name='custom' supported='yes'>
      <model usable='yes' vendor='Intel'>Nehalem</model>
      <model usable='no' vendor='AMD'>EPYC</model>
    </mode>
  </cpu>
</domainCapabilities>
"""


def error_of(code: int) -> Exception:
    """Return an error of libvirt with a number."""
    import libvirt

    error: Exception = libvirt.libvirtError("refused")
    error.err = (code, 0, "refused", 2, "", "", "", 0, 0)  # type: ignore[attr-defined]  # libvirt's
    return error


class Connection:
    """A connection that reports capabilities, and counts how often."""

    def __init__(self, model: str = "Skylake-Server", version: int = 7002022) -> None:
        self.model, self.version, self.asked, self.error = model, version, 0, 0

    # libvirt's names
    def getVersion(self) -> int:  # noqa: N802
        return self.version

    def getDomainCapabilities(  # noqa: N802
        self, _emulator: None, arch: str, machine: str, kind: str, _flags: int
    ) -> str:
        assert (arch, kind) == ("x86_64", "kvm")
        self.asked += 1
        if self.error or machine == "pc-q35-10.0":
            raise error_of(self.error or 8)
        return CAPABILITIES.format(model=self.model)


@pytest.fixture(autouse=True)
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with a microcode."""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmicrocode\t: 0x2007006\n\n")
    monkeypatch.setattr(platforms, "CPUINFO", tmp_path / "cpuinfo")


def read(connection: Connection, **changes: Any) -> Platform:
    platform = Platforms(connection).of(Machine("kvm", 1, "pc-q35-7.2", **changes))
    assert platform
    return platform


def test_platform_has_the_processor_that_libvirt_expands() -> None:
    platform = read(Connection())
    assert platform.emulator == "7.2.22"
    assert (platform.machine, platform.accelerator) == ("pc-q35-7.2", "kvm")
    assert (platform.cpu_model, platform.cpu_features) == ("Skylake-Server", ("!hle", "ssbd"))
    assert platform.kernel
    assert platform.microcode == "0x2007006"


def test_machine_with_a_named_model_has_no_other_features() -> None:
    platform = read(Connection(), cpu_model="Nehalem")
    assert (platform.cpu_model, platform.cpu_features) == ("Nehalem", ())


def test_capabilities_are_read_once_for_each_version_of_the_emulator() -> None:
    connection = Connection()
    subject = Platforms(connection)
    record = template_record(platform=read(connection))
    connection.asked = 0
    assert subject.drift(record) == subject.drift(record) == ()
    assert connection.asked == 1
    connection.version = 7002023
    (drift,) = subject.drift(record)
    assert (drift.fact, drift.current, drift.prevents_instant_forks) == (
        "emulator",
        "7.2.23",
        False,
    )
    assert connection.asked == 2


def test_template_of_another_processor_is_forked_from_its_disk_only() -> None:
    record = template_record(platform=read(Connection()))
    subject = Platforms(Connection("Cascadelake-Server"))
    with pytest.raises(Unsupported, match="cannot resume the memory") as refused:
        subject.require(record)
    assert "CPU model Skylake-Server" in refused.value.cause
    assert "build the template again" in refused.value.remedy
    subject.require(record, "linked")


def test_template_without_its_machine_type_or_model_is_not_forked_at_all() -> None:
    subject = Platforms(Connection())
    newer = Platform("10.0.7", "pc-q35-10.0", "kvm", "Skylake-Server", ("!hle", "ssbd"))
    for mode in ("instant", "linked", "full"):
        with pytest.raises(Unsupported, match=r"machine type pc-q35-10\.0"):
            subject.require(template_record(platform=newer), mode)
    named = template_record(
        platform=Platform("7.2.22", "pc-q35-7.2", "kvm", "EPYC"), hardware=Hardware(cpu=Cpu("EPYC"))
    )
    for mode in ("instant", "linked", "full"):
        with pytest.raises(Unsupported, match="CPU model EPYC"):
            subject.require(named, mode)


def test_template_without_a_recorded_platform_is_used_without_a_question() -> None:
    connection = Connection()
    Platforms(connection).require(template_record())
    assert connection.asked == 0


def test_driver_without_capabilities_has_no_platform() -> None:
    connection = Connection()
    record = template_record(platform=read(connection))
    connection.error = platforms.NO_SUPPORT
    subject = Platforms(connection)
    assert subject.of(Machine("kvm", 1, "pc-q35-7.2")) is None
    assert subject.drift(record) == ()
    subject.check_model(Hardware(cpu=Cpu("Nehalem")), Machine("kvm", 1), "template base")


def test_error_of_libvirt_is_no_difference() -> None:
    connection = Connection()
    record = template_record(platform=read(connection))
    connection.error = 38
    with pytest.raises(HypervisorError, match="cannot read the capabilities"):
        Platforms(connection).drift(record)


def test_model_is_checked_before_the_build() -> None:
    subject = Platforms(Connection())
    subject.check_model(Hardware(cpu=Cpu("Nehalem")), Machine("kvm", 1), "template base")
    subject.check_model(Hardware(), Machine("kvm", 1), "template base")
    for model in ("EPYC", "Nosuch"):
        with pytest.raises(Unsupported, match=f"cpu model {model} is not available with kvm"):
            subject.check_model(Hardware(cpu=Cpu(model)), Machine("kvm", 1), "template base")
