# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts: declaration, record and observation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidInput
from . import destinations, naming, network
from .codec import SPARSE
from .endpoint_record import EndpointRecord
from .fleet_terms import FleetTerms
from .lease import Lease
from .network import Publication, PublishSpec
from .size import Size
from .volume import VolumeUse, check_uses

MODES = ("instant", "linked", "full")
ENGINE_IDENTITIES = ("shared", "unique")
# The directions in which a host's size can change while it runs.
BOTH, UP = "both", "up"
HOST_PHASES = ("creating", "ready", "draining", "deleting")
# The largest number of hosts of a fleet.
FLEET_MAX = 10000
SSH_PORT = 2222
DOCKER_PORT = 2376
# The ports of SSH and Docker in a guest, by those of the host's own address.
GUEST_PORTS = {SSH_PORT: 22, DOCKER_PORT: 2376}
_RESERVED_PORTS = {SSH_PORT, DOCKER_PORT}
_HOST_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")
_KEY_TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-",
)


@dataclass(frozen=True)
class HostSpec:
    """The declaration of a host; a change of it replaces the host.

    :param fork_mode: ``instant``, ``linked`` or ``full``: the best mode to try first.
    :param ports: TCP ports of the guest that the hypervisor publishes on the host's address (for
        ``docker run -p``).
    :param bind: an address of the hypervisor on which ``ports`` are published instead. It does not
        apply to SSH and Docker.
    :param authorized_keys: OpenSSH public keys that can log in as the template's user.
    :param engine_identity: ``shared`` keeps the template's Docker engine ID, ``unique`` restarts
        dockerd for a new one.
    :param publish: an address of the hypervisor at which other machines reach SSH, Docker and
        ``ports``, each at a port that the hypervisor chooses; ``None`` if only the hypervisor
        reaches the host.
    :param egress: the destinations that the guest reaches: ``none``, ``proxy`` (``egress_proxy``
        and nothing else), ``open`` or ``allow`` (``egress_allow`` and nothing else).
    :param egress_proxy: ``host:port`` of an HTTP proxy, as the hypervisor reaches it.
    :param egress_allow: the destinations of ``allow``, or those in private ranges that ``open``
        adds, see :func:`.destinations.destination`.
    :param network: a libvirt network, or a port group, in which the host has an address; QEMU's
        user network if empty.
    :param pool: the pool of the host, of the same tenant; none if empty.
    :param container_ports: whether each TCP port that Docker publishes is forwarded from the host's
        address while its container runs.
    :param vcpus: virtual CPUs; those of its template if 0. Changed in place if possible.
    :param memory_mib: the same for RAM, in MiB.
    :param volumes: the data disks of the host that outlive it.
    """

    fork_mode: str = field(default="instant", metadata={"choices": MODES})
    ports: tuple[int, ...] = ()
    authorized_keys: tuple[str, ...] = ()
    engine_identity: str = field(default="shared", metadata={"choices": ENGINE_IDENTITIES})
    bind: str = ""
    egress: str = field(default="none", metadata={"choices": network.EGRESSES})
    egress_proxy: str = ""
    network: str = ""
    pool: str = ""
    vcpus: int = 0
    memory_mib: int = 0
    volumes: tuple[VolumeUse, ...] = ()
    egress_allow: tuple[str, ...] = field(default=(), metadata=SPARSE)
    publish: PublishSpec | None = field(default=None, metadata=SPARSE)
    container_ports: bool = field(default=False, metadata=SPARSE)

    def __post_init__(self) -> None:
        naming.check_choices(self)
        for port in self.ports:
            naming.whole("ports", port, 1, 65535)
            if port in _RESERVED_PORTS:
                remedy = f"choose ports other than {SSH_PORT} and {DOCKER_PORT}"
                raise InvalidInput(f"ports: {port} is used by the host itself.", remedy=remedy)
        if len(set(self.ports)) != len(self.ports):
            raise InvalidInput("ports: a port is declared twice.", remedy="declare each port once")
        for key in self.authorized_keys:
            public_key(key)
        if self.pool:
            naming.name("pool", self.pool)
        naming.whole("vcpus", self.vcpus, 0, 255)
        naming.whole("memory_mib", self.memory_mib, 0, 1 << 20)
        self._check_network()
        if self.container_ports:
            self._check_container_ports()
        check_uses(self.volumes)

    def _check_network(self) -> None:
        if self.egress_proxy:
            network.endpoint(self.egress_proxy)
        if (self.egress == "proxy") != bool(self.egress_proxy):
            remedy = "declare egress_proxy as host:port together with egress proxy, and only then"
            raise InvalidInput(
                f"egress {self.egress} and egress_proxy {self.egress_proxy!a} contradict each "
                "other.",
                remedy=remedy,
            )
        destinations.check(self.egress, self.egress_allow)
        if self.egress == "proxy" and network.PROXY_PORT in self.ports:
            raise InvalidInput(
                f"ports: {network.PROXY_PORT} is used for the proxy.", remedy="choose another port"
            )
        if self.bind:
            naming.address(self.bind)
        if self.network:
            network.network_name(self.network)
        if self.network and self.bind:
            raise InvalidInput(
                "bind: a host in a network has its own address.",
                remedy="omit bind or network",
            )
        if self.publish:
            self._check_publish(self.publish)

    def _check_container_ports(self) -> None:
        if self.network:
            raise InvalidInput(
                "container_ports: all ports of a host in a network are reachable at its own "
                "address.",
                remedy="omit container_ports or network",
            )
        if self.publish:
            raise InvalidInput(
                "container_ports: the ports are forwarded from the host's own address, which other "
                "machines cannot reach.",
                remedy="omit container_ports or publish",
            )

    def _check_publish(self, publish: PublishSpec) -> None:
        if self.network:
            raise InvalidInput(
                "publish: a host in a network has its own address there, which other machines can "
                "reach.",
                remedy="omit publish or network",
            )
        if self.bind:
            raise InvalidInput(
                "publish: the ports of a host have one address.", remedy="omit publish or bind"
            )
        if self.egress not in ("none", "proxy"):
            raise InvalidInput(
                f"publish: a host with egress {self.egress} sends its answers to other machines to "
                "its uplink.",
                remedy="use egress none or proxy, or omit publish",
            )
        if self.port_count > len(publish.range):
            raise InvalidInput(
                f"publish: {publish.ports} has {len(publish.range)} ports, and a host needs "
                f"{self.port_count}.",
                remedy="extend the range of ports",
            )

    @property
    def port_count(self) -> int:
        """Return the number of ports that a published host needs: of SSH, Docker and each declared
        port.
        """
        return 2 + len(self.ports)

    @property
    def publish_limit(self) -> int | None:
        """Return the number of hosts for which the range of ports is large enough; ``None`` for any
        number.
        """
        return len(self.publish.range) // self.port_count if self.publish else None


