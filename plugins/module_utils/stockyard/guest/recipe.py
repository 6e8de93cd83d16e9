# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image recipe: which packages and which files make a container host. Pure; builds nothing.

Kept tools do the work in the guest: systemd starts things, stunnel ends TLS, OpenSSH lets users in,
Docker is Debian's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import ModuleType
from typing import Any

from ..errors import InvalidInput
from ..model import codec, daemon_json
from ..model.image import ImageSpec
from ..model.recipe import GuestFile, Recipe
from ..model.security import SecuritySpec, Settings
from ..model.template import TemplateSpec
from . import agent, cloud, security, texts
from .agent import (
    apply,
    disks,
    effects,
    engine,
    growth,
    guestinfo,
    lift,
    main,
    provision,
    thrift,
    units,
    volumes,
    warmup,
    wire,
)
from .rendering import render

PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2", "e2fsprogs",
    "linux-image-cloud-amd64", "initramfs-tools", "zstd",
    "docker.io", "apparmor", "iptables", "ca-certificates", "openssh-server", "stunnel4", "sudo",
    "python3-minimal", "python3-cryptography", "qemu-guest-agent",
    # Ansible's own needs in a host: become_user of an unprivileged user, and the module apt.
    "acl", "python3-apt",
)  # fmt: skip
# Nothing in a disposable host is upgraded, indexed or trimmed in the background: it is rebuilt.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer", "man-db.timer", "stunnel.target", "stunnel4.service", "getty@tty1.service",
    "serial-getty@ttyS0.service",
    # Each costs a second of CPU under emulation, and nothing here asks for it: what needs one of
    # these modules or file systems has the kernel load it.
    "modprobe@.service", "systemd-binfmt.service", "dev-hugepages.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
    # What these make is in the image already, as its packages were installed the usual way.
    "ldconfig.service", "systemd-journal-catalog-update.service",
    # Debian 13 keeps /tmp in RAM, of which a host has little.
    "tmp.mount",
)  # fmt: skip
# A device layout or a fork protocol that old templates do not have: counted up by hand, part of the
# digest.
LAYOUT = 2
SSHD_SOURCES = "/etc/ssh/sshd_config.d/stockyard-sources.conf"


def recipe(spec: ImageSpec, docker: str = "running", shut: SecuritySpec | None = None) -> Recipe:
    """Everything that goes into the image.

    :param docker: ``stopped`` keeps dockerd from starting before the host has its identity.
    :param shut: how well its hosts are shut.
    """
    shutters = security.bundle(_settings(docker, shut or SecuritySpec()), spec.ssh_user)
    own = cloud.without_kernel(PACKAGES) if spec.cloud_image else PACKAGES
    return Recipe(
        suite=spec.suite,
        packages=tuple(
            sorted({*own, *spec.packages, *_docker_cli(spec.suite), *shutters.packages})
        ),
        early=cloud.seed(spec.suite) if spec.cloud_image else _initramfs(),
        files={
            **(_cloud_files() if spec.cloud_image else {}),
            **_system_files(spec.ssh_user),
            **({SSHD_SOURCES: GuestFile(texts.SSHD_SOURCES)} if spec.suite != "bookworm" else {}),
            **_docker_gate(docker),
            **_agent_files(),
            **_shutters(shutters),
            **_extra_files(spec, shutters),
        },
        disk_gib=spec.disk_gib,
        source=spec.source,
        preload=tuple((item.kind, item.name, item.digest) for item in spec.preload),
        cloud_image=spec.cloud_image.checksum if spec.cloud_image else "",
    )


def _settings(docker: str, shut: SecuritySpec) -> Settings:
    """A Docker that waits for a volume has that as a file system of its own."""
    found = shut.settings()
    return (
        found
        if docker == "running"
        else replace(found, limits=replace(found.limits, disk_percent=0))
    )


def template_digest(spec: TemplateSpec, image: str) -> str:
    """What names a template's generation: the image plus all that a fork has to match.

    :param image: the image's digest, or the recipe's for a declaration whose packages were not
        resolved.
    """
    made = {"image": image, "hardware": spec.hardware, "docker": spec.docker, "layout": LAYOUT}
    # Left out where there is none: templates from before it keep their names.
    slots = {"max_memory_mib": spec.max_memory_mib} if spec.max_memory_mib else {}
    given = {"provision": spec.provision.sum} if spec.provision else {}
    return codec.digest(made | slots | given)


def declared_digest(spec: TemplateSpec) -> str:
    """The digest of the declaration alone: the same text gives the same digest, whatever packages
    exist.
    """
    return template_digest(spec, codec.digest(recipe(spec.image, spec.docker, spec.security)))


def _docker_cli(suite: str) -> tuple[str, ...]:
    """Debian 13 split Docker's client from the daemon's package."""
    return () if suite == "bookworm" else ("docker-cli",)


def _initramfs() -> dict[str, GuestFile]:
    return {
        "/etc/initramfs-tools/conf.d/stockyard": GuestFile(texts.INITRAMFS_CONF),
        "/etc/initramfs-tools/hooks/stockyard": GuestFile(texts.INITRAMFS_HOOK, 0o755),
    }


def _cloud_files() -> dict[str, GuestFile]:
    masked = {f"/etc/systemd/system/{name}": GuestFile("/dev/null", LINK) for name in cloud.MASKED}
    return {
        **{path: GuestFile(target, LINK) for path, target in cloud.LINKS.items()},
        **masked,
        **cloud.FILES,
    }


