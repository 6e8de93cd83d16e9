# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest image, as declared."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..errors import InvalidInput
from . import codec, naming
from .cloud_image import CloudImage
from .preload import Preload
from .repository import Repository, web_address

_USERINFO = re.compile(r"//[^/]*@")
SUITES = ("bookworm", "trixie")
DEFAULT_SUITE = "trixie"
# Programs that create the processes of containers for Docker.
RUNTIMES = ("runc", "crun")
DEFAULT_RUNTIME = "runc"
# Sources of Docker's packages: the Debian release, or Docker itself.
DEBIAN, DOCKER_CE = DOCKER_PACKAGES = ("debian", "docker-ce")
# Accounts of every image: those of Debian's base-passwd, of the packages in every image, and of
# stockyard's TLS front.
RESERVED_USERS = frozenset((
    "root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy",
    "www-data", "backup", "list", "irc", "gnats", "nobody", "_apt", "messagebus", "sshd",
    "stunnel4", "stockyard-tls", "systemd-network", "systemd-resolve", "systemd-timesync",
    "systemd-coredump", "polkitd",
))  # fmt: skip


@dataclass(frozen=True)
class ImageSpec:
    """The declaration of a guest image.

    :param suite: Debian release to build from.
    :param packages: Debian packages in addition to those of every host.
    :param ssh_user: login in the guest, with password-less sudo and the right to use Docker.
    :param files: extra files: absolute path in the guest to text, owned by root, mode 0644.
    :param disk_gib: virtual size of the disk in GiB; it is sparse.
    :param source: a machine of the hypervisor to clone instead of a build; it contains the agent.
    :param preload: images that its Docker contains before the freeze.
    :param commands: shell commands that root runs in the guest before the freeze, one after the
        other.
    :param cloud_image: a disk of this suite to start from, instead of packages only.
    :param runtime: the program with which its Docker runs containers by default.
    :param docker_packages: whose packages of Docker are installed: ``debian``, or ``docker-ce`` for
        Docker's own from a repository of the declaration.
    """

    suite: str = field(default=DEFAULT_SUITE, metadata={"choices": SUITES})
    packages: tuple[str, ...] = ()
    ssh_user: str = "stockyard"
    files: dict[str, str] | None = None
    disk_gib: int = 8
    source: str = ""
    preload: tuple[Preload, ...] = ()
    commands: tuple[str, ...] = ()
    cloud_image: CloudImage | None = None
    runtime: str = field(default=DEFAULT_RUNTIME, metadata={"choices": RUNTIMES, **codec.SPARSE})
    docker_packages: str = field(
        default=DEBIAN, metadata={"choices": DOCKER_PACKAGES, **codec.SPARSE}
    )

    def __post_init__(self) -> None:
        naming.check_choices(self)
        for item in self.packages:
            naming.package(item)
        naming.user(self.ssh_user)
        if self.ssh_user in RESERVED_USERS:
            raise InvalidInput(
                f"ssh_user cannot be {self.ssh_user}.",
                remedy="choose an ordinary user; the user gets sudo without a password",
            )
        naming.whole("disk_gib", self.disk_gib, 2, 2048)
        for path, text in (self.files or {}).items():
            guest_text(guest_path(path), text)
        naming.line("source", self.source)
        for text in self.commands:
            guest_text("commands", text)
        if self.source and self.cloud_image:
            raise InvalidInput(
                "source and cloud_image exclude each other.",
                remedy="declare only one of them",
            )
        additions = self.packages or self.files or self.preload or self.commands
        choices = self.runtime != DEFAULT_RUNTIME or self.docker_packages != DEBIAN
        if self.source and (additions or choices):
            raise InvalidInput(
                "source is a finished machine, to which packages, files, images, commands and a "
                "runtime cannot be added.",
                remedy="add them to another template, which is derived from this one, or omit "
                "source on a hypervisor that builds images",
            )


@dataclass(frozen=True)
class BuildOptions:
    """The origin of an image's packages; not part of its digest, which contains their versions.

    :param mirror: Debian mirror; empty for Debian's own, with its security updates.
    :param security_mirror: mirror of the security updates for a custom mirror; empty for none.
    :param proxy: HTTP proxy for the download; empty for none.
    :param preload: the origin of preloaded images.
    :param repositories: further repositories. apt takes the latest version of a package from any of
        them.
    :param cloud_image: the origin of the cloud image.
    """

    mirror: str = ""
    security_mirror: str = ""
    proxy: str = ""
    repositories: tuple[Repository, ...] = ()
    preload: tuple[Preload, ...] = ()
    cloud_image: CloudImage | None = field(default=None, metadata=codec.SPARSE)

    def __post_init__(self) -> None:
        urls = {"mirror": self.mirror, "security_mirror": self.security_mirror, "proxy": self.proxy}
        for option, value in urls.items():
            if naming.line(option, value, 1024):
                web_address(option, value)


def without_secrets(build: BuildOptions) -> BuildOptions:
    """Return the same mirrors without user names and passwords."""
    mirror, security, proxy = (
        _USERINFO.sub("//", url) for url in (build.mirror, build.security_mirror, build.proxy)
    )
    return BuildOptions(
        mirror,
        security,
        proxy,
        tuple(repository.without_secrets() for repository in build.repositories),
    )


def guest_path(value: object) -> str:
    """Check an absolute path inside the guest: printable, normal (no ``..``), not a directory."""
    text = naming.line("path in the guest", value)
    parts = text.split("/")
    if parts[0] or len(parts) < 2 or any(part in ("", ".", "..") for part in parts[1:]):
        raise InvalidInput(
            f"{naming.shown(value)} is not an absolute, normal file path.",
            remedy="write the path as /directory/file",
        )
    return text


def guest_text(path: str, value: object) -> str:
    """Check the content of a file in the guest: any text that UTF-8 can encode."""
    try:
        if isinstance(value, str) and value.encode() is not None:
            return value
    except UnicodeEncodeError:
        pass
    raise InvalidInput(
        f"{path}: {naming.shown(value)} is not text.", remedy="set the file's content as a string"
    )
