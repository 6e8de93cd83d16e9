# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a fork: the order of its steps, and every file that the agent writes.

The order matters: the kernel's generator gets entropy and reseeds before any secret is created, and
the network opens only after the identity is complete and on disk. Keys are created directly from
the kernel's random bytes, never from a generator that was in this process during the freeze.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import shutil
from typing import Any

from .effects import Effects

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.x509.oid import NameOID
except ImportError:  # guests always have it; a controller reads only this file's text
    pass

STATE = "var/lib/stockyard"
OPEN_FLAG = "run/stockyard/open"
# The flag of a fork whose parent accepted SSH connections.
SSH_FLAG = "run/stockyard/ssh"
AUTHORIZED = "etc/ssh/stockyard_authorized_keys"
MACHINE_ID = "/etc/machine-id"
HOST_KEY = "etc/ssh/ssh_host_ed25519_key"
APT_RETRIES = "etc/apt/apt.conf.d/80stockyard"
ENVIRONMENT = "etc/environment"
WAY_OUT = f"{STATE}/way-out.json"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
# The traces of a host's users and of its operation, which a template that is created from it must
# not have: keys and known hosts of logins, credentials of registries, histories, leases, and the
# seed of the next boot.
TRACES = (
    "root/.ssh", "home/*/.ssh", "root/.docker", "home/*/.docker", "root/.ansible",
    "home/*/.ansible", "root/.*_history", "home/*/.*_history", "root/.lesshst", "home/*/.lesshst",
    "root/.viminfo", "home/*/.viminfo", "root/.wget-hsts", "home/*/.wget-hsts", "run/log/journal",
    "var/lib/dhcp/*", "var/lib/systemd/random-seed", f"{STATE}/volumes.json", f"{STATE}/tls",
    APT_RETRIES,
)  # fmt: skip
# Logs that processes have open, of the system and of containers: their content is deleted.
LOGS = (
    "var/log/**/*",
    "var/lib/docker/containers/*/*.log*",
    "home/*/.local/share/docker/containers/*/*.log*",
)
# FIPS 186-5: the order of P-256.
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Identity:
    """The identity of one guest, under one root directory.

    :param root: ``/`` in a guest, any directory in a test.
    :param effects: the running system.
    """

    def __init__(self, root: str, effects: Effects) -> None:
        self.root = root
        self.effects = effects

    def known(self) -> dict[str, Any] | None:
        """Return the identity on disk if it is complete, otherwise nothing."""
        try:
            with open(self._path(STATE, "identity.json"), encoding="utf-8") as handle:
                identity = json.load(handle)
        except FileNotFoundError:
            return None
        return (
            identity
            if isinstance(identity, dict) and os.path.exists(self._path(STATE, "tls/cert.pem"))
            else None
        )

    def identify(self, request: dict[str, Any]) -> dict[str, Any]:
        """Apply the identity in the request; return the public halves of the new keys."""
        audit = ["reseed"]
        self.effects.reseed(base64.b64decode(request["entropy"], validate=True))
        self.effects.set_clock(float(request["time"]))
        audit.append("clock")
        self._names(request)
        audit.append("names")
        mac = self._network(request["network"])
        audit.append("network")
        self._authorize(request["authorized_keys"])
        self._environment(str(request.get("proxy") or ""), request["network"]["address"])
        self._way_out(str(request.get("proxy") or ""), request["network"]["address"])
        if _closed(request["network"]) and not request.get("proxy"):
            # By default apt tries three times, with pauses.
            self._write(APT_RETRIES, 'Acquire::Retries "0";\n')
        ssh_key = self._ssh_host_key(request["hostname"])
        audit.append("ssh-key")
        csr = self._tls_key(request["hostname"])
        audit.append("tls-key")
        identity = {
            "uuid": request["uuid"],
            "hostname": request["hostname"],
            "network": request["network"],
        }
        self._write(f"{STATE}/identity.json", json.dumps(identity))
        if request.get("engine_identity") == "unique":
            self.effects.restart_engine()
            audit.append("engine")
        return {"ssh_host_key": ssh_key, "csr": csr, "mac": mac, "audit": audit}

    def enable_ssh(self, request: dict[str, Any]) -> dict[str, Any]:
        """Enable SSH logins with a key, while a template is built. :meth:`disable_ssh` deletes the
        host key.
        """
        self._network(request["network"])
        self._authorize(request["authorized_keys"])
        return {"ssh_host_key": self._ssh_host_key("template")}

    def disable_ssh(self, request: dict[str, Any]) -> dict[str, Any]:
        """Disable SSH logins before the freeze, and delete the keys: a fork must not be reachable
        or recognizable by them.
        """
        self.effects.end_sessions(request["user"], request["network"]["interface"])
        for path in (AUTHORIZED, HOST_KEY, f"{HOST_KEY}.pub"):
            self._forget(path)
        for home in ("root", f"home/{request['user']}"):
            shutil.rmtree(self._path(home, ".ansible"), ignore_errors=True)
        self.effects.sync()
        return {}

    def discard_identity(self, request: dict[str, Any]) -> dict[str, Any]:
        """Discard the identity of the parent in a fork of a branch, which then gets its own.

        The parent's front and logins end, because they hold its keys and used generators. Another
        front waits at its gate as in a fork of a template. Containers continue. The agent has
        priority until :meth:`settle`, as it has in a fork of a template.
        """
        self.effects.reseed(base64.b64decode(request["entropy"], validate=True))
        self.effects.prioritize(True)
        if self.effects.accepts_ssh():
            self._write(SSH_FLAG, "")
        if uplink := (self.known() or {}).get("network", {}).get("uplink"):
            self.effects.take_down(uplink["interface"])
        files = (
            *(f"{STATE}/tls/{part}.pem" for part in ("key", "cert", "ca", "crl")),
            f"{STATE}/identity.json",
            # An sshd that systemd restarts without a host key ends at once.
            *(AUTHORIZED, HOST_KEY, f"{HOST_KEY}.pub"),
            OPEN_FLAG,
        )
        for path in files:
            self._forget(path)
        self.effects.kill_logins(request["user"])
        self.effects.replace_front()
        return {}

    def scrub(self, request: dict[str, Any]) -> dict[str, Any]:
        """Delete the identity of a host, and the traces of its users and of its operation, in a
        fork that becomes a template. Files of users, containers and their volumes stay.

        Free blocks of the disk are returned to the hypervisor; :func:`.warmup.warm_up` zeroes free
        memory.
        """
        network = request["network"]
        self.discard_identity(request)
        # A later step of the build can disable SSH on purpose.
        self._forget(SSH_FLAG)
        self.effects.end_sessions(request["user"], network["interface"])
        for pattern in TRACES:
            for path in glob.glob(self._path(pattern), include_hidden=True):
                _remove(path)
        self._remove_proxies()
        self._names({**request, "hostname": "localhost"})
        self.effects.set_mac(network["interface"], network["mac"])
        self.effects.restart_journal()
        for pattern in LOGS:
            for path in glob.glob(self._path(pattern), recursive=True, include_hidden=True):
                if os.path.isfile(path) and not os.path.islink(path):
                    os.truncate(path, 0)
        self.effects.trim()
        return {}

    def _remove_proxies(self) -> None:
        """Remove a host's proxy from the environment of logins and dockerd, and its way out."""
        self._way_out("", "")
        target = self._path(ENVIRONMENT)
        if os.path.exists(target):
            with open(target, encoding="utf-8") as handle:
                lines = handle.readlines()
            own_lines = [line for line in lines if line.partition("=")[0].lower() not in PROXIES]
            self._write(ENVIRONMENT, "".join(own_lines))

    def csr(self) -> dict[str, Any]:
        """Return a certificate request for the key on disk. The key does not leave the guest."""
        with open(self._path(STATE, "tls/key.pem"), "rb") as handle:
            key = serialization.load_pem_private_key(handle.read(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the key on disk is not the P-256 one that was written")
        return {"csr": _request_of(key, (self.known() or {})["hostname"])}

    def renew_certificate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Install the signed certificate, the authority's certificate and its list of revoked
        certificates, and open the TLS front.

        If the front is already open, it reloads the files; ``cut`` makes it close all current
        connections.
        """
        self._write(f"{STATE}/tls/ca.pem", request["ca"])
        self._write(f"{STATE}/tls/crl.pem", request["crl"])
        self._write(f"{STATE}/tls/cert.pem", request["certificate"])
        if request.get("authorized_keys"):
            self._authorize(request["authorized_keys"])
        if os.path.exists(self._path(OPEN_FLAG)):
            self.effects.sync()
            self.effects.reload_front(bool(request.get("cut")))
        else:
            self.open_front()
        return {}

    def set_clock(self, request: dict[str, Any]) -> dict[str, Any]:
        """Set the clock: after a pause of the guest or the hypervisor it is slow."""
        self.effects.set_clock(float(request["time"]))
        return {}

    def reseed(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reseed the generators of a host that was suspended: its saved memory was on a disk."""
        self.effects.reseed(base64.b64decode(request["entropy"], validate=True))
        return {}

    def settle(self) -> dict[str, Any]:
        """Finish the steps that can wait until Docker answers, but must precede the phase ready."""
        self.effects.prioritize(False)
        self.effects.restart_journal()
        self.effects.sync()
        if os.path.exists(self._path(SSH_FLAG)):
            self.effects.wait_for_ssh()
            self._forget(SSH_FLAG)
        return {}

    def resume(self, *, open_to_users: bool = True) -> bool:
        """Restore the identity on disk after a cold boot. Return whether there is an identity.

        :param open_to_users: whether to open the host to users; if not, :meth:`reopen` opens it
            later.
        """
        identity = self.known()
        if identity is None:
            return False
        self._network(identity["network"])
        if open_to_users:
            self.open_front()
        return True

    def reopen(self) -> dict[str, Any]:
        """Open a host to users if its identity is complete and it was kept closed after a boot."""
        if self.known() and not os.path.exists(self._path(OPEN_FLAG)):
            self.open_front()
        return {}

    def open_front(self) -> None:
        """Open the TLS front, now and after each later start of the front."""
        self._write(OPEN_FLAG, "")
        self.effects.open_gate()

    def _authorize(self, keys: list[str]) -> None:
        self._write(AUTHORIZED, "".join(f"{key}\n" for key in keys))

    def _names(self, request: dict[str, Any]) -> None:
        self.effects.set_hostname(request["hostname"])
        self._write("etc/hostname", request["hostname"] + "\n")
        self._write(
            "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {request['hostname']}\n::1 localhost\n"
        )
        self._write("etc/machine-id", request["machine_id"] + "\n", 0o444)
        # D-Bus and systemd share one machine ID; a link keeps both files equal.
        dbus = self._path("var/lib/dbus/machine-id")
        if os.path.islink(dbus) and os.readlink(dbus) == MACHINE_ID:
            return
        if os.path.lexists(dbus):
            os.unlink(dbus)
        os.makedirs(os.path.dirname(dbus), exist_ok=True)
        os.symlink(MACHINE_ID, dbus)

    def _network(self, network: dict[str, Any]) -> str:
        mac = self.effects.set_mac(network["interface"], network["mac"])
        self.effects.set_address(
            network["interface"], network["address"], network["netmask"], network["gateway"]
        )
        if network.get("uplink"):
            uplink = network["uplink"]
            self.effects.set_mac(uplink["interface"], uplink["mac"])
            self.effects.set_address(
                uplink["interface"], uplink["address"], uplink["netmask"], uplink["gateway"]
            )
        if network.get("nameserver"):
            # Docker copies both lines into containers. A resolver that ignores a refusal stops
            # after a second.
            options = "options timeout:1 attempts:1\n" if _closed(network) else ""
            self._write("etc/resolv.conf", f"nameserver {network['nameserver']}\n{options}")
        return mac

    def _environment(self, proxy: str, address: str) -> None:
        """Add a proxy to the environment of logins and dockerd. Lines of the image's file stay."""
        if not proxy:
            return
        target = self._path(ENVIRONMENT)
        existing = ""
        if os.path.exists(target):
            with open(target, encoding="utf-8") as handle:
                existing = handle.read().rstrip("\n") + "\n"
        values = {
            "http_proxy": proxy,
            "https_proxy": proxy,
            "no_proxy": f"localhost,127.0.0.1,{address}",
        }
        lines = [
            f"{name}={value}\n" for key, value in values.items() for name in (key, key.upper())
        ]
        self._write(ENVIRONMENT, existing.lstrip("\n") + "".join(lines))

    def _way_out(self, proxy: str, address: str) -> None:
        """Give programs that do not know of a proxy a way to it: see :mod:`.way_out`."""
        if proxy:
            host, _colon, port = proxy.removeprefix("http://").rpartition(":")
            order = {"address": address, "host": host, "port": int(port)}
            self._write(WAY_OUT, json.dumps(order))
            self._write("etc/resolv.conf", f"nameserver {address}\n")
            self.effects.set_way_out(True)
        elif os.path.exists(self._path(WAY_OUT)):
            self._forget(WAY_OUT)
            self.effects.set_way_out(False)

    def _ssh_host_key(self, hostname: str) -> str:
        key = ed25519.Ed25519PrivateKey.from_private_bytes(self.effects.random(32))
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        self._write(HOST_KEY, private.decode(), 0o600)
        self._write(f"{HOST_KEY}.pub", f"{public.decode()} root@{hostname}\n")
        return public.decode()

    def _tls_key(self, hostname: str) -> str:
        # 64 random bits more than the order needs make the bias of the reduction negligible
        # (FIPS 186-5, A.2.1).
        secret = int.from_bytes(self.effects.random(40), "big") % (P256_ORDER - 1) + 1
        key = ec.derive_private_key(secret, ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._write(f"{STATE}/tls/key.pem", private.decode(), 0o600, "stockyard-tls")
        return _request_of(key, hostname)

    def _forget(self, path: str) -> None:
        """Delete a file if it exists."""
        if os.path.lexists(self._path(path)):
            os.unlink(self._path(path))

    def _path(self, *components: str) -> str:
        return os.path.join(self.root, *components)

    def _write(self, path: str, text: str, mode: int = 0o644, user: str = "") -> None:
        """Write a file atomically: a new file in the same directory, then a rename."""
        target = self._path(path)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        temporary = target + ".new"
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8"
        ) as handle:
            os.fchmod(handle.fileno(), mode)
            handle.write(text)
        if user:
            self.effects.own(temporary, user)
        os.replace(temporary, target)


def _remove(path: str) -> None:
    """Delete a file, a link or a directory."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _closed(network: dict[str, Any]) -> bool:
    """Return whether a guest has no way out: its nameserver is its own address, at which no server
    answers.

    Without any nameserver Docker would give containers public nameservers, and lookups would time
    out.
    """
    return bool(network.get("nameserver") == network["address"])


def _request_of(key: ec.EllipticCurvePrivateKey, hostname: str) -> str:
    """Return a certificate request as PEM. The authority decides on the names."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()
