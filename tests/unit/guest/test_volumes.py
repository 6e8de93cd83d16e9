# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's volumes: no file system over data, none mounted unchecked, and no open door without them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockyard.guest.agent import disks, wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.agent.disks import SUPERBLOCK, LinuxDisks
from stockyard.guest.agent.main import Agent
from stockyard.guest.agent.volumes import DOCKER_ROOT, NOT_MOUNTED, Volumes
from stockyard.providers.memory.guest import NoEffects
from stockyard.providers.memory.volumes import FolderDisks

UUID = "0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10"
MIB = 1 << 20


class Guest:
    """A guest that is a directory, with disks that are."""

    def __init__(self, root: Path) -> None:
        self.root = root / "guest"
        self.root.mkdir()
        self.plugged: dict[str, Path] = {}
        self.disks = FolderDisks(self.root, lambda: self.plugged)
        self.agent = Agent(Identity(str(self.root), NoEffects()), Volumes(str(self.root), self.disks))
        self.folder = root

    def plug(self, serial: str = "data") -> Path:
        self.plugged[serial] = self.folder / f"disk-{serial}"
        self.plugged[serial].mkdir(exist_ok=True)
        return self.plugged[serial]

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        return self.agent.answer(wire.encode({"op": op, "serial": "data", "uuid": UUID, **request}))

    def made(self, path: str = "/data", serial: str = "data") -> Path:
        """A volume that is mounted."""
        disk = self.plug(serial)
        assert self.ask("volume-make", serial=serial)["ok"]
        assert self.ask("volume-mount", path=path, serial=serial)["ok"]
        return disk

    def boot(self) -> None:
        self.disks.forget()
        self.agent.resume()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_a_file_system_is_made_on_a_blank_disk(guest: Guest) -> None:
    guest.plug()
    assert guest.ask("volume-look")["content"] == "blank"
    assert guest.ask("volume-make")["ok"]
    assert guest.ask("volume-look")["content"] == "ext4"
    assert not guest.ask("volume-make")["ok"]


def test_none_is_made_over_data(guest: Guest) -> None:
    disk = guest.plug()
    (disk / "precious").write_text("data")
    for again in ({}, {"again": False}, {"again": 1}, {"again": "yes"}):
        said = guest.ask("volume-make", **again)
        assert not said["ok"]
        assert "not blank" in said["error"]
    assert not guest.ask("volume-mount", path="/data")["ok"]
    assert [p.name for p in disk.iterdir()] == ["precious"]


def test_one_that_was_begun_is_made_again(guest: Guest) -> None:
    (guest.plug() / "torn").write_text("half a file system")
    assert guest.ask("volume-make", again=True)["ok"]


def test_it_is_mounted_again_after_a_boot(guest: Guest) -> None:
    disk = guest.made()
    (guest.root / "data" / "file").write_text("kept")
    guest.boot()
    assert (guest.root / "data" / "file").read_text() == "kept"
    assert (disk / "file").exists()
    assert guest.ask("volume-mount", path="/data")["ok"]
    assert guest.ask("volume-unmount", path="/data")["ok"]
    guest.boot()
    assert not (guest.root / "data" / "file").exists()
    assert guest.ask("volume-unmount", path="/data")["ok"]


def test_without_its_volume_a_host_stays_closed_until_it_has_it(guest: Guest) -> None:
    state = guest.root / "var/lib/stockyard"
    guest.made(DOCKER_ROOT)
    (state / "tls").mkdir()
    (state / "tls/cert.pem").write_text("")
    (state / "identity.json").write_text(
        '{"network": {"interface": "eth0", "mac": "", "address": "10.0.2.15", "netmask": "255.0.0.0", "gateway": ""}}'
    )
    opened = guest.root / "run/stockyard/open"
    disk = guest.plugged.pop("data")
    guest.boot()
    assert not opened.exists()
    assert (guest.root / DOCKER_ROOT.lstrip("/") / NOT_MOUNTED).exists()
    guest.plugged["data"] = disk
    assert guest.ask("volume-mount", path=DOCKER_ROOT)["ok"]
    assert not (guest.root / DOCKER_ROOT.lstrip("/") / NOT_MOUNTED).exists()
    assert guest.ask("open")["ok"]
    assert opened.exists()
    opened.unlink()
    guest.boot()
    assert opened.exists()


