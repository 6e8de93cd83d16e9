# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper image of GitLab's runner: busybox, Debian's git and the runner's own program, in place
of the image of GitLab's registry.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

from tests.helpers import docker_clients, image_archive

RELEASE, PACKAGES = "bookworm", ("git",)
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LINKER = "lib64/ld-linux-x86-64.so.2"
GIT_FOLDER = "usr/lib/git-core"
PROGRAMS = ("usr/bin/git", f"{GIT_FOLDER}/git-remote-http", f"{GIT_FOLDER}/git-http-fetch")
# The start of each script in the helper container, which upstream's image has, too.
START = "#!/bin/sh\numask 0000\nexec /bin/sh\n"
SETTINGS = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["sh"]}


def save_helper(runner: Path, name: str, base: bytes, target: Path) -> None:
    """Write the archive of the helper image.

    :param runner: the program gitlab-runner, which has the commands of the helper.
    :param base: a tar archive with all programs of busybox.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(_git(), ".", filter=_owned_by_root)
        image_archive.add(files, "usr/bin/gitlab-runner-helper", runner.read_bytes(), 0o755)
        image_archive.add(files, "usr/bin/gitlab-runner-build", START.encode(), 0o755)
    image_archive.save(target, name, (base, layer.getvalue()), SETTINGS)


def _git() -> Path:
    """Return a directory with git and its libraries, fetched if it does not exist."""
    return docker_clients.cached((RELEASE, PACKAGES, PROGRAMS, LINKER), _fetch)


def _fetch(temporary: Path, place: Path) -> None:
    root = temporary / "root"
    docker_clients.unpack(temporary / "debian", root, RELEASE, PACKAGES, complete=True)
    search_path = ":".join(str(root / name) for name in LIBRARIES)
    linker = root / LIBRARIES[0] / Path(LINKER).name
    files: dict[Path, str] = {}
    for name in PROGRAMS:
        files[root / name] = name
        command = (str(linker), "--library-path", search_path)
        for line in docker_clients.run(*command, "--list", str(root / name)).splitlines():
            if "=> " in line:
                library = Path(line.split("=> ")[1].split()[0])
                files[library] = f"{LIBRARIES[0]}/{library.name}"
    # The programs name the linker by this path.
    files[linker] = LINKER
    for source, name in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, place / name)
    (place / GIT_FOLDER / "git").symlink_to("../../bin/git")
    shutil.copytree(root / "usr/share/git-core/templates", place / "usr/share/git-core/templates")


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
