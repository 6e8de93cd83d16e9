# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machine of a run, without which its figures mean nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from stockyard.model.template import Hardware
from stockyard.providers.libvirt.machine import choose

LIBRARIES = ("ansible-core", "cryptography", "libvirt-python", "pyvmomi")


def machine() -> dict[str, Any]:
    """Return properties of the machine and versions of programs."""
    return {
        "cores": os.cpu_count(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "accelerator": {"kvm": "KVM", "qemu": "software emulation"}[
            choose(Hardware(), "bench").type
        ],
        "kernel": platform.release(),
        "qemu": _said("qemu-system-x86_64", "--version"),
        "libvirt": _said("libvirtd", "--version"),
        "python": platform.python_version(),
        "libraries": _versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _first(path: str, key: str) -> str:
    """Return the value of the first line with a key in a file of /proc."""
    for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
        name, _colon, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _said(program: str, *arguments: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not path:
        return ""
    process = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return process.stdout.partition("\n")[0].strip()
