# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian system in namespaces: commands run there as on another machine, with the programs,
libraries and users of that release.

mmdebstrap builds it once, as an ordinary user, with the packages of ``bindep.txt`` and nothing
else, below the user's cache. The system has processes and mounts of its own, and the machine's
network. Everything that a command starts ends with the command; the homes of its users stay until
the end of the test.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_suffix(".sh")
MIRROR = "http://deb.debian.org/debian"
# An ordinary user of the system, with subordinate ids. A namespace of users has 65536 of them, so
# those of the user are those of the system too.
USER = "tester"
USER_HOOK = (
    f'chroot "$1" useradd --no-create-home --shell /bin/bash --uid 1000 {USER}'
    f' && echo {USER}:1:65535 >"$1/etc/subuid" && echo {USER}:1:65535 >"$1/etc/subgid"'
)
# Root of a namespace of users, who owns the files of the tree.
ROOTED = ("unshare", "--user", "--map-root-user", "--map-auto")
APART = ("--mount", "--pid", "--fork", "--kill-child")
PACKAGE = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.+-]*) \[(?P<profiles>[^\]]*)\]", re.MULTILINE)
# Variables of the environment that say how mirrors are reached.
PASSED_ON = re.compile(r"(?i)(https?|no)_proxy|PIP_(CERT|INDEX_URL|PROXY)|SSL_CERT_FILE|UV_.*INDEX")
# Seconds for downloads and for the installation of packages.
PATIENCE = 1800.0


@dataclass(frozen=True)
class DebianSystem:
    """A system whose users run commands.

    :param root: the tree, which no command changes.
    :param work: the changes of commands.
    :param homes: the directory of the homes. Two systems can have the same.
    """

    root: Path
    work: Path
    homes: Path

    def run(
        self, script: str, *, user: str = USER, timeout: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of bash in a copy of the checkout, and return its output."""
        command = [*ROOTED, *APART, "bash", str(SCRIPT)]
        command += [str(self.root), str(self.work), str(self.homes), str(CHECKOUT), user, script]
        return subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"} | passed_on(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


def packages(text: str) -> list[str]:
    """Return the packages of bindep.txt that `make setup` installs on a machine that is not CI.

    :param text: the content of the file.
    """
    return [
        match["name"]
        for match in PACKAGE.finditer(text)
        if "platform:dpkg" in match["profiles"] and "ci" not in match["profiles"].split()
    ]


def passed_on() -> dict[str, str]:
    """Return the variables of the environment that say how mirrors are reached."""
    return {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}


@contextmanager
def prepared(*suites: str) -> Iterator[list[DebianSystem]]:
    """Yield systems of releases of Debian, which are built if they are not in the cache. They have
    the same homes, as a machine before and after an upgrade.
    """
    names = packages((CHECKOUT / "bindep.txt").read_text())
    roots = [built(suite, names) for suite in suites]
    # Some GiB are written: not to a file system in memory.
    work = Path(tempfile.mkdtemp(prefix="run-", dir=roots[0].parent))
    try:
        homes = work / "homes"
        homes.mkdir()
        systems = [DebianSystem(root, work / root.name, homes) for root in roots]
        for system in systems:
            system.work.mkdir()
        yield systems
    finally:
        delete(work)


def built(suite: str, names: Sequence[str]) -> Path:
    """Return the tree of a release with these packages."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "stockyard", "systems")
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        *("mmdebstrap", "--mode=unshare", "--variant=minbase", f"--include={','.join(names)}"),
        *('--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"'),
        *(f"--customize-hook={USER_HOOK}", "--format=tar", suite, "-", MIRROR),
    ]
    digest = hashlib.sha256("\n".join(command).encode()).hexdigest()[:12]
    target = cache / f"{suite}-{digest}"
    with (cache / f"{suite}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            unfinished = cache / f"unfinished-{suite}"
            delete(unfinished)
            unfinished.mkdir()
            _build(command, unfinished)
            unfinished.rename(target)
    return target


def _build(command: Sequence[str], target: Path) -> None:
    """Unpack the archive that mmdebstrap writes, as the owner of its files."""
    unpack = [*ROOTED, "tar", "--extract", f"--directory={target}", "--exclude=./dev/*"]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as build,
    ):
        try:
            subprocess.run(unpack, stdin=build.stdout, timeout=PATIENCE, check=True)
            result = build.wait(PATIENCE)
        finally:
            build.kill()
        log.seek(0)
        assert result == 0, log.read()[-4000:]


def delete(path: Path) -> None:
    """Delete a directory with files of other users of the system."""
    subprocess.run([*ROOTED, "rm", "-rf", "--one-file-system", path], check=True)
