# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's packages: the versions that a recipe gets today, and the root file system built from
them.

mmdebstrap and apt do the work, as an ordinary user (``--mode=unshare``, subordinate ids).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from ...clock import Deadline
from ...errors import ImageError
from ...guest.archive import write_tar
from ...model.image import BuildOptions
from ...model.recipe import Recipe
from .run import run

MIRROR = "http://deb.debian.org/debian"
SECURITY = "http://deb.debian.org/debian-security"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PROXY_FILE = "98proxy"
APT_PARTS = "/etc/apt/apt.conf.d"
# Documentation and translations: never read in a disposable host. The directories of manual pages
# stay: some packages, Java's among them, put links there.
LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*/?*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
)


def sources(suite: str, build: BuildOptions) -> list[str]:
    """Return the lines of a sources.list with Debian's own repositories."""
    main, security = (
        build.mirror or MIRROR,
        build.security_mirror or ("" if build.mirror else SECURITY),
    )
    lines = [f"deb [signed-by={KEYRING}] {main} {suite} main"]
    if not build.mirror:
        lines.append(f"deb [signed-by={KEYRING}] {main} {suite}-updates main")
    if security:
        lines.append(f"deb [signed-by={KEYRING}] {security} {suite}-security main")
    return lines


def write_sources(
    suite: str, build: BuildOptions, mirror_file: Path, repository_file: Path
) -> None:
    """Write the sources of apt.

    :param mirror_file: the file of Debian's own repositories.
    :param repository_file: the file of the other repositories and their keys, in another format.
    """
    mirror_file.write_text("\n".join(sources(suite, build)) + "\n")
    repository_file.write_text(
        "\n".join(repository.stanza(suite) for repository in build.repositories), encoding="ascii"
    )


def versions(
    recipe: Recipe, build: BuildOptions, work: Path, deadline: Deadline, name: str
) -> dict[str, str]:
    """Return the version of every package that an installation would get now.

    The installation is simulated by an apt with directories of its own.

    :raises ImageError: if a package does not exist, or the mirror cannot be read.
    """
    apt = _apt_options(recipe.suite, build, work)
    run(["apt-get", *apt, "update"], deadline, name=name, error=ImageError)
    packages = ["?priority(required)", "apt", *recipe.packages]
    package_versions = _simulate(apt, packages, deadline, name)
    if not package_versions:
        raise ImageError("apt resolved no packages.", name=name)
    return package_versions


def add(
    packages: Sequence[str],
    suite: str,
    build: BuildOptions,
    installed: str,
    work: Path,
    target: Path,
    deadline: Deadline,
    name: str,
) -> dict[str, str]:
    """Download packages and the dependencies that an installed system lacks; apt checks the
    mirror's signature. Return their versions.

    :param installed: the status file of the system's dpkg.
    :param work: an empty directory.
    :param target: the directory for the packages, which is created.
    :raises ImageError: if a package does not exist, or the mirror cannot be read.
    """
    apt = _apt_options(suite, build, work, installed)
    run(["apt-get", *apt, "update"], deadline, name=name, error=ImageError)
    package_versions = _simulate(apt, packages, deadline, name)
    run(
        ["apt-get", *apt, "--yes", "--download-only", "install", *packages],
        deadline,
        name=name,
        error=ImageError,
    )
    target.mkdir()
    for archive in sorted((work / "cache/archives").glob("*.deb")):
        archive.rename(target / archive.name)
    return package_versions


def _simulate(
    apt: list[str], packages: Sequence[str], deadline: Deadline, name: str
) -> dict[str, str]:
    """Return the version of each package that an installation would add or upgrade."""
    output = run(
        ["apt-get", *apt, "--simulate", "install", *packages], deadline, name=name, error=ImageError
    )
    package_versions = {}
    for line in output.splitlines():
        word, _space, details = line.partition(" ")
        if word == "Inst":
            package, version = details.split(" (", 1)
            package_versions[package.split()[0]] = version.split()[0]
    return package_versions


