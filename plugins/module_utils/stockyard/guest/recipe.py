# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image recipe: the packages and files of a container host. Pure; builds nothing.

Standard tools do the work in the guest: systemd starts services, stunnel ends TLS, OpenSSH serves
logins, and Docker is Debian's or Docker's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from ..errors import InvalidInput
from ..model import codec, daemon_json
from ..model.image import DEFAULT_RUNTIME, ImageSpec
from ..model.recipe import GuestFile, Recipe
from ..model.security import SecuritySpec, Settings
from ..model.template import TemplateSpec
from . import agent, cloud, port_files, security, small_runtime, texts
from .agent import (
    apply,
    disks,
    effects,
    engine,
    guestinfo,
    image_policy,
    key_wrap,
    limits,
    main,
    memory_trim,
    provision,
    units,
    volumes,
    warmup,
    way_out,
    wire,
)
from .docker_packages import choose
from .rendering import render

PACKAGES = (
    "systemd", "systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2", "e2fsprogs",
    "linux-image-cloud-amd64", "initramfs-tools", "zstd",
    "apparmor", "iptables", "ca-certificates", "openssh-server", "stunnel4", "sudo",
    "python3-minimal", "python3-cryptography", "qemu-guest-agent",
    # Ansible's own needs in a host: become_user of an unprivileged user, and the module apt.
    "acl", "python3-apt",
)  # fmt: skip
# A disposable host is rebuilt: nothing upgrades, indexes, trims or tidies in the background:
# each page that a host writes is no longer shared with its template.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer", "man-db.timer", "systemd-tmpfiles-clean.timer", "stunnel.target",
    "stunnel4.service", "getty@tty1.service", "serial-getty@ttyS0.service",
    # Each of these units costs a second of CPU under emulation, and no unit of a host needs it: the
    # kernel loads modules and file systems on demand.
    "modprobe@.service", "systemd-binfmt.service", "dev-hugepages.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
    # The image contains the results of these units, because dpkg installed its packages.
    "ldconfig.service", "systemd-journal-catalog-update.service",
    # Debian 13 keeps /tmp in RAM, of which a host has little.
    "tmp.mount",
)  # fmt: skip
# The version of the device layout and fork protocol, part of the digest. Increment it by hand when
# old templates do not match.
LAYOUT = 3
SSHD_SOURCES = "/etc/ssh/sshd_config.d/stockyard-sources.conf"


def recipe(spec: ImageSpec, docker: str = "running", profile: SecuritySpec | None = None) -> Recipe:
    """Return the recipe of an image.

    :param docker: ``stopped`` keeps dockerd from starting before the host has its identity.
    :param profile: security profile of the hosts; ``trusted`` if there is none.
    """
    settings = _settings(docker, profile or SecuritySpec())
    docker_packages = choose(spec.docker_packages, spec.suite)
    hardening = security.bundle(settings, spec.ssh_user, docker_packages)
    files = {
        **(_cloud_files() if spec.cloud_image else {}),
        **_system_files(spec.ssh_user),
        **({SSHD_SOURCES: GuestFile(texts.SSHD_SOURCES)} if spec.suite != "bookworm" else {}),
        **_docker_gate(docker),
        **_agent_files(),
        **_shutters(hardening),
        **_extra_files(spec, hardening),
    }
    base_packages = cloud.without_kernel(PACKAGES) if spec.cloud_image else PACKAGES
    return Recipe(
        suite=spec.suite,
        packages=tuple(
            sorted(
                {
                    *base_packages,
                    *spec.packages,
                    *docker_packages.names,
                    *_runtime_packages(spec.runtime),
                    *hardening.packages,
                }
            )
        ),
        early=cloud.seed(spec.suite) if spec.cloud_image else _initramfs(),
        files=_with_runtime(
            port_files.with_proxy(files, settings), spec.runtime, settings.limits.container_pids
        ),
        disk_gib=spec.disk_gib,
        source=spec.source,
        preload=tuple((item.kind, item.name, item.digest) for item in spec.preload),
        cloud_image=spec.cloud_image.checksum if spec.cloud_image else "",
    )


