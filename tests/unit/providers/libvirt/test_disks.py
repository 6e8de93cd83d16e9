# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of templates from hosts: discarded blocks and layers do not remain."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.providers.libvirt import disks
from stockyard.providers.libvirt.layers import backing

pytestmark = pytest.mark.skipif(not shutil.which("qemu-io"), reason="qemu-io is not installed")


def qemu_io(disk: Path, *commands: str) -> str:
    """Run commands on a disk as a machine whose disk has discard='unmap'."""
    options = [word for command in commands for word in ("-c", command)]
    line = ["qemu-io", "-d", "unmap", "-f", "qcow2", *options, str(disk)]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout


def test_flat_disk_has_no_discarded_block_and_no_layer(tmp_path: Path) -> None:
    layer, disk = tmp_path / "layer.qcow2", tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", layer, "4M"], check=True)
    qemu_io(layer, "write -P 0x41 0 1M")
    disks.overlay(disk, layer, "template warm", Deadline(60), cluster_kib=4)
    # One block that the host wrote, and one of its layer, each between others that stay.
    qemu_io(disk, "write -P 0x53 12k 4k", "discard 12k 4k", "discard 200k 4k")
    disks.flatten(disk, "template warm", Deadline(60))
    assert backing(disk) == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk.qcow2", "layer.qcow2"]
    layer.unlink()
    reads = ("read -P 0 12k 4k", "read -P 0 200k 4k", "read -P 0x41 8k 4k", "read -P 0x41 204k 4k")
    assert "failed" not in qemu_io(disk, *reads)
    assert b"S" * 512 not in disk.read_bytes()
