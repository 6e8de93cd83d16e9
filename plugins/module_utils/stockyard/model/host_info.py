# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a host."""

from __future__ import annotations

from dataclasses import dataclass

from .access_info import DockerAccess, SshAccess
from .info import Info
from .lease import Lease
from .size import Size
from .versions import MissingUpdate


@dataclass(frozen=True)
class HostIdentityInfo:
    """The public facts of a host's identity.

    :param machine_id: the machine ID of systemd.
    :param ssh_host_key: the public SSH host key, as in ``known_hosts``.
    :param certificate: the serial number of the server certificate, in hexadecimal digits.
    :param not_after: the end of that certificate, in seconds since the epoch.
    :param authority: the fingerprint of the CA that signed the certificate and that the host
        trusts.
    :param revoked: the client certificates that the host refuses, by serial number, each with its
        end in seconds since the epoch.
    :param engine_id: the Docker engine ID; empty if it was not read.
    """

    machine_id: str
    ssh_host_key: str
    certificate: str
    not_after: float
    authority: str
    revoked: dict[str, float]
    engine_id: str


@dataclass(frozen=True)
class MemoryUse:
    """The memory of the hypervisor that a host uses now.

    :param private_mib: the memory that belongs to this host alone, in MiB.
    :param shared_mib: the memory that belongs to the template, in MiB.
    :param oom_score: the score of the machine in the hypervisor's kernel. When memory runs out, the
        kernel ends the machine with the highest score first.
    """

    private_mib: float
    shared_mib: float
    oom_score: int


@dataclass(frozen=True)
class MountedVolume:
    """A volume that a host declares.

    :param name: the name of the volume.
    :param path: the path in the host at which the volume is mounted.
    """

    name: str
    path: str


@dataclass(frozen=True)
class RefusedDestination:
    """A destination that a host tried to reach and that its egress does not permit.

    :param destination: an address, or a name from a question of DNS, a TLS connection or a request
        of HTTP. ``(no name)`` stands for connections without a name, and ``(others)`` for all
        destinations beyond the first 256.
    :param protocol: ``dns``, ``tls``, ``http``, ``tcp``, ``udp`` or ``icmp``.
    :param port: the port; 0 for DNS and ICMP.
    :param count: the number of attempts, since the host was created.
    """

    destination: str
    protocol: str
    port: int
    count: int

    def __str__(self) -> str:
        port = f":{self.port}" if self.port else ""
        return f"{self.destination}{port} ({self.protocol}, {self.count} times)"


