# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real clients of Docker's API, fetched once and unpacked under ``build``: Docker's own of two
releases of Debian, with compose and buildx; act; testcontainers for Python.

As a script it prints the directory; as a script with the argument ``compose``, the path of compose
alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
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
PLUGIN_FOLDER = "usr/libexec/docker/cli-plugins"
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
    """Return the clients, fetched if they are not there."""
    return DockerClients(cached((DEBIAN, ACT, TESTCONTAINERS), _fetch))


def compose() -> Path:
    """Return compose, which runs without Docker's client too. Fetch only it if it is not there."""

    def fill(temporary: Path, place: Path) -> None:
        unpack(temporary / "trixie", place, "trixie", ("docker-compose",))

    return cached(("trixie", "docker-compose"), fill) / PLUGIN_FOLDER / "docker-compose"


def cached(pins: object, fill: Callable[[Path, Path], None]) -> Path:
    """Return the directory of some programs, which is filled if it does not exist.

    :param pins: the names and versions of the programs.
    :param fill: creates its second argument, the directory. The first argument is a directory for
        temporary files.
    """
    folder = WORK / hashlib.sha256(repr(pins).encode()).hexdigest()[:16]
    if not folder.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        with (WORK / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                print(f"fetching clients of Docker to {folder}", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory(dir=WORK) as temporary:
                    place = Path(temporary) / "clients"
                    fill(Path(temporary), place)
                    os.replace(place, folder)
    return folder


def _fetch(temporary: Path, place: Path) -> None:
    for release, packages in DEBIAN.items():
        unpack(temporary / release, place / release, release, packages)
    plugins = place / "home" / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    for name in PLUGINS:
        shutil.copy(place / "trixie" / PLUGIN_FOLDER / name, plugins)
    settings = {"GOBIN": str(place), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    run(build.go(), "install", "-p", "1", ACT, settings=settings)
    pip_install(place / "packages", TESTCONTAINERS)


def pip_install(target: Path, *requirements: str) -> None:
    """Install Python packages into a directory."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--target", str(target), *requirements)


def unpack(
    work: Path, target: Path, release: str, packages: tuple[str, ...], *, complete: bool = False
) -> None:
    """Unpack packages of a release, which need not be that of this machine.

    :param work: a directory for apt.
    :param complete: whether to unpack all packages that they depend on, too.
    """
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        (work / name).mkdir(parents=True)
    target.mkdir(parents=True)
    sources = work / "sources.list"
    # No package is installed. The locks of apt are next to this file.
    status = work / "state" / "status"
    status.touch()
    sources.write_text(f"deb [signed-by={KEYS}] {_mirror()} {release} main\n", encoding="ascii")
    options = {
        "Dir::State": work / "state",
        "Dir::State::status": status,
        "Dir::Cache": work / "cache",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "APT::Sandbox::User": "",
    }
    apt = ["apt-get", "--quiet", *(f"-o{key}={value}" for key, value in options.items())]
    run(*apt, "update")
    if complete:
        download = ("install", "--download-only", "--no-install-recommends", "--yes")
        run(*apt, *download, *packages)
    else:
        run(*apt, "download", *packages, cwd=work / "debs")
    for package in sorted(work.glob("**/*.deb")):
        run("dpkg-deb", "--extract", str(package), str(target))


def _mirror() -> str:
    """Return the mirror of Debian that this machine uses."""
    command = ["apt-get", "indextargets", "--format", "$(SITE) $(REPO_URI)", "Created-By: Packages"]
    addresses = [line.split()[1] for line in run(*command).splitlines()]
    return next(address for address in addresses if address.rstrip("/").endswith("/debian"))


def run(*command: str, cwd: Path | None = None, settings: Mapping[str, str] | None = None) -> str:
    """Run a command of low priority, and return its output."""
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
    print(compose() if sys.argv[1:] == ["compose"] else fetch().folder)
