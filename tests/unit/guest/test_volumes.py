# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's volumes: no file system over data, none mounted unchecked, and no open door without
them.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stockyard.guest.agent import disks, engine, wire
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
        self.agent = Agent(
            Identity(str(self.root), NoEffects()), Volumes(str(self.root), self.disks)
        )
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
        assert self.ask("volume-create", serial=serial)["ok"]
        assert self.ask("volume-mount", path=path, serial=serial)["ok"]
        return disk

    def whole(self) -> None:
        """An identity that is on disk."""
        network = {
            "interface": "eth0",
            "mac": "",
            "address": "10.0.2.15",
            "netmask": "255.0.0.0",
            "gateway": "",
        }
        state = self.root / "var/lib/stockyard"
        (state / "tls").mkdir(parents=True)
        (state / "tls/cert.pem").write_text("")
        (state / "identity.json").write_text(json.dumps({"uuid": UUID, "network": network}))

    def boot(self) -> None:
        self.disks.forget()
        self.agent.resume()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_file_system_is_created_on_a_blank_disk(guest: Guest) -> None:
    guest.plug()
    assert guest.ask("volume-probe")["content"] == "blank"
    assert guest.ask("volume-create")["ok"]
    assert guest.ask("volume-probe")["content"] == "ext4"
    assert not guest.ask("volume-create")["ok"]


def test_file_system_is_not_created_over_data(guest: Guest) -> None:
    disk = guest.plug()
    (disk / "precious").write_text("data")
    for options in ({}, {"again": False}, {"again": 1}, {"again": "yes"}):
        answer = guest.ask("volume-create", **options)
        assert not answer["ok"]
        assert "not blank" in answer["error"]
    assert not guest.ask("volume-mount", path="/data")["ok"]
    assert [p.name for p in disk.iterdir()] == ["precious"]


def test_interrupted_file_system_on_a_disk_is_created_again(guest: Guest) -> None:
    (guest.plug() / "torn").write_text("half a file system")
    assert guest.ask("volume-create", again=True)["ok"]


def test_volume_is_mounted_after_a_boot(guest: Guest) -> None:
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


def test_host_without_its_volume_stays_closed(guest: Guest) -> None:
    guest.made(DOCKER_ROOT)
    guest.whole()
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
    guest.ask("volume-create")
    (guest.root / "etc").mkdir()
    (guest.root / "data").symlink_to("etc")
    answer = guest.ask("volume-mount", path="/data/in")
    assert "symbolic link" in answer["error"]


def test_shutdown_unmounts_all_volumes(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_one_byte_at_either_end_is_data(
    tmp_path_factory: pytest.TempPathFactory, place: int
) -> None:
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
    identity_files = {
        "null": {"serial": serial},
        "zero": {"device/wwid": f"naa.6000C295CD00{serial.upper()}"},
    }
    for name, files in identity_files.items():
        for file, text in files.items():
            (tmp_path / name / file).parent.mkdir(parents=True)
            (tmp_path / name / file).write_text(f"{text}\n")
    assert LinuxDisks().find(serial, 0) == "/dev/null"
    (tmp_path / "null" / "serial").write_text("another")
    assert LinuxDisks().find(serial, 0) == "/dev/zero"
    (tmp_path / "zero" / "device" / "wwid").write_text(f"naa.6000c29fcd00{serial}")
    with pytest.raises(TimeoutError):
        LinuxDisks().find(serial, 0)


def test_size_of_a_scsi_disk_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path
) -> None:
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
        monkeypatch.setattr(subprocess, "run", lambda *_a, code=code, **_k: Done(code))
        LinuxDisks().check("/dev/vdb")
    for code in (2, 4, 8, 12):
        monkeypatch.setattr(subprocess, "run", lambda *_a, code=code, **_k: Done(code))
        with pytest.raises(OSError, match="INCONSISTENCY"):
            LinuxDisks().check("/dev/vdb")


KEY = "5e" * 32


def test_an_encrypted_volume_is_opened_by_its_key_alone(guest: Guest) -> None:
    guest.plug()
    assert guest.ask("volume-create", key=KEY)["ok"]
    assert guest.ask("volume-probe")["content"] == "luks"
    for key, reason in (("", "waits for its key"), ("00" * 32, "PermissionError")):
        answer = guest.ask("volume-mount", path="/data", key=key)
        assert not answer["ok"]
        assert reason in answer["error"]
        assert guest.ask("hello")["missing"] == ["/data"]
    assert guest.ask("volume-mount", path="/data", key=KEY)["ok"]
    assert guest.ask("hello")["missing"] == []


def test_damaged_volume_list_does_not_block_requests(guest: Guest) -> None:
    guest.whole()
    (guest.root / "var/lib/stockyard/volumes.json").write_text('["half')
    assert guest.ask("hello")["missing"] == []
    assert not guest.ask("volume-mount", path="/data")["ok"]