@dataclass(frozen=True, kw_only=True)
class HostInfo(Info):
    """A host.

    :param name: the host's name, which is also its hostname.
    :param uuid: the UUID of the host on the hypervisor.
    :param fleet: the fleet that the host belongs to. Empty for a single host.
    :param tenant: the tenant that the host belongs to.
    :param owner: the owner of the yard.
    :param template: the template that the host was forked from.
    :param generation: the generation of that template, as the first twelve digits of its digest.
    :param labels: the host's labels.
    :param state: the state of the host's machine: ``running``, ``paused``, ``suspended`` (off, with
        its memory saved), ``off`` or ``crashed``.
    :param phase: the phase of the host's record: ``creating``, ``ready``, ``draining`` or
        ``deleting``.
    :param ready: whether the host runs, has its identity and the right time, and waits for nothing.
    :param waits: the reason why the host runs but does not serve. Empty if it serves. A host with
        encrypted volumes that was started without the controller waits for the keys of its volumes;
        the next convergence of the host or its fleet sends the keys.
    :param drift: the reasons why the host's certificate must be renewed, or its clock must be set.
        Empty if both are right. A reason is that the host trusts another CA than the tenant's, that
        less than a third of the life of its certificate is left, that its list of revoked
        certificates is out of date, that its clock differs by more than 10 seconds, or that a
        process of its network has ended. The next convergence of the host or its fleet corrects
        these.
    :param missing_updates: the installed packages for which the mirror of the template offers a
        later version. Empty if the host is up to date, ``None`` if that is not known or was not
        requested. Packages whose later version was already available when the template was built
        are not listed.
    :param created: the time of creation, in seconds since the epoch.
    :param expires: the time at which the host expires, in seconds since the epoch. 0 if it does
        not expire.
    :param lease: the lease of the host, with its holder and its end. ``None`` if the host is not
        leased.
    :param mode: how the host was created: ``instant``, ``linked`` or ``full``.
    :param mode_reason: the reason for a mode other than the requested one. Empty if the modes are
        the same.
    :param fork_mode: the requested fork mode.
    :param engine_identity: whether the host shares the Docker engine ID of its template:
        ``shared`` or ``unique``.
    :param shared: the facts that all forks of one template share: some of ``boot_id``,
        ``dmi_uuid``, ``kaslr`` and ``docker_engine_id``.
    :param address: the address at which SSH, Docker and the published ports answer.
    :param mac: the MAC address of the host.
    :param ports: the published ports, without the ports of SSH and Docker.
    :param published: the addresses and ports of the hypervisor at which the published ports answer.
    :param egress: the destinations that the host can reach: ``none``, ``proxy``, ``open``
        or ``allow``.
    :param egress_proxy: the proxy that the host can reach, as ``host:port``. Empty if there is
        none.
    :param egress_allow: the destinations of egress ``allow``, or those that ``open`` adds, as they
        were declared.
    :param network: the libvirt network or the port group of the host. Empty for QEMU's user
        network.
    :param pool: the pool that the host is in. Empty if it is in none.
    :param size: the nominal size of the host, which counts against the quota of its pool.
    :param volumes: the volumes that the host declares.
    :param encrypted: whether the host's volumes are encrypted.
    :param identity: the public facts of the host's identity. ``None`` before the host has its
        identity.
    :param ssh_user: the user for SSH logins.
    :param ssh: the connection parameters for SSH.
    :param docker: the connection parameters for a Docker client.
    :param storage: the directory or datastore of the host's disk. With ``memory:///FILE`` the
        directory of the simulated hypervisor.
    :param memory: the memory of the hypervisor that the host uses now. ``None`` if the host is off
        or if the figures cannot be read. Only on libvirt.
    :param console_log: the file on the hypervisor with the log of the host's console. Only on
        libvirt.
    :param disk_layers: the number of layers that branches put under the host's disk. The chain is
        shortened before it has more than eight layers. Only on libvirt.
    :param refused: the destinations that the host tried to reach and that ``egress_allow`` does not
        contain. Recorded within 5 seconds, and absent with another egress than ``allow``. Only on
        libvirt.
    :param container_ports: the ports of containers that are forwarded now, if the option is set.
        Only on libvirt.
    :param esxi_host: the ESXi host that the machine runs on. Empty if the machine does not exist
        yet. Only on vSphere.
    :param cluster: the cluster of the machine. Only on vSphere.
    :param folder: the folder of the machine in vCenter. Only on vSphere.
    :param resource_pool: the resource pool of the hypervisor's URI. Empty for the cluster's own.
        Only on vSphere.
    """

    name: str
    uuid: str
    fleet: str
    tenant: str
    owner: str
    template: str
    generation: str
    labels: dict[str, str]
    state: str
    phase: str
    ready: bool
    waits: str
    drift: tuple[str, ...]
    missing_updates: tuple[MissingUpdate, ...] | None = None
    created: float
    expires: float
    lease: Lease | None
    mode: str
    mode_reason: str
    fork_mode: str
    engine_identity: str
    shared: tuple[str, ...]
    address: str
    mac: str
    ports: tuple[int, ...]
    published: tuple[str, ...]
    egress: str
    egress_proxy: str
    egress_allow: tuple[str, ...] = ()
    network: str
    pool: str
    size: Size
    volumes: tuple[MountedVolume, ...]
    encrypted: bool
    identity: HostIdentityInfo | None
    ssh_user: str
    ssh: SshAccess
    docker: DockerAccess
    storage: str
    memory: MemoryUse | None = None
    console_log: str | None = None
    disk_layers: int | None = None
    refused: tuple[RefusedDestination, ...] | None = None
    container_ports: tuple[int, ...] | None = None
    esxi_host: str | None = None
    cluster: str | None = None
    folder: str | None = None
    resource_pool: str | None = None
