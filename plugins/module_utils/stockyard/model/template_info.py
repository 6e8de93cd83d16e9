# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a template."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info
from .platform import Drift, Platform
from .repository import Repository
from .template import Hardware


@dataclass(frozen=True)
class TemplateSizes:
    """The disk space that a generation uses on the hypervisor.

    :param disk_mib: the disk, in MiB.
    :param ram_mib: the memory file, which is sparse, in MiB.
    :param state_mib: the device state, in MiB.
    :param image_mib: the image, in MiB. Other templates can share it.
    """

    disk_mib: float
    ram_mib: float
    state_mib: float
    image_mib: float


@dataclass(frozen=True)
class PackageMirrors:
    """The mirrors of a generation's packages, without user names and passwords.

    :param mirror: the Debian mirror. Empty for Debian's own.
    :param security_mirror: the mirror of the security updates. Empty for none, or for Debian's own.
    :param proxy: the HTTP proxy for the download. Empty for none.
    :param repositories: the additional repositories.
    """

    mirror: str
    security_mirror: str
    proxy: str
    repositories: tuple[Repository, ...]


@dataclass(frozen=True)
class PackageSource:
    """The origin of a generation's packages.

    :param suite: the Debian release.
    :param packages: the declared packages. Others are installed as their dependencies.
    :param build: the mirrors, without user names and passwords.
    """

    suite: str
    packages: tuple[str, ...]
    build: PackageMirrors


@dataclass(frozen=True, kw_only=True)
class TemplateInfo(Info):
    """A generation of a template.

    :param name: the template's name.
    :param uuid: the UUID of the generation on the hypervisor.
    :param tenant: the tenant that the template belongs to.
    :param owner: the owner of the yard.
    :param generation: the first twelve digits of the digest of image and hardware.
    :param phase: the phase of the generation's record: ``building``, ``booting``, ``frozen`` or
        ``deleting``.
    :param usable: whether hosts can be forked from this generation.
    :param problem: the reason why the generation cannot be used. Empty if it can.
    :param image: the SHA-256 digest of the image, including its package versions.
    :param hardware: the virtual hardware that was frozen.
    :param platform: the emulator and the processor that it was frozen with. ``None`` if they are
        not known.
    :param drift: the differences of the hypervisor's emulator and processor from the frozen ones.
    :param docker: whether dockerd ran when the template was frozen: ``running`` or ``stopped``.
    :param disk_gib: the virtual size of the disk, in GiB. 0 if it is not known.
    :param max_memory_mib: the memory that a running host can get, in MiB. 0 if it gets no more than
        at start.
    :param encrypted: whether the volumes of its hosts are encrypted.
    :param provision: the playbook or roles that ran before the freeze. Empty if there were none.
    :param from_host: the host that it was created from. Empty if it was built or derived.
    :param parent: the template that it was derived from. Empty if it was built completely.
    :param parent_generation: the first twelve digits of the parent's generation. Empty if it was
        built completely.
    :param source: the sources of the packages. ``None`` if they are not known.
    :param mac: the MAC address of the frozen machine, which no host has.
    :param ssh_user: the user for SSH logins in hosts.
    :param created: the time of creation, in seconds since the epoch.
    :param promoted: the time at which this generation became current again after later generations,
        in seconds since the epoch. 0 if that never happened.
    :param storage: the directory or datastore of the generation. With ``memory:///FILE`` the
        directory of the simulated hypervisor.
    :param sizes: the disk space that the generation uses on the hypervisor. Only on libvirt.
    :param console_log: the file on the hypervisor with the output of the template's kernel and
        services on the console. Only on libvirt.
    :param esxi_host: the ESXi host of the machine. Only on vSphere.
    :param cluster: the cluster of the machine. Only on vSphere.
    :param folder: the folder of the machine in vCenter. Only on vSphere.
    :param resource_pool: the resource pool of the hypervisor's URI. Empty for the cluster's own.
        Only on vSphere.
    """

    name: str
    uuid: str
    tenant: str
    owner: str
    generation: str
    phase: str
    usable: bool
    problem: str
    image: str
    hardware: Hardware
    platform: Platform | None
    drift: tuple[Drift, ...]
    docker: str
    disk_gib: int
    max_memory_mib: int
    encrypted: bool
    provision: str
    from_host: str
    parent: str
    parent_generation: str
    source: PackageSource | None
    mac: str
    ssh_user: str
    created: float
    promoted: float
    storage: str
    sizes: TemplateSizes | None = None
    console_log: str | None = None
    esxi_host: str | None = None
    cluster: str | None = None
    folder: str | None = None
    resource_pool: str | None = None
