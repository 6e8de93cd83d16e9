# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The typed client of a guest's agent, with a method for each operation.

A guest can be hostile: each reply is validated, and each method returns only values of the expected
type and size. Agents of older templates get the names of operations that they know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from ..clock import Deadline
from ..errors import GuestError, InvalidInput, StockyardError, Unsupported
from ..hypervisor.provider import Channel
from ..model import host, untrusted
from ..model.network import GuestNetwork
from ..model.untrusted import MalformedData
from . import replies
from .agent import key_wrap
from .operations import NEEDED, OPERATIONS

REBUILD = "rebuild the template and replace the host"
# Limits of replies, in characters and items.
SHORT, PATH, CSR = 64, 200, 16384
MOST_PATHS, MOST_FAILURES, MOST_STEPS, MOST_SOURCES = 16, 20, 64, 16
# QEMU's ring of a virtio port has 128 buffers, and Linux makes each one page long. A message fills
# 62 of them and begins another one, which the next round fills.
FILL_MESSAGES, FILL_BYTES = 8, 62 * 4096


@dataclass(frozen=True)
class Hello:
    """The status of a guest.

    :param agent: version of the agent.
    :param uuid: uuid of the host that its disk belongs to; empty for none.
    :param missing: paths at which volumes are not mounted.
    :param ahead: seconds that its clock is ahead of the controller's; ``None`` if not reported.
    :param keys_remain: whether its free memory can contain keys of volumes that are locked.
    """

    agent: int
    uuid: str
    missing: tuple[str, ...] = ()
    ahead: float | None = None
    keys_remain: bool = False


@dataclass(frozen=True)
class RandomDraws:
    """New random bytes of a guest.

    :param by_source: bytes in hex, by the generator that they are from.
    """

    by_source: Mapping[str, str]


@dataclass(frozen=True)
class TemplateSsh:
    """SSH access to a template.

    :param host_key: public half of its SSH host key.
    """

    host_key: str


@dataclass(frozen=True)
class IdentityRequest:
    """Everything that makes a fork a host of its own.

    :param entropy: random bytes in base64.
    :param time: seconds since the epoch.
    :param proxy: URL of the HTTP proxy in the guest; empty for none.
    """

    entropy: str
    time: float
    uuid: str
    hostname: str
    machine_id: str
    network: GuestNetwork
    mac: str
    authorized_keys: tuple[str, ...]
    engine_identity: str
    proxy: str = ""


@dataclass(frozen=True)
class NewIdentity:
    """Public facts of the identity that a guest created.

    :param csr: certificate request as PEM; not validated further.
    :param mac: MAC address after it was set.
    :param audit: completed steps in their order.
    """

    ssh_host_key: str
    csr: str
    mac: str
    audit: tuple[str, ...] = ()


@dataclass(frozen=True)
class CertificateRequest:
    """A certificate request for the key of a guest.

    :param pem: the request as PEM; not validated further.
    """

    pem: str


@dataclass(frozen=True)
class ServerCertificate:
    """Certificate files of a guest, as PEM.

    :param ca: certificates of the authorities that it trusts.
    :param crl: lists of revoked certificates, one of each authority.
    """

    ca: str
    certificate: str
    crl: str


@dataclass(frozen=True)
class VolumeContent:
    """The content of a volume.

    :param kind: ``blank``, ``ext4``, ``luks`` or ``unknown``.
    """

    kind: str


@dataclass(frozen=True)
class MountedVolume:
    """A mounted volume.

    :param grown: whether its file system grew.
    """

    grown: bool


@dataclass(frozen=True)
class UnitFailures:
    """Failed units of a guest.

    :param lines: a line for each unit, with the end of its log.
    """

    lines: tuple[str, ...]


@dataclass(frozen=True)
class DockerProbe:
    """The answer of dockerd in a guest to its agent.

    :param cause: the error if it does not answer.
    """

    answers: bool
    cause: str


