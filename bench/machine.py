# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the figures were taken on: a figure without it says nothing."""

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

from stockyard.providers.libvirt.machine import choose

LIBRARIES = ("ansible-core", "cryptography", "libvirt-python", "pyvmomi")


def machine() -> dict[str, Any]:
    """Machine and versions."""
    return {
        "cores": os.cpu_count(),
        "processor": _first("/proc/cpuinfo", "model name"),
        "memory": _first("/proc/meminfo", "MemTotal"),
        "accelerator": {"kvm": "KVM", "qemu": "software emulation"}[choose("auto", "bench").type],
        "kernel": platform.release(),
        "qemu": _said("qemu-system-x86_64", "--version"),
        "libvirt": _said("libvirtd", "--version"),
        "python": platform.python_version(),
        "libraries": _versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _first(path: str, key: str) -> str:
    """What stands after the first such key of a file in /proc."""
    for line in Path(path).read_text(encoding="ascii", errors="replace").splitlines():
        name, _colon, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _said(program: str, *arguments: str) -> str:
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not path:
        return ""
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0].strip()