def _settings(docker: str, profile: SecuritySpec) -> Settings:
    """Return the settings of a security profile. If Docker waits for a volume, that volume is
    Docker's file system, so there is no limit on the disk.
    """
    settings = profile.settings()
    return (
        settings
        if docker == "running"
        else replace(settings, limits=replace(settings.limits, disk_percent=0))
    )


def template_digest(spec: TemplateSpec, image: str) -> str:
    """Return the digest that names a template's generation: of the image and of all that a fork
    must match.

    :param image: digest of the image, or of the recipe if the declaration's packages were not
        resolved.
    """
    facts = {"image": image, "hardware": spec.hardware, "docker": spec.docker, "layout": LAYOUT}
    # Absent if there is no maximum: templates that are older than this option keep their names.
    slots = {"max_memory_mib": spec.max_memory_mib} if spec.max_memory_mib else {}
    provision_sum = {"provision": spec.provision.sum} if spec.provision else {}
    return codec.digest(facts | slots | provision_sum)


@dataclass(frozen=True)
class RenderedTemplate:
    """A declared template with its recipe: each operation renders the recipe once.

    :param digest: the digest of the declaration alone. The same text gives the same digest; the
        packages that exist do not matter.
    :param options: the digest of its options alone: see :func:`options_digest`.
    """

    spec: TemplateSpec
    recipe: Recipe
    digest: str
    options: str


def rendered(spec: TemplateSpec) -> RenderedTemplate:
    """Return a declared template with its recipe."""
    image_recipe = recipe(spec.image, spec.docker, spec.security)
    digest = template_digest(spec, codec.digest(image_recipe))
    return RenderedTemplate(spec, image_recipe, digest, options_digest(spec))


def declared_digest(spec: TemplateSpec) -> str:
    """Return the digest of the declaration alone: see :class:`RenderedTemplate`."""
    return rendered(spec).digest


def options_digest(spec: TemplateSpec) -> str:
    """Return the digest of the declaration's options alone. If it stays the same and the digest of
    the declaration does not, then stockyard's own files in the guest changed.
    """
    image = replace(spec.image, preload=())
    preload = [(item.kind, item.name, item.digest) for item in spec.image.preload]
    security_options = codec.to_dict(spec.security)
    return template_digest(
        spec, codec.digest({"image": image, "preload": preload, "security": security_options})
    )


def _runtime_packages(runtime: str) -> tuple[str, ...]:
    """Return the package of a runtime that Docker's package does not need."""
    return () if runtime == DEFAULT_RUNTIME else (runtime,)