def public_key(value: Any) -> str:
    """Check one line of an ``authorized_keys`` file without options."""
    text = naming.line("authorized_keys", value, 16384)
    words = text.split()
    if len(words) < 2 or not words[0].startswith(_KEY_TYPES):
        raise InvalidInput(
            f"{naming.shown(value)} is not an OpenSSH public key.",
            remedy="set the text of a .pub file, one key in each line",
        )
    return text


@dataclass(frozen=True)
class Identity:
    """Everything that makes a host itself; public facts only.

    :param machine_id: systemd's machine ID.
    :param ssh_host_key: public half, as in ``known_hosts``.
    :param certificate: serial number of the server certificate, in hex.
    :param not_after: the end of that certificate, in seconds since the epoch.
    :param engine_id: Docker engine ID; empty if the engine was not asked.
    :param authority: fingerprint of the CA that signed the certificate and that the host trusts.
    :param revoked: serial numbers of the client certificates that the host refuses, each with its
        end.
    :param leasable: whether the host trusts the CA of its leases.
    :param key: digest of the certified key: a renewal certifies no other. Empty on hosts of earlier
        versions until their next renewal.
    """

    machine_id: str
    ssh_host_key: str
    certificate: str
    not_after: float
    engine_id: str = ""
    authority: str = ""
    revoked: dict[str, float] = field(default_factory=dict)
    leasable: bool = False
    key: str = field(default="", metadata=SPARSE)

    def __post_init__(self) -> None:
        naming.digest("machine_id", self.machine_id)
        host_key(self.ssh_host_key)
        naming.serial("certificate", self.certificate)
        naming.moment("not_after", self.not_after)
        naming.line("engine_id", self.engine_id)
        if self.authority:
            naming.digest("authority", self.authority)
        if self.key:
            naming.digest("key", self.key)
        for number, end in self.revoked.items():
            naming.moment(f"revoked {naming.serial('revoked', number)}", end)


def host_key(value: Any) -> str:
    """Check the public half of an SSH host key in the form that stockyard's guests create: type,
    base64, nothing else.

    It cannot contain a line break or a marker, so a line of known_hosts describes one host.
    """
    if not isinstance(value, str) or not _HOST_KEY.fullmatch(value):
        raise InvalidInput(
            f"{naming.shown(value)} is not an ed25519 host key.", remedy="replace the host"
        )
    return value


