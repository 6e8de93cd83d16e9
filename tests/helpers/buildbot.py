# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Buildbot's master from PyPI, and Debian's worker for an image, fetched once and kept under
``build``.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.helpers import docker_clients, image_archive

MASTER = ("buildbot==4.3.0", "docker==7.2.0")
PACKAGES = (MASTER[0], "buildbot-worker==4.3.0")
RELEASE, WORKER = "bookworm", ("buildbot-worker",)
# The parts of the packages that a container does not need.
UNUSED = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/zoneinfo"),
    "usr/lib/python3/dist-packages/Cython",
    "usr/lib/python3*/**/test",
    "usr/lib/python3*/**/tests",
)
# The program of Buildbot's own image, which reads the variables that the master sets.
PROGRAM = """\
import os
import sys

from buildbot_worker.bot import Worker
from twisted.application import service
from twisted.python.log import FileLogObserver, ILogObserver

application = service.Application("buildbot-worker")
application.setComponent(ILogObserver, FileLogObserver(sys.stdout).emit)
address = os.environ["BUILDMASTER"], int(os.environ["BUILDMASTER_PORT"])
identity = os.environ["WORKERNAME"], os.environ.pop("WORKERPASS")
Worker(*address, *identity, "/", 600).setServiceParent(application)
"""
COMMAND = ["twistd3", "--pidfile=", "-ny", "/buildbot.tac"]
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")


@dataclass(frozen=True)
class Buildbot:
    """A master and a worker in a directory.

    :param folder: the directory.
    """

    folder: Path

    @property
    def packages(self) -> Path:
        """Return the Python packages of the master."""
        return self.folder / "master"

    @property
    def program(self) -> Path:
        """Return the program ``buildbot``."""
        return self.packages / "bin" / "buildbot"

    @property
    def worker(self) -> Path:
        """Return the root directory of the worker's packages."""
        return self.folder / "worker"


def fetch() -> Buildbot:
    """Return Buildbot, fetched if it is not there."""
    return Buildbot(docker_clients.cached((MASTER, RELEASE, WORKER), _fetch))


def fetch_packages() -> Path:
    """Return a directory with the Python packages of master and worker, fetched if it does not
    exist.
    """

    def fill(_temporary: Path, place: Path) -> None:
        docker_clients.pip_install(place, *PACKAGES)

    return docker_clients.cached(PACKAGES, fill)


def save_image(worker: Path, name: str, base: bytes, target: Path) -> None:
    """Write an archive for ``docker load``: an image whose containers run a worker.

    :param worker: the root directory of the worker's packages.
    :param base: a tar archive of the lower layer.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(worker, ".", filter=_owned_by_root)
        image_archive.add(files, "buildbot.tac", PROGRAM.encode())
    settings = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": COMMAND}
    image_archive.save(target, name, (base, layer.getvalue()), settings)


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _fetch(temporary: Path, place: Path) -> None:
    place.mkdir()
    docker_clients.pip_install(place / "master", *MASTER)
    root = place / "worker"
    docker_clients.unpack(temporary / "debian", root, RELEASE, WORKER, complete=True)
    for pattern in UNUSED:
        for path in list(root.glob(pattern)):
            shutil.rmtree(path, ignore_errors=True)
    # The packages have no bytecode, and a guest would compile everything at each start.
    (interpreter,) = root.glob("usr/bin/python3.[0-9]*")
    docker_clients.run(
        str(root / "lib64/ld-linux-x86-64.so.2"),
        "--library-path",
        ":".join(str(root / name) for name in LIBRARIES),
        str(interpreter),
        "-m",
        "compileall",
        "-q",
        "-s",
        str(root),
        str(root / "usr/lib"),
        settings={"PYTHONHOME": str(root / "usr")},
    )