def test_volume_for_encryption_is_not_mounted_in_clear(guest: Guest) -> None:
    guest.made()
    assert guest.ask("volume-unmount", path="/data")["ok"]
    assert "not encrypted" in guest.ask("volume-mount", path="/data", key=KEY)["error"]


def test_after_a_boot_an_encrypted_volume_waits_and_the_host_is_closed(guest: Guest) -> None:
    guest.whole()
    guest.plug()
    assert guest.ask("volume-create", key=KEY)["ok"]
    assert guest.ask("volume-mount", path="/data", key=KEY)["ok"]
    guest.boot()
    assert not (guest.root / "run/stockyard/open").exists()
    assert guest.ask("hello")["missing"] == ["/data"]
    assert guest.ask("volume-mount", path="/data", key=KEY)["ok"]
    assert guest.ask("open")["ok"]
    assert (guest.root / "run/stockyard/open").exists()
    assert not [
        p for p in guest.folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()
    ]


def test_key_is_passed_by_stdin_and_not_in_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(disks, "MAPPER", str(tmp_path))
    ran: list[tuple[list[str], str]] = []
    codes = [0]

    def run(argv: list[str], **how: Any) -> subprocess.CompletedProcess[str]:
        ran.append((argv, how["input"]))
        if argv[1] == "open" and not codes[0]:
            (tmp_path / "dm-7").touch()
            (tmp_path / argv[-3]).symlink_to("dm-7")
        return subprocess.CompletedProcess(argv, codes[0], "", "wrong")

    monkeypatch.setattr(subprocess, "run", run)
    real = LinuxDisks()
    real.encrypt("/dev/vdb", KEY)
    assert real.unlock("/dev/vdb", "abc", KEY) == "/dev/dm-7"
    assert real.unlock("/dev/vdb", "abc", KEY) == "/dev/dm-7"
    real.lock("abc")
    assert [argv[1] for argv, _stdin in ran] == ["luksFormat", "open", "resize", "close"]
    assert [stdin for _argv, stdin in ran] == [KEY, KEY, KEY, ""]
    assert not any(KEY in word for argv, _stdin in ran for word in argv)
    codes[0] = disks.WRONG_KEY
    with pytest.raises(PermissionError):
        real.unlock("/dev/vdb", "abc", KEY)


def test_a_disk_that_is_encrypted_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"LUKS\xba\xbe\x00\x02" + bytes(8 * MIB))
    assert LinuxDisks().content(str(disk)) == "luks"


def test_a_dropped_volume_is_unmounted_after_its_programs_have_ended(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.made()
    steps: list[str] = []
    unmount = guest.disks.unmount
    monkeypatch.setattr(guest.disks, "stop_users", lambda path: steps.append(f"stop {path}"))

    def noted(path: str) -> None:
        steps.append(f"unmount {path}")
        unmount(path)

    monkeypatch.setattr(guest.disks, "unmount", noted)
    assert guest.ask("volume-drop", path="/data")["ok"]
    path = guest.root / "data"
    assert steps == [f"stop {path}", f"unmount {path}"]
    assert not path.is_symlink()
    del guest.plugged["data"]
    guest.boot()
    assert guest.ask("hello")["missing"] == []


def process(proc: Path, pid: int, device: str = "", link: Path | None = None) -> None:
    """A process, as proc(5) shows it."""
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    number = device or "00:01"
    (folder / "maps").write_text(f"7f00-7f01 r--p 00000000 {number} 42   /lib/x y.so\n")
    if link:
        (folder / "fd/3").symlink_to(link)


def test_processes_that_use_a_file_system_are_those_with_its_device_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process in a container can have the same path, of another file system."""
    proc, file = tmp_path / "proc", tmp_path / "file"
    file.write_text("")
    device = file.stat().st_dev
    process(proc, 1)
    process(proc, 20, link=Path("/proc/self/status"))
    process(proc, 30, link=file)
    process(proc, 40, device=f"{os.major(device):02x}:{os.minor(device):02x}")
    process(proc, 50, link=tmp_path / "gone")
    (proc / "60").mkdir()
    (proc / "uptime").write_text("")
    monkeypatch.setattr(disks, "PROC", str(proc))
    assert sorted(disks._users_of(device)) == [30, 40]


def test_no_process_is_killed_for_a_volume_that_is_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "stop_users", lambda _path: {})
    monkeypatch.setattr(os, "kill", lambda *_arguments: pytest.fail("a process was killed"))
    LinuxDisks().stop_users(str(tmp_path))


def test_processes_that_use_a_mounted_volume_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [[30, 40], [40], []]
    killed: list[int] = []
    monkeypatch.setattr(engine, "stop_users", lambda _path: {})
    monkeypatch.setattr(os.path, "ismount", lambda _path: True)
    monkeypatch.setattr(disks, "_users_of", lambda _device: users.pop(0))
    monkeypatch.setattr(os, "kill", lambda pid, _signal: killed.append(pid))
    LinuxDisks().stop_users(str(tmp_path))
    assert killed == [30, 40, 40]