def _with_runtime(
    files: dict[str, GuestFile], runtime: str, container_pids: int
) -> dict[str, GuestFile]:
    """Return the files of an image whose dockerd has this default runtime. A default runtime in the
    declared ``daemon.json`` stays.
    """
    if runtime == DEFAULT_RUNTIME:
        return files
    own_runtimes = {runtime: {"path": small_runtime.RUNTIME}}
    changed_files = small_runtime.files(container_pids)
    for path in (security.daemon.PATH, security.daemon.ROOTLESS):
        if path in files:
            declared_keys = daemon_json.parse(files[path].text, path)
            runtimes = {**own_runtimes, **(declared_keys.get("runtimes") or {})}
            keys = {"default-runtime": runtime, **declared_keys, "runtimes": runtimes}
            text = json.dumps(keys, indent=2, sort_keys=True) + "\n"
            changed_files[path] = replace(files[path], text=text)
    return files | changed_files


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
    unit_folder = "/etc/systemd/system/"
    files = {
        unit_folder + "stockyard-agent.service": GuestFile(texts.AGENT_UNIT),
        **{unit_folder + front: GuestFile(texts.TLS_UNIT) for front in units.FRONTS},
        unit_folder + effects.WAY_OUT_UNIT: GuestFile(texts.WAY_OUT_UNIT),
        "/etc/stockyard/stunnel.conf": GuestFile(texts.STUNNEL_CONF),
        "/etc/sysusers.d/stockyard.conf": GuestFile(render(texts.SYSUSERS, user=user)),
        "/etc/tmpfiles.d/stockyard.conf": GuestFile(render(texts.TMPFILES, user=user)),
        "/etc/systemd/system.conf.d/stockyard.conf": GuestFile(texts.SYSTEM_CONF),
        "/etc/udev/rules.d/80-stockyard.rules": GuestFile(texts.HOTPLUG_RULES),
        "/etc/sudoers.d/stockyard": GuestFile(render(texts.SUDOERS, user=user), 0o440),
        "/etc/ssh/sshd_config.d/stockyard.conf": GuestFile(render(texts.SSHD_CONF, user=user)),
        unit_folder + "ssh.socket.d/stockyard.conf": GuestFile(texts.SSH_SOCKET),
        unit_folder + "ssh.service.d/stockyard.conf": GuestFile(texts.SSH_SERVICE),
        "/etc/sysctl.d/60-stockyard-inotify.conf": GuestFile(texts.INOTIFY_SYSCTL),
        "/etc/systemd/journald.conf.d/stockyard.conf": GuestFile(texts.JOURNALD_CONF),
        unit_folder + "docker.service.d/environment.conf": GuestFile(texts.DOCKER_ENVIRONMENT),
        "/etc/containerd/config.toml": GuestFile(texts.CONTAINERD_CONFIG),
        security.daemon.PATH: GuestFile(json.dumps(security.daemon.BASE) + "\n"),
        "/etc/resolv.conf": GuestFile(texts.RESOLV_CONF),
        "/etc/machine-id": GuestFile(""),
        # Without this file PAM prints errors on the console.
        "/etc/default/locale": GuestFile(""),
        "/etc/hostname": GuestFile("template\n"),
    }
    wants = unit_folder + "multi-user.target.wants/"
    links = {
        wants + "stockyard-agent.service": unit_folder + "stockyard-agent.service",
        wants + effects.WAY_OUT_UNIT: unit_folder + effects.WAY_OUT_UNIT,
        **{wants + front: unit_folder + front for front in units.FRONTS},
        **{unit_folder + name: "/dev/null" for name in MASKED},
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
    open_path = f"{units}/stockyard-open.path"
    link = GuestFile(open_path, LINK)
    return {
        **gates,
        open_path: GuestFile(texts.OPEN_PATH),
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
        "limits": limits,
        "guestinfo": guestinfo,
        "image_policy": image_policy,
        "key_wrap": key_wrap,
        "main": main,
        "provision": provision,
        "memory_trim": memory_trim,
        "units": units,
        "volumes": volumes,
        "warmup": warmup,
        "way_out": way_out,
        "wire": wire,
    }
    return {
        f"/usr/lib/stockyard/stockyard_agent/{name}.py": GuestFile(_source(module))
        for name, module in modules.items()
    }


def _shutters(hardening: security.Bundle) -> dict[str, GuestFile]:
    """Return the files of the security profile, and the links that enable and mask its units."""
    unit_folder = "/etc/systemd/system/"
    wants = {
        f"{unit_folder}{_target(hardening.files[unit_folder + name].text)}.wants/{name}": GuestFile(
            unit_folder + name, LINK
        )
        for name in hardening.enable
    }
    return {
        **hardening.files,
        **wants,
        **{unit_folder + name: GuestFile("/dev/null", LINK) for name in hardening.masked},
    }


def _target(text: str) -> str:
    """Return the target that a unit names in ``WantedBy=``."""
    return text.split("WantedBy=", 1)[1].split(maxsplit=1)[0]


def _extra_files(spec: ImageSpec, hardening: security.Bundle) -> dict[str, GuestFile]:
    files = {path: GuestFile(text) for path, text in (spec.files or {}).items()}
    if conflicts := sorted(files.keys() & hardening.files.keys()):
        raise InvalidInput(
            f"files: {conflicts[0]} is a part of the security profile.",
            remedy="change the setting in security, or add a separate file",
        )
    if daemon_json.PATH in files:
        daemon_json.check_file(files[daemon_json.PATH].text)
    if spec.commands:
        files[f"/{provision.COMMANDS}"] = GuestFile("\n".join(spec.commands) + "\n", 0o700)
    return files


def _source(module: ModuleType) -> str:
    """Return a module's text, also from the zip file that Ansible transfers modules in."""
    loader: Any = module.__loader__
    return str(loader.get_source(module.__name__))