def test_a_path_that_leads_elsewhere_is_refused(guest: Guest) -> None:
    guest.plug()
    guest.ask("volume-make")
    (guest.root / "etc").mkdir()
    (guest.root / "data").symlink_to("etc")
    said = guest.ask("volume-mount", path="/data/in")
    assert "symbolic link" in said["error"]


def test_at_its_end_a_host_lets_go_of_all(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr(guest.disks, "stop_engine", lambda: stopped.append(True))
    guest.made()
    guest.made(DOCKER_ROOT, "docker")
    assert guest.ask("volume-unmount", all=True)["ok"]
    assert stopped == [True]
    assert not guest.disks.mounted(str(guest.root / "data"))
    assert not guest.disks.mounted(str(guest.root) + DOCKER_ROOT)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk of 64 MiB that is blank."""
    path = tmp_path / "image"
    with path.open("wb") as handle:
        handle.truncate(64 * MIB)
    return path


def write(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as handle:
        handle.seek(offset)
        handle.write(data)


def test_a_blank_disk_is_known(image: Path) -> None:
    assert LinuxDisks().content(str(image)) == "blank"


@settings(max_examples=12)
@given(place=st.one_of(st.integers(0, 4 * MIB - 1), st.integers(60 * MIB, 64 * MIB - 1)))
def test_one_byte_at_either_end_is_data(tmp_path_factory: pytest.TempPathFactory, place: int) -> None:
    path = tmp_path_factory.mktemp("disk") / "image"
    with path.open("wb") as handle:
        handle.truncate(64 * MIB)
    write(path, place, b"\1")
    assert LinuxDisks().content(str(path)) == "unknown"


def test_a_table_of_something_else_in_the_middle_is_data(image: Path) -> None:
    write(image, 32 * MIB, b"x" * 4096)
    assert LinuxDisks().content(str(image)) == "unknown"


def test_a_file_system_is_known_and_its_size(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(disks, "_run", lambda argv, _patience: ran.append(argv))
    block = bytearray(1024)
    struct.pack_into("<H", block, 0x38, 0xEF53)
    struct.pack_into("<II", block, 0x04, 16384, 0)
    struct.pack_into("<I", block, 0x18, 2)
    write(image, SUPERBLOCK, bytes(block))
    real = LinuxDisks()
    assert real.content(str(image)) == "ext4"
    assert not real.grow(str(image))
    with image.open("r+b") as handle:
        handle.truncate(80 * MIB)
    assert real.grow(str(image))
    assert ran == [["resize2fs", str(image)]]


def test_a_disk_is_known_by_its_serial_number_or_its_world_wide_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is virtio's, the other that of VMware's SCSI disks."""
    serial = "0b0a4a869c3b4b0e9a5e"
    monkeypatch.setattr(disks, "BLOCKS", str(tmp_path))
    told = {"null": {"serial": serial}, "zero": {"device/wwid": f"naa.6000C295CD00{serial.upper()}"}}
    for name, files in told.items():
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True)
            (tmp_path / name / file).write_text(f"{text}\n")
    assert LinuxDisks().find(serial, 0) == "/dev/null"
    (tmp_path / "null" / "serial").write_text("another")
    assert LinuxDisks().find(serial, 0) == "/dev/zero"
    (tmp_path / "zero" / "device" / "wwid").write_text(f"naa.6000c29fcd00{serial}")
    with pytest.raises(TimeoutError):
        LinuxDisks().find(serial, 0)


def test_a_scsi_disk_is_asked_for_its_size_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path) -> None:
    monkeypatch.setattr(disks, "BLOCKS", str(tmp_path / "sys"))
    monkeypatch.setattr(disks, "_run", lambda _argv, _patience: None)
    rescan = tmp_path / "sys" / image.name / "device" / "rescan"
    rescan.parent.mkdir(parents=True)
    rescan.write_text("")
    LinuxDisks().grow(str(image))
    assert rescan.read_text() == "1"


def test_a_check_that_is_not_enough_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        stdout, stderr = "UNEXPECTED INCONSISTENCY", ""

        def __init__(self, code: int) -> None:
            self.returncode = code

    for code in (0, 1):
        monkeypatch.setattr(disks.subprocess, "run", lambda *_a, code=code, **_k: Done(code))
        LinuxDisks().check("/dev/vdb")
    for code in (2, 4, 8, 12):
        monkeypatch.setattr(disks.subprocess, "run", lambda *_a, code=code, **_k: Done(code))
        with pytest.raises(OSError, match="INCONSISTENCY"):
            LinuxDisks().check("/dev/vdb")
