# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first boot of a cloud image: its result, its errors, and the files that are kept."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import BuildOptions, CloudImage, ImageError, ImageSpec
from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded
from stockyard.guest.cloud import BEGIN, END, FACTS, INITRD, KERNEL
from stockyard.guest.recipe import recipe
from stockyard.model.recipe import Recipe
from stockyard.providers.libvirt import cloud
from stockyard.providers.libvirt import machine as machine_choice
from stockyard.providers.libvirt.images import Images
from stockyard.providers.libvirt.machine import SLOW_IF_EMULATED, Machine
from stockyard.providers.libvirt.store import Store

DIGEST = "d" * 64
GUEST = recipe(ImageSpec(cloud_image=CloudImage("/i", "sha256:" + "0" * 64)))


def results(work: Path, facts: object, *parts: str) -> None:
    """Return the data that a guest writes to its disk, with zeroes behind it."""
    with (work / "results.raw").open("wb") as disk:
        with tarfile.open(fileobj=disk, mode="w") as archive:
            for part in parts:
                data = json.dumps(facts).encode() if part == FACTS else part.encode()
                entry = tarfile.TarInfo(part)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        disk.truncate(1 << 20)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs are not run; their names are kept."""
    ran: list[str] = []

    def run(argv: list[str], deadline: Deadline, **_how: object) -> str:
        ran.append(argv[0])
        if argv[0] == "setpriv" and deadline.passed():
            raise DeadlineExceeded("it took longer.")
        return ""

    monkeypatch.setattr(cloud, "run", run)
    (tmp_path / "console.log").write_bytes(
        b"\x1b[0mfirst\r\n" + b"x" * 5000 + b"\nE: Unable to correct problems\n"
    )
    return ran


def boot(work: Path, seconds: float = 60.0) -> str:
    return cloud.first_boot(work / "base.qcow2", GUEST, work, Deadline(seconds), "image x")


def test_local_image_is_accepted(
    tmp_path: Path, machine: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "RESULTS_BYTES", 0)
    ordinary: Callable[..., str] = vars(cloud)["run"]

    def run(argv: list[str], deadline: Deadline, **how: object) -> str:
        if argv[0] == "setpriv":
            results(tmp_path, {"root": "UUID=6c1b9a52-0f0e"}, KERNEL, INITRD, FACTS)
        return ordinary(argv, deadline, **how)

    monkeypatch.setattr(cloud, "run", run)
    assert boot(tmp_path) == "UUID=6c1b9a52-0f0e"
    assert (tmp_path / KERNEL).read_text() == KERNEL
    assert machine == ["qemu-img", "setpriv", "qemu-img"]


@pytest.mark.parametrize(
    ("kind", "processor"), [("kvm", "host"), ("qemu", "max,erms=off,fsrm=off,cx16=off")]
)
def test_emulated_processor_has_no_instruction_that_is_slow_or_damaging(
    monkeypatch: pytest.MonkeyPatch, kind: str, processor: str
) -> None:
    features = () if kind == "kvm" else SLOW_IF_EMULATED
    chosen = Machine(kind, 1, disabled_features=features)
    monkeypatch.setattr(machine_choice, "choose", lambda *_arguments: chosen)
    command = cloud._qemu("image x")
    assert command[command.index("-cpu") + 1] == processor


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        ({"root": "UUID=6c1b9a52-0f0e"}, (KERNEL, FACTS)),
        ({"root": "UUID=1234 init=/bin/sh"}, (KERNEL, INITRD, FACTS)),
        ({"root": 1}, (KERNEL, INITRD, FACTS)),
        ({}, (KERNEL, INITRD, FACTS)),
        ([], (KERNEL, INITRD, FACTS)),
    ],
)
def test_damaged_image_is_refused(
    tmp_path: Path,
    machine: list[str],
    monkeypatch: pytest.MonkeyPatch,
    facts: object,
    parts: tuple[str, ...],
) -> None:
    results(tmp_path, facts, *parts)
    with pytest.raises(
        ImageError, match="the cloud image's first boot failed before its end"
    ) as failed:
        cloud._harvest(tmp_path, "image x")
    assert failed.value.cause.endswith("E: Unable to correct problems")


def test_the_end_of_the_console_is_in_the_error(tmp_path: Path, machine: list[str]) -> None:
    with pytest.raises(
        ImageError, match="the cloud image's first boot failed before its end"
    ) as failed:
        boot(tmp_path)
    assert len(failed.value.cause) <= cloud.TAIL
    assert failed.value.cause.endswith("E: Unable to correct problems")
    assert "\x1b" not in failed.value.cause
    with pytest.raises(DeadlineExceeded, match="did not end in time") as late:
        boot(tmp_path, 0)
    assert "Unable to correct" in late.value.cause
    assert "BIOS" in late.value.remedy


def test_error_contains_the_output_of_the_script_only(tmp_path: Path, machine: list[str]) -> None:
    lines = [
        "[ OK ] Started",
        BEGIN,
        "this is Debian 12",
        END,
        *("[ OK ] Stopped" for _number in range(500)),
    ]
    (tmp_path / "console.log").write_text("\r\n".join(lines))
    with pytest.raises(ImageError) as failed:
        boot(tmp_path)
    assert failed.value.cause == "this is Debian 12"


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        (
            {"backing-filename": "/etc/shadow"},
            "the cloud image is incomplete: it refers to another file",
        ),
        (
            {"format-specific": {"data": {"data-file": "/etc/shadow"}}},
            "the cloud image is incomplete: it refers to another file",
        ),
        ({"virtual-size": (8 << 30) + 1}, "disk_gib: 9 or more"),
    ],
)
def test_a_disk_that_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, properties: dict[str, object], complaint: str
) -> None:
    described = {"virtual-size": 2 << 30, "format": "qcow2"}
    monkeypatch.setattr(
        cloud, "run", lambda *_arguments, **_how: json.dumps({**described, **properties})
    )
    with pytest.raises(ImageError, match=complaint):
        cloud.check(tmp_path / "disk", GUEST, Deadline(60), "image x")
    monkeypatch.setattr(cloud, "run", lambda *_arguments, **_how: json.dumps(described))
    cloud.check(tmp_path / "disk", GUEST, Deadline(60), "image x")


def test_root_partition_is_read_from_the_image(tmp_path: Path) -> None:
    images = Images(Store(tmp_path))
    assert images.path(DIGEST).root == "/dev/vda"
    folder = images.store.images / DIGEST
    folder.mkdir(parents=True)
    for root, facts in {
        "/dev/vda": {"base": "base-a.tar"},
        "UUID=1234": {"root": "UUID=1234"},
    }.items():
        (folder / "image.json").write_text(json.dumps(facts))
        assert images.path(DIGEST).root == root


def test_cloud_image_is_fetched_once_and_deleted_with_its_last_user(tmp_path: Path) -> None:
    file = tmp_path / "image.qcow2"
    file.write_bytes(b"QFI\xfb")
    output = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout
    checksum = f"sha256:{output[:64]}"
    store = Store(tmp_path / "store")
    store.prepare()
    images, work = Images(store), tmp_path / "work"
    work.mkdir()
    image_recipe: Recipe = replace(GUEST, cloud_image=checksum)
    kept_image = images._kept(
        image_recipe, BuildOptions(cloud_image=CloudImage(str(file), checksum)), work, Deadline(60)
    )
    assert kept_image.read_bytes() == b"QFI\xfb"
    file.unlink()
    assert (
        images._kept(
            image_recipe,
            BuildOptions(cloud_image=CloudImage(str(file), checksum)),
            work,
            Deadline(60),
        )
        == kept_image
    )
    with pytest.raises(ImageError, match="the location of the cloud image is not known"):
        images._kept(image_recipe, BuildOptions(), work, Deadline(60))
    folder = store.images / DIGEST
    folder.mkdir()
    (folder / "image.json").write_text(json.dumps({"base": kept_image.name, "root": "UUID=1234"}))
    assert images.prune({DIGEST}, 0) == []
    # An image whose record cannot be read may be made of any base.
    facts = (folder / "image.json").read_text()
    (folder / "image.json").write_text("[" * 100_000)
    assert images.prune({DIGEST}, 0) == []
    (folder / "image.json").write_text(facts)
    # Just asked for: a template of another owner may be on its way, and so may an image of a base.
    building = store.images / "base-0.tar"
    building.write_text("")
    assert images.prune(set(), 3600) == []
    for check in (True, False):
        pruned = images.prune(set(), 3600, frozenset({DIGEST}), check=check)
        assert pruned == [kept_image.name, DIGEST]
    assert images.prune(set(), 0) == [building.name]