class Guest:
    """The agent of one guest. A ``with`` block closes the channel at its end.

    :param channel: channel to the agent.
    :param title: host or template, as messages name it.
    :param deadline: limit of each operation.
    :param version: version of the agent if it is known, otherwise 0.
    """

    def __init__(
        self, channel: Channel, title: str, deadline: Deadline, *, version: int = 0
    ) -> None:
        self.title = title
        self.deadline = deadline
        self._channel = channel
        self._version = version

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def within(self, deadline: Deadline) -> Guest:
        """Return a client of the same channel with another deadline."""
        return Guest(self._channel, self.title, deadline, version=self._version)

    @property
    def version(self) -> int:
        """Return the version of the agent, and ask for it if no answer contained it yet."""
        return self._version or self.hello().agent

    def supports(self, purpose: str) -> bool:
        """Return whether the agent can do what a purpose needs, such as ``encrypted volumes``."""
        return self.version >= NEEDED[purpose]

    def require(self, purpose: str) -> None:
        """Refuse an agent that is too old for a purpose, such as ``encrypted volumes``.

        :raises Unsupported: with the remedy.
        """
        if not self.supports(purpose):
            raise Unsupported(
                f"the host's agent is too old for {purpose}.",
                name=self.title,
                cause=f"the agent has version {self.version}, and version {NEEDED[purpose]} is "
                f"required",
                remedy=REBUILD,
            )

    def hello(self, time: float | None = None) -> Hello:
        """Return the status of the guest.

        :param time: current time, for a comparison with the clock of the guest.
        """
        reply = self._request("hello", **({} if time is None else {"time": time}))
        with self._validated("hello"):
            missing = untrusted.items(reply.get("missing", []), "missing")
            return Hello(
                agent=untrusted.whole(untrusted.item(reply, "agent", "the reply"), "agent", 1),
                uuid=untrusted.line(untrusted.item(reply, "uuid", "the reply"), "uuid", SHORT),
                missing=tuple(
                    untrusted.words(path, "a path", PATH) for path in missing[:MOST_PATHS]
                ),
                ahead=untrusted.number(reply["ahead"], "ahead") if "ahead" in reply else None,
                keys_remain=untrusted.flag(reply.get("keys_remain", False), "keys_remain"),
            )

    def draw(self) -> RandomDraws:
        """Return new random bytes of each generator in the guest."""
        reply = self._request("draw")
        with self._validated("draw"):
            sources = [name for name in reply if name not in ("agent", "id", "ok")]
            untrusted.items(sources, "the sources", MOST_SOURCES)
            return RandomDraws(
                {
                    untrusted.line(name, "a source", SHORT): untrusted.line(reply[name], name)
                    for name in sources
                }
            )

    def prepare(self, *, docker: bool) -> None:
        """Wait for dockerd in a template, load images and run the user's commands."""
        self._request("prepare", timeout=self.deadline.left(), docker=docker)

    def enable_ssh(
        self, network: GuestNetwork, mac: str, authorized_keys: tuple[str, ...]
    ) -> TemplateSsh:
        """Enable SSH logins in a template."""
        reply = self._request(
            "enable-ssh", network=_network(network, mac), authorized_keys=list(authorized_keys)
        )
        return TemplateSsh(self._host_key(reply))

    def disable_ssh(self, network: GuestNetwork, mac: str, user: str) -> None:
        """Disable SSH logins in a template, and delete its keys."""
        self._request("disable-ssh", network=_network(network, mac), user=user)

    def warm_up(self, *, docker: bool, sparse: bool, derived: bool = False) -> None:
        """Complete the preparation of a template and rehearse an identity.

        :param sparse: whether to release memory that forks do not need.
        :param derived: whether the template is a fork of a rehearsed one. The agent rehearses it
            only if necessary; agents of earlier templates always do.
        """
        fields: dict[str, Any] = {"docker": docker, "sparse": sparse}
        if derived:
            fields["derived"] = True
        self._request("warm-up", timeout=self.deadline.left(), **fields)

    def freeze(self) -> None:
        """Freeze the machine; the next request is answered by forks only."""
        self._request("freeze")

    def identify(self, request: IdentityRequest) -> NewIdentity:
        """Give a fork an identity; return the public halves of its keys."""
        fields = {**asdict(request), "authorized_keys": list(request.authorized_keys)}
        network = _network(request.network, fields.pop("mac"))
        reply = self._request("identify", **{**fields, "network": network})
        with self._validated("identify"):
            return NewIdentity(
                ssh_host_key=self._host_key(reply),
                csr=untrusted.text(untrusted.item(reply, "csr", "the reply"), "csr", CSR),
                mac=untrusted.line(untrusted.item(reply, "mac", "the reply"), "mac", SHORT),
                audit=tuple(
                    untrusted.words(step, "a step", SHORT)
                    for step in untrusted.items(reply.get("audit", []), "audit", MOST_STEPS)
                ),
            )

    def discard_identity(self, entropy: str, user: str) -> None:
        """Discard the identity of the parent in a fork of a branch. The agent replaces its process
        after the next renewal of the certificate, unless the agent is an earlier one.

        :param entropy: random bytes in base64.
        :param user: login whose sessions end.
        """
        self._request("discard-identity", entropy=entropy, user=user)

    def scrub(
        self, network: GuestNetwork, mac: str, *, entropy: str, machine_id: str, user: str
    ) -> None:
        """Delete the identity and the traces of a host in a fork that becomes a template.

        :param mac: the MAC address of the template.
        :param entropy: random bytes in base64.
        :param user: login whose sessions end.
        """
        self.require("templates from hosts")
        self._request(
            "scrub",
            network=_network(network, mac),
            entropy=entropy,
            machine_id=machine_id,
            user=user,
        )

    def overwrite_requests(self) -> None:
        """Overwrite the former requests in the buffers of the guest's kernel.

        A virtio port has a ring of buffers, and a buffer keeps its content until it is used again.
        """
        for _message in range(FILL_MESSAGES):
            self._request("hello", fill="0" * FILL_BYTES)

    def change_containers(self, action: str) -> None:
        """Change all containers that run.

        :param action: ``pause``, ``restart`` or ``stop``.
        """
        self._request("change-containers", action=action)

    def csr(self) -> CertificateRequest:
        """Return a certificate request for the key of the guest."""
        reply = self._request("csr")
        with self._validated("csr"):
            return CertificateRequest(
                untrusted.text(untrusted.item(reply, "csr", "the reply"), "csr", CSR)
            )

    def renew_certificate(
        self,
        certificate: ServerCertificate,
        *,
        cut: bool = False,
        authorized_keys: tuple[str, ...] = (),
    ) -> None:
        """Install a certificate, and open the TLS front.

        :param cut: whether to close current connections.
        :param authorized_keys: new SSH keys; the current keys stay if there are none.
        """
        fields: dict[str, Any] = asdict(certificate)
        if cut:
            fields["cut"] = True
        if authorized_keys:
            fields["authorized_keys"] = list(authorized_keys)
        self._request("renew-certificate", **fields)

    def settle(self, *, restart_agent: bool = False) -> None:
        """Write the identity to disk durably, and restart the journal.

        :param restart_agent: whether a new process of the agent answers the next request, if it is
            an earlier agent, which does not replace its process before.
        """
        self._request("settle", **({"restart_agent": True} if restart_agent else {}))

    def set_clock(self, time: float) -> None:
        """Set the clock of the guest."""
        self._request("set-clock", time=time)

    def reseed(self, entropy: str) -> None:
        """Reseed the generators of the guest.

        :param entropy: random bytes in base64.
        """
        self._request("reseed", entropy=entropy)

    def volume_probe(self, serial: str) -> VolumeContent:
        """Return the kind of content on a volume."""
        reply = self._request("volume-probe", serial=serial)
        with self._validated("volume-probe"):
            kind = untrusted.item(reply, "content", "the reply")
            return VolumeContent(untrusted.line(kind, "content", SHORT))

    def volume_create(
        self, serial: str, uuid: str, *, key: str = "", retried: bool = False
    ) -> None:
        """Create a file system on a blank volume.

        :param key: key of an encrypted volume.
        :param retried: whether an earlier attempt began on a blank disk.
        """
        self._request_with_key("volume-create", key, serial=serial, uuid=uuid, again=retried)

    def volume_mount(self, serial: str, path: str, *, key: str = "") -> MountedVolume:
        """Mount a volume now and after each boot."""
        reply = self._request_with_key("volume-mount", key, serial=serial, path=path)
        with self._validated("volume-mount"):
            return MountedVolume(untrusted.flag(reply.get("grown", False), "grown"))

    def key_exchange(self) -> str:
        """Return the public half of the agent's new key pair for one key, in base64."""
        reply = self._request("key-exchange")
        with self._validated("key-exchange"):
            public_key = untrusted.item(reply, "public_key", "the reply")
            return untrusted.line(public_key, "public_key", SHORT)

    def volume_unmount(self, path: str) -> None:
        """Unmount a volume permanently."""
        self._request("volume-unmount", path=path)

    def volume_unmount_all(self) -> None:
        """Unmount all volumes, before the host is deleted."""
        self._request("volume-unmount", all=True)

    def volume_drop(self, path: str) -> None:
        """Stop the programs that use a volume, and unmount it permanently."""
        self.require("branches without volumes")
        self._request("volume-drop", path=path)

    def open(self) -> None:
        """Open a host to users that stayed closed after a boot."""
        self._request("open")

    def unit_failures(self) -> UnitFailures:
        """Return the failed units that Docker and the TLS front need."""
        reply = self._request("unit-failures")
        with self._validated("unit-failures"):
            failures = untrusted.items(untrusted.item(reply, "failures", "the reply"), "failures")
            return UnitFailures(
                tuple(untrusted.words(line, "a failure") for line in failures[:MOST_FAILURES])
            )

    def docker_probe(self) -> DockerProbe:
        """Return whether dockerd answers inside the guest."""
        reply = self._request("docker-probe")
        with self._validated("docker-probe"):
            return DockerProbe(
                untrusted.flag(untrusted.item(reply, "answers", "the reply"), "answers"),
                untrusted.words(reply.get("cause", ""), "cause", PATH),
            )

    def refresh_limits(self, memory_mib: int) -> None:
        """Recalculate limits that are percentages of the memory.

        :param memory_mib: memory of the machine.
        """
        self._request("refresh-limits", memory_mib=memory_mib)

    def _request(self, name: str, **fields: Any) -> dict[str, Any]:
        operation = OPERATIONS[name]
        # A name that never changed costs no request for the version: an old agent refuses it.
        if operation.former_name or self._version:
            self.require(operation.purpose)
        message = {"op": operation.name_for(self._version), **fields}
        reply = self._channel.request(message, self.deadline)
        if not self._version and "agent" in reply:
            with self._validated(name):
                self._version = untrusted.whole(reply["agent"], "agent", 1)
        return reply

    def _request_with_key(self, name: str, key: str, **fields: Any) -> dict[str, Any]:
        """Send a request that may contain a key, which only the agent can read. No error repeats
        the key, even if the guest quotes it. Agents of earlier templates get the key in clear.
        """
        if not key:
            return self._request(name, **fields)
        self.require("encrypted volumes")
        wraps = self.supports("wrapped keys")
        secret = {"wrapped_key": self._wrapped(key)} if wraps else {"key": key}
        try:
            return self._request(name, **fields, **secret)
        except StockyardError as error:
            if key in f"{error} {error.cause}":
                raise GuestError(
                    f"the guest's agent failed in {name}, and its answer contained the key.",
                    name=self.title,
                ) from None
            raise

    def _wrapped(self, key: str) -> str:
        public_key = self.key_exchange()
        with self._validated("key-exchange"):
            try:
                return key_wrap.wrap(key, public_key)
            except ValueError as error:
                raise MalformedData(f"public_key is malformed: {error}") from None

    def _host_key(self, reply: dict[str, Any]) -> str:
        try:
            return host.host_key(reply.get("ssh_host_key"))
        except InvalidInput as error:
            raise GuestError(
                "the guest sent no usable SSH host key.",
                name=self.title,
                cause=error.message,
                remedy=error.remedy,
            ) from error

    @contextmanager
    def _validated(self, name: str) -> Iterator[None]:
        try:
            yield
        except MalformedData as error:
            raise replies.unusable(name, self.title, error) from error


def _network(network: GuestNetwork, mac: str) -> dict[str, Any]:
    return {**asdict(network), "mac": mac}
