# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients of Docker's API, fetched once and unpacked under ``build``: Docker's own of two
releases of Debian, with compose and buildx; act; testcontainers for Python.

As a script it prints the directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vcsim import build

WORK = Path(__file__).parents[2] / "build" / "endpoint-clients"
# The packages of each release of Debian that has the client.
DEBIAN = {
    "bookworm": ("docker.io", "busybox-static"),
    "trixie": ("docker-cli", "docker-compose", "docker-buildx"),
}
ACT = "github.com/nektos/act@v0.2.89"
TESTCONTAINERS = "testcontainers==4.15.0"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
PLUGINS = ("docker-compose", "docker-buildx")
PATIENCE = 1800


@dataclass(frozen=True)
class DockerClients:
    """The clients in a directory.

    :param folder: the directory.
    """

    folder: Path

    @property
    def releases(self) -> dict[str, Path]:
        """Return Docker's client of each release of Debian."""
        return {name: self.folder / name / "usr/bin/docker" for name in DEBIAN}

    @property
    def home(self) -> Path:
        """Return a home directory in which Docker's client finds its plugins."""
        return self.folder / "home"

    @property
    def busybox(self) -> Path:
        """Return a static busybox."""
        paths = [self.folder / "bookworm" / name for name in ("bin/busybox", "usr/bin/busybox")]
        return next(path for path in paths if path.exists())

    @property
    def act(self) -> Path:
        """Return act."""
        return self.folder / "act"

    @property
    def packages(self) -> Path:
        """Return a directory of Python packages, with testcontainers."""
        return self.folder / "packages"


def fetch() -> DockerClients:
    """Return the clients; those of a release that is not there yet are fetched."""
    pins = repr((DEBIAN, ACT, TESTCONTAINERS))
    folder = WORK / hashlib.sha256(pins.encode()).hexdigest()[:16]
    if not folder.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _fetch(folder)
    return DockerClients(folder)


def _fetch(folder: Path) -> None:
    print(f"fetching clients of Docker to {folder}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=WORK) as temporary:
        place = Path(temporary) / "clients"
        for release, packages in DEBIAN.items():
            _unpack(Path(temporary) / release, place / release, release, packages)
        plugins = place / "home" / ".docker" / "cli-plugins"
        plugins.mkdir(parents=True)
        for name in PLUGINS:
            shutil.copy(place / "trixie" / "usr/libexec/docker/cli-plugins" / name, plugins)
        settings = {"GOBIN": str(place), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        _run(build.go(), "install", "-p", "1", ACT, settings=settings)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run(*pip, "--target", str(place / "packages"), TESTCONTAINERS)
        os.replace(place, folder)


def _unpack(work: Path, target: Path, release: str, packages: tuple[str, ...]) -> None:
    """Unpack packages of a release, which need not be that of this machine.

    :param work: a directory for apt.
    """
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        (work / name).mkdir(parents=True)
    target.mkdir(parents=True)
    sources = work / "sources.list"
    sources.write_text(f"deb [signed-by={KEYS}] {_mirror()} {release} main\n", encoding="ascii")
    options = {
        "Dir::State": work / "state",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work / "cache",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "--quiet", *(f"-o{key}={value}" for key, value in options.items())]
    _run(*apt, "update")
    _run(*apt, "download", *packages, cwd=work / "debs")
    for package in sorted((work / "debs").glob("*.deb")):
        _run("dpkg-deb", "--extract", str(package), str(target))


def _mirror() -> str:
    """Return the mirror of Debian that this machine uses."""
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(REPO_URI)", "Created-By: Packages"]
    addresses = [line.split()[1] for line in _run(*command).splitlines()]
    return next(address for address in addresses if address.rstrip("/").endswith("/debian"))


def _run(*command: str, cwd: Path | None = None, settings: Mapping[str, str] | None = None) -> str:
    try:
        return subprocess.run(
            ["nice", *command],
            cwd=cwd,
            env={**os.environ, **(settings or {})},
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        ).stdout
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{' '.join(command)} failed:\n{error.stderr}") from error


if __name__ == "__main__":
    print(fetch().folder)