def _system_files(user: str) -> dict[str, GuestFile]:
    unit = "/etc/systemd/system/"
    files = {
        unit + "stockyard-agent.service": GuestFile(texts.AGENT_UNIT),
        unit + "stockyard-tls.service": GuestFile(texts.TLS_UNIT),
        "/etc/stockyard/stunnel.conf": GuestFile(texts.STUNNEL_CONF),
        "/etc/sysusers.d/stockyard.conf": GuestFile(render(texts.SYSUSERS, user=user)),
        "/etc/tmpfiles.d/stockyard.conf": GuestFile(render(texts.TMPFILES, user=user)),
        "/etc/systemd/system.conf.d/stockyard.conf": GuestFile(texts.SYSTEM_CONF),
        "/etc/udev/rules.d/80-stockyard.rules": GuestFile(texts.HOTPLUG_RULES),
        "/etc/sudoers.d/stockyard": GuestFile(render(texts.SUDOERS, user=user), 0o440),
        "/etc/ssh/sshd_config.d/stockyard.conf": GuestFile(render(texts.SSHD_CONF, user=user)),
        unit + "ssh.socket.d/stockyard.conf": GuestFile(texts.SSH_SOCKET),
        "/etc/systemd/journald.conf.d/stockyard.conf": GuestFile(texts.JOURNALD_CONF),
        unit + "docker.service.d/environment.conf": GuestFile(texts.DOCKER_ENVIRONMENT),
        "/etc/containerd/config.toml": GuestFile(texts.CONTAINERD_CONFIG),
        security.daemon.PATH: GuestFile(json.dumps(security.daemon.BASE) + "\n"),
        "/etc/resolv.conf": GuestFile(texts.RESOLV_CONF),
        "/etc/machine-id": GuestFile(""),
        # PAM complains on the console when it is not there.
        "/etc/default/locale": GuestFile(""),
        "/etc/hostname": GuestFile("template\n"),
    }
    wants = unit + "multi-user.target.wants/"
    links = {
        wants + "stockyard-agent.service": unit + "stockyard-agent.service",
        wants + "stockyard-tls.service": unit + "stockyard-tls.service",
        **{unit + name: "/dev/null" for name in MASKED},
        # Debian 13 would listen for SSH on sockets of other kinds too.
        "/etc/systemd/system-generators/systemd-ssh-generator": "/dev/null",
    }
    return files | {path: GuestFile(target, LINK) for path, target in links.items()}


def _docker_gate(docker: str) -> dict[str, GuestFile]:
    if docker == "running":
        return {}
    units = "/etc/systemd/system"
    gates = {
        f"{units}/{name}.d/stockyard.conf": GuestFile(
            render(texts.DOCKER_GATE, root=volumes.DOCKER_ROOT, flag=volumes.NOT_MOUNTED)
        )
        for name in ("docker.service", "docker.socket")
    }
    opener = f"{units}/stockyard-open.path"
    link = GuestFile(opener, LINK)
    return {
        **gates,
        opener: GuestFile(texts.OPEN_PATH),
        f"{units}/stockyard-open.service": GuestFile(texts.OPEN_UNIT),
        f"{units}/multi-user.target.wants/stockyard-open.path": link,
    }


# The mode of a GuestFile whose text is the target of a symbolic link.
LINK = 0o120777


def _agent_files() -> dict[str, GuestFile]:
    modules = {
        "__init__": agent,
        "apply": apply,
        "disks": disks,
        "effects": effects,
        "engine": engine,
        "growth": growth,
        "guestinfo": guestinfo,
        "lift": lift,
        "main": main,
        "provision": provision,
        "thrift": thrift,
        "units": units,
        "volumes": volumes,
        "warmup": warmup,
        "wire": wire,
    }
    return {
        f"/usr/lib/stockyard/stockyard_agent/{name}.py": GuestFile(_source(m))
        for name, m in modules.items()
    }


def _shutters(found: security.Bundle) -> dict[str, GuestFile]:
    """The files of the security profile, and links to the units of it."""
    unit = "/etc/systemd/system/"
    wants = {
        f"{unit}{_target(found.files[unit + name].text)}.wants/{name}": GuestFile(unit + name, LINK)
        for name in found.enable
    }
    return {
        **found.files,
        **wants,
        **{unit + name: GuestFile("/dev/null", LINK) for name in found.masked},
    }


def _target(text: str) -> str:
    """What wants a unit, by its own words."""
    return text.split("WantedBy=", 1)[1].split(maxsplit=1)[0]


def _extra_files(spec: ImageSpec, shutters: security.Bundle) -> dict[str, GuestFile]:
    files = {path: GuestFile(text) for path, text in (spec.files or {}).items()}
    if taken := sorted(files.keys() & shutters.files.keys()):
        raise InvalidInput(
            f"files: {taken[0]} is a part of the security profile.",
            remedy="say under security what is to be otherwise, or put a file beside it",
        )
    if daemon_json.PATH in files:
        daemon_json.check_file(files[daemon_json.PATH].text)
    if spec.commands:
        files[f"/{provision.COMMANDS}"] = GuestFile("\n".join(spec.commands) + "\n", 0o700)
    return files


def _source(module: ModuleType) -> str:
    """A module's text, also out of the zip file in which Ansible carries it."""
    loader: Any = module.__loader__
    return str(loader.get_source(module.__name__))
