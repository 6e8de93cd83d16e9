# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages with the names and paths of Docker's own, whose programs are those of Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

CONTROL = """Package: {name}
Version: {version}
Architecture: {architecture}
Maintainer: tests <tests@localhost>
Depends: {depends}
Conflicts: {conflicts}
Replaces: {conflicts}
Description: Docker of Debian with the names and paths of Docker's packages
"""
# Programs that are in /usr/sbin in Debian's packages, and in /usr/bin in Docker's.
MOVED = ("dockerd", "runc")
UNIT = "lib/systemd/system/docker.service"


def packages(folder: Path) -> list[Path]:
    """Return ``docker-ce``, ``docker-ce-cli`` and ``containerd.io`` for the release of this
    machine.
    """
    trees = {name: _unpacked(folder, name) for name in ("docker.io", "containerd", "runc")}
    client = folder / "docker-ce-cli"
    (client / "usr/bin").mkdir(parents=True)
    if not (trees["docker.io"] / "usr/bin/docker").exists():
        # Debian 13 has a separate package.
        trees["docker.io"].joinpath("usr/bin").mkdir(parents=True, exist_ok=True)
        shutil.copy2(_unpacked(folder, "docker-cli") / "usr/bin/docker", client / "usr/bin/docker")
    else:
        (trees["docker.io"] / "usr/bin/docker").rename(client / "usr/bin/docker")
    shutil.copytree(trees["runc"], trees["containerd"], dirs_exist_ok=True, symlinks=True)
    for tree in (trees["docker.io"], trees["containerd"]):
        for program in MOVED:
            if (tree / "usr/sbin" / program).exists():
                (tree / "usr/bin").mkdir(parents=True, exist_ok=True)
                (tree / "usr/sbin" / program).rename(tree / "usr/bin" / program)
    for path in trees["docker.io"].rglob("docker.service"):
        path.write_text(path.read_text().replace("/usr/sbin/dockerd", "/usr/bin/dockerd"))
    daemon_needs = f"containerd.io, docker-ce-cli, {_needs('docker.io', 'containerd', 'runc')}"
    return [
        _built(trees["docker.io"], "docker-ce", daemon_needs, "docker.io", postinst=True),
        _built(client, "docker-ce-cli", "libc6", "docker-cli"),
        _built(trees["containerd"], "containerd.io", "libc6, libseccomp2", "containerd, runc"),
    ]


def _unpacked(folder: Path, name: str) -> Path:
    """Download a package of this machine's release, and return its files."""
    subprocess.run(["apt-get", "download", name], check=True, cwd=folder, capture_output=True)
    (package,) = folder.glob(f"{name}_*.deb")
    tree = folder / f"{name}-tree"
    subprocess.run(["dpkg-deb", "--extract", package, tree], check=True)
    package.unlink()
    return tree


def _needs(name: str, *without: str) -> str:
    """Return the dependencies of a package, less some."""
    text = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", name], check=True, capture_output=True, text=True
    ).stdout
    (line,) = re.findall("^Depends: (.*)$", text, re.MULTILINE)
    return ", ".join(need for need in line.split(", ") if need.split()[0] not in without)


def _built(tree: Path, name: str, depends: str, conflicts: str, *, postinst: bool = False) -> Path:
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    control = tree / "DEBIAN"
    control.mkdir()
    values = {"name": name, "version": "5:99.0", "architecture": architecture}
    (control / "control").write_text(CONTROL.format(depends=depends, conflicts=conflicts, **values))
    if postinst:
        script = control / "postinst"
        script.write_text(
            "#!/bin/sh\nset -e\ngetent group docker >/dev/null || groupadd --system docker\n"
            "deb-systemd-helper enable docker.service docker.socket >/dev/null\n"
        )
        script.chmod(0o755)
    package = tree.parent / f"{name}.deb"
    line = ["dpkg-deb", "--root-owner-group", "--build", "-Zgzip", "-z1", str(tree), str(package)]
    subprocess.run(line, check=True, capture_output=True)
    return package