def known_host(key: str, *endpoints: tuple[str, int]) -> str:
    """Return a line of known_hosts for one machine.

    :param endpoints: the addresses and ports at which its SSH server answers.
    :raises InvalidInput: if an address or the key is anything else, such as another line.
    """
    patterns = [
        naming.address(address) if port == 22 else f"[{naming.address(address)}]:{port}"
        for address, port in endpoints
    ]
    return f"{','.join(patterns)} {host_key(key)}"


@dataclass(frozen=True)
class HostRecord:
    """The record of one host on the hypervisor.

    :param fleet: its fleet; empty for a host without a fleet.
    :param generation: the template generation that it was forked from.
    :param mode: the fork mode that was used; ``mode_reason`` says why it is not the declared one.
    :param phase: ``creating``, ``ready``, ``draining`` (no new leases, its work ends first) or
        ``deleting``.
    :param address: the address of SSH, Docker and published ports.
    :param created: seconds since the epoch.
    :param version: counts every change, for compare and set.
    :param expires: the end of its time to live, in seconds since the epoch; 0 for none.
    :param lease: its lease; a host that was leased once never gets another holder.
    :param size: its nominal size, which counts in its pool.
    :param template_size: the size that its template was frozen with: the smallest possible size.
    :param max_size: the largest size that it can get while it runs; 0 if nothing can be plugged in.
    :param encrypted: whether its volumes are encrypted.
    :param resize_mode: the directions in which its size can change while it runs: ``both``, or only
        ``up``.
    :param branch: the uuid of the branch that it was forked from; empty for a fork of a template.
    :param resuming: whether its resume from saved memory has begun and is not complete.
    :param idle: whether it is suspended because it was idle: a lease resumes it.
    :param shut_down: whether it was shut down in place of a suspension: a resume of its fleet or
        yard starts it.
    :param awake_since: the time of its last start or resume; 0 if there was none.
    :param containers: the facts of its containers, compressed, if an endpoint forked it for them.
    :param endpoint: the endpoint whose images it holds; ``None`` if it is no image host.
    :param fleet_max: the number of hosts up to which a waiting lease adds hosts to its fleet; 0 if
        no lease creates hosts.
    :param fleet_terms: the declared numbers of its fleet; ``None`` if it has no fleet, or a fleet
        with declared names.
    :param publish_ports: the ports at the address of ``spec.publish``: of SSH, Docker, and each of
        ``spec.ports``.
    """

    owner: str
    tenant: str
    fleet: str
    name: str
    uuid: str
    template: str
    generation: str
    spec: HostSpec
    ssh_user: str
    mac: str
    address: str
    phase: str
    created: float
    mode: str = ""
    mode_reason: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    identity: Identity | None = None
    version: int = 1
    expires: float = 0.0
    lease: Lease | None = None
    size: Size = field(default_factory=Size)
    template_size: Size = field(default_factory=Size)
    max_size: Size = field(default_factory=Size)
    encrypted: bool = False
    resize_mode: str = BOTH
    branch: str = field(default="", metadata=SPARSE)
    resuming: bool = field(default=False, metadata=SPARSE)
    idle: bool = field(default=False, metadata=SPARSE)
    shut_down: bool = field(default=False, metadata=SPARSE)
    awake_since: float = field(default=0.0, metadata=SPARSE)
    containers: str = field(default="", metadata=SPARSE)
    endpoint: EndpointRecord | None = field(default=None, metadata=SPARSE)
    fleet_max: int = field(default=0, metadata=SPARSE)
    fleet_terms: FleetTerms | None = field(default=None, metadata=SPARSE)
    publish_ports: tuple[int, ...] = field(default=(), metadata=SPARSE)

    kind = "host"

    def __post_init__(self) -> None:
        parts = {
            "owner": self.owner,
            "tenant": self.tenant,
            "host": self.name,
            "template": self.template,
        }
        for attribute, value in {**parts, **({"fleet": self.fleet} if self.fleet else {})}.items():
            naming.name(attribute, value)
        naming.identifier(self.uuid)
        naming.digest("generation", self.generation)
        naming.user(self.ssh_user)
        naming.mac(self.mac)
        naming.address(self.address)
        naming.choice("phase", self.phase, HOST_PHASES)
        naming.choice("mode", self.mode, ("", *MODES))
        naming.prose("mode_reason", self.mode_reason)
        naming.labels(self.labels)
        for attribute in ("created", "expires", "awake_since"):
            naming.moment(attribute, getattr(self, attribute))
        naming.whole("version", self.version, 0, naming.VERSION_MAX)
        naming.choice("resize_mode", self.resize_mode, (BOTH, UP))
        naming.line("containers", self.containers, 1 << 14)
        naming.whole("fleet_max", self.fleet_max, 0, FLEET_MAX)
        if self.branch:
            naming.identifier(self.branch)
        if self.publish_ports:
            self._check_publish_ports()

    def _check_publish_ports(self) -> None:
        for port in self.publish_ports:
            naming.whole("publish_ports", port, network.FIRST_PORT, network.LAST_PORT)
        if not self.spec.publish or len(set(self.publish_ports)) != self.spec.port_count:
            raise InvalidInput(
                f"publish_ports: {naming.shown(self.publish_ports)} are not the ports of a "
                "published host.",
                remedy="replace the host",
            )

    @property
    def publication(self) -> Publication | None:
        """Return the ports at which other machines reach it; ``None`` if it is not published."""
        if not self.spec.publish or not self.publish_ports:
            return None
        ssh_port, docker_port, *other_ports = self.publish_ports
        ports = {
            str(port): at_port for port, at_port in zip(self.spec.ports, other_ports, strict=True)
        }
        return Publication(self.spec.publish.address, ssh_port, docker_port, ports)

    @property
    def ssh_endpoint(self) -> tuple[str, int]:
        """Return the address and port at which users reach its SSH server."""
        publication = self.publication
        if publication:
            return publication.address, publication.ssh_port
        return self.address, self.ssh_port

    @property
    def docker_endpoint(self) -> tuple[str, int]:
        """Return the address and port at which users reach its Docker API."""
        publication = self.publication
        if publication:
            return publication.address, publication.docker_port
        return self.address, DOCKER_PORT

    @property
    def ssh_port(self) -> int:
        """Return the port of SSH: that of a forward, or the guest's own port if it has a network
        address.
        """
        return 22 if self.spec.network else SSH_PORT

    @property
    def known_host(self) -> str:
        """Return its line of known_hosts; empty before it has an identity."""
        if not self.identity:
            return ""
        endpoints = dict.fromkeys(((self.address, self.ssh_port), self.ssh_endpoint))
        return known_host(self.identity.ssh_host_key, *endpoints)

    @property
    def forwards(self) -> dict[tuple[str, int], int]:
        """Return the addresses and ports that the hypervisor publishes for it, each with the port
        in the guest, without those of SSH and Docker at its own address.
        """
        if self.spec.network:
            return {}
        forwards = {(self.spec.bind or self.address, port): port for port in self.spec.ports}
        if self.spec.publish:
            guest_ports = (*GUEST_PORTS.values(), *self.spec.ports)
            for port, guest_port in zip(self.publish_ports, guest_ports, strict=False):
                forwards[self.spec.publish.address, port] = guest_port
        return forwards

    @property
    def published(self) -> network.Published:
        """Return the addresses and ports that the hypervisor publishes for it, without those of SSH
        and Docker at its own address.
        """
        return frozenset(self.forwards)

    @property
    def answers_elsewhere(self) -> bool:
        """Return whether it publishes a port at another address than the loopback."""
        return any(not address.startswith("127.") for address, _port in self.published)

    @property
    def port_addresses(self) -> tuple[tuple[str, int], ...]:
        """Return the addresses and ports at which users reach its declared ports."""
        publication = self.publication
        if publication:
            return tuple((publication.address, port) for port in publication.ports.values())
        return tuple(sorted(self.published))

    @property
    def domain(self) -> str:
        """Return its name on the hypervisor."""
        return host_domain(self.owner, self.tenant, self.name)

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"host {self.name}"