def _apt_options(suite: str, build: BuildOptions, work: Path, installed: str = "") -> list[str]:
    """Return the options of an apt with directories of its own.

    :param installed: the status file of the system that packages are installed in; empty for an
        empty system.
    """
    parts = ("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d")
    for folder in (*parts, "lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    write_sources(
        suite, build, work / "sources.list", work / "etc/apt/sources.list.d/others.sources"
    )
    (work / "status").write_text(installed, encoding="utf-8")
    settings: dict[str, object] = {
        "Dir::Etc": work / "etc/apt",
        "Dir::Etc::SourceList": work / "sources.list",
        "Dir::State::Lists": work / "lists",
        "Dir::State::Status": work / "status",
        "Dir::Cache": work / "cache",
        "APT::Install-Recommends": "false",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::Languages": "none",
        "Debug::NoLocking": "true",
        "APT::Update::Error-Mode": "any",
        "APT::Sandbox::User": "",
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    return [*options, "-c", str(_write_proxy(work, build.proxy))] if build.proxy else options


def _write_proxy(work: Path, proxy: str) -> Path:
    """Write apt's setting of a proxy to a private file: every user can read command lines, and the
    URL can contain a password.
    """
    path = work / PROXY_FILE
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f'Acquire::http::Proxy "{proxy}";\n')
    return path


def download(
    package_versions: dict[str, str],
    recipe: Recipe,
    build: BuildOptions,
    work: Path,
    target: Path,
    deadline: Deadline,
    name: str,
) -> None:
    """Create a repository of exactly these packages in a directory; apt checks the mirror's
    signature.

    :param work: an empty directory.
    """
    apt = _apt_options(recipe.suite, build, work)
    run(["apt-get", *apt, "update"], deadline, name=name, error=ImageError)
    pinned_packages = [f"{package}={version}" for package, version in package_versions.items()]
    run(
        ["apt-get", *apt, "--yes", "--download-only", "install", *pinned_packages],
        deadline,
        name=name,
        error=ImageError,
    )
    (work / "cache/archives").rename(target)
    # apt escapes the colon of an epoch in its cache, and a repository would escape it a second
    # time.
    packages = [
        archive.rename(archive.with_name(archive.name.replace("%3a", ".")))
        for archive in sorted(target.glob("*.deb"))
    ]
    stanzas = [_stanza(path, deadline, name) for path in packages]
    (target / "Packages").write_text("\n".join(stanzas))
    (target / "names").write_text("\n".join(sorted(package_versions)) + "\n")


def _stanza(path: Path, deadline: Deadline, name: str) -> str:
    """Return a package's paragraph in its repository's index; see deb(5) and sources.list(5)."""
    fields = run(["dpkg-deb", "--field", str(path)], deadline, name=name, error=ImageError)
    with path.open("rb") as handle:
        checksum = hashlib.file_digest(handle, "sha256").hexdigest()
    size = path.stat().st_size
    return f"{fields.rstrip()}\nFilename: ./{path.name}\nSize: {size}\nSHA256: {checksum}\n"


def bootstrap(
    recipe: Recipe, build: BuildOptions, work: Path, deadline: Deadline, name: str
) -> Path:
    """Create a tar archive of the root file system from packages; of stockyard's files it contains
    only the early ones.

    :param work: an empty directory; the archive stays in it.
    """
    write_tar(work / "early.tar", recipe.early)
    write_sources(recipe.suite, build, work / "sources.list", work / "others.sources")
    options = [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    options += ['--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    if build.proxy:
        # The file is only in the root file system while apt downloads.
        _write_proxy(work, build.proxy)
        options += [
            f"--setup-hook=copy-in {PROXY_FILE} {APT_PARTS}",
            f'--customize-hook=rm "$1"{APT_PARTS}/{PROXY_FILE}',
        ]
    run(
        [
            "mmdebstrap",
            "--mode=unshare",
            "--variant=minbase",
            f"--include={','.join(recipe.packages)}",
            *options,
            "--essential-hook=tar-in early.tar /",
            recipe.suite,
            "base.tar",
            "sources.list",
            *(["others.sources"] if build.repositories else []),
        ],
        deadline,
        name=name,
        error=ImageError,
        cwd=work,
    )
    return work / "base.tar"