def host_domain(owner: str, tenant: str, name: str) -> str:
    """Return the name of a host on the hypervisor."""
    return f"{owner}.{tenant}.{name}"


SUSPENDED = "suspended"
RUN_STATES = ("running", "paused", SUSPENDED, "off", "crashed")


@dataclass(frozen=True)
class Host:
    """A host as observed: its record and the state of its machine.

    :param state: ``running``, ``paused``, ``suspended`` (off, with its memory saved), ``off`` or
        ``crashed``.
    """

    record: HostRecord
    state: str

    @property
    def name(self) -> str:
        """Return its name."""
        return self.record.name

    @property
    def serving(self) -> bool:
        """Return whether it is complete and running."""
        return self.record.phase == "ready" and self.state == "running" and not self.record.resuming

    @property
    def suspended(self) -> bool:
        """Return whether it is complete and suspended, or in an unfinished resume."""
        return self.record.phase == "ready" and (self.state == SUSPENDED or self.record.resuming)

    @property
    def resumable(self) -> bool:
        """Return whether a resume of its fleet or yard concerns it: it is suspended, or was shut
        down in place of that.
        """
        was_shut_down = self.record.phase == "ready" and self.record.shut_down
        return self.suspended or (was_shut_down and self.state == "off")

    @property
    def asleep(self) -> bool:
        """Return whether it is suspended because it was idle."""
        return self.suspended and self.record.idle and not self.record.resuming
