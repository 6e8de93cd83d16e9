# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rehearsal before the freeze: it runs every path once, so that a fork's pages are in memory.

The keys of the rehearsal are in a separate directory, and all of its files are deleted.

A derived template is not rehearsed: it is a fork of a rehearsed template, so these pages are in
its memory already, unless a service was started again since.
"""

from __future__ import annotations

import http.client
import io
import os
import shutil
import socket
import ssl
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

from . import engine, image_policy, memory_trim, provision, units
from .apply import STATE, Identity
from .effects import ANY, FRONT_PROCESSES, LinuxEffects

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:  # guests always have it; a controller reads only this file's text
    pass

# Seconds for zeroing free memory, which only makes a template smaller.
ZEROING = 180.0
SCRATCH = "/run/stockyard/warm-up"
FRONT_NAME = "stunnel4"
# Seconds without CPU time after which a process counts as waiting.
QUIET = 0.5
# Seconds between two checks of the units that the agent waits for.
LOOK = 2.0
REHEARSAL_IMAGE = "rehearsal"
# The file that names the runs of the rehearsed services. It is in memory: after a boot it does not
# exist. systemd has a link for each service, whose target is the ID of the service's current run.
REHEARSED = "/run/stockyard/rehearsed"
RUN_LINK = "/run/systemd/units/invocation:{}"
REHEARSED_UNITS = (
    "stockyard-agent.service",
    *units.FRONTS,
    "containerd.service",
    "docker.service",
)
DENIED = b"authorization denied by plugin"


class _DryEffects(LinuxEffects):
    """The real effects without those that would change the template."""

    def reseed(self, entropy: bytes) -> None:
        ssl.RAND_add(entropy, 0.0)

    def set_clock(self, seconds: float) -> None:
        time.time()

    def set_hostname(self, name: str) -> None:
        socket.gethostname()

    def set_mac(self, interface: str, mac: str) -> str:
        return mac

    def set_address(self, interface: str, address: str, netmask: str, gateway: str) -> None:
        socket.inet_aton(address)

    def open_gate(self) -> None:
        return

    def reload_front(self, cut: bool) -> None:
        return

    def prioritize(self, on: bool) -> None:
        return

    def restart_journal(self) -> None:
        return


def prepare(timeout: float, docker: bool) -> dict[str, str]:
    """Wait for dockerd, load the user's images, and run the user's commands, which may use the
    images.

    Completed steps are not repeated. A list of allowed images is suspended until the end of the
    warm-up.

    :param timeout: seconds.
    :param docker: whether dockerd runs in this template.
    :raises RuntimeError: if sshd rejects its configuration.
    :raises UnitFailed: if dockerd, or a unit that it needs, failed.
    :raises TimeoutError: if dockerd does not answer in time.
    """
    end = time.monotonic() + timeout
    units.check_sshd()
    if not docker:
        provision.provision("/", end)
        return {"engine": ""}
    version = _until(
        end, "dockerd", units.DOCKER, lambda: engine.ping(engine.UnixConnection(engine.SOCKET))
    )
    image_policy.suspend("/")
    provision.load("/", end)
    provision.provision("/", end)
    return {"engine": version}


def warm_up(
    timeout: float, docker: bool, sparse: bool = False, derived: bool = False
) -> dict[str, str]:
    """Complete the preparation, rehearse an identity and the TLS front, and delete all traces of
    the rehearsal.

    :param timeout: seconds.
    :param docker: whether dockerd runs in this template.
    :param sparse: whether to release memory that forks do not need.
    :param derived: whether this is a fork of a rehearsed template. It is rehearsed only if a
        rehearsed service was started again since.
    :raises UnitFailed: if a unit failed that Docker needs.
    :raises TimeoutError: if dockerd or the front does not answer in time.
    """
    end = time.monotonic() + timeout
    result = prepare(timeout, docker)
    if derived and _is_rehearsed():
        if sparse:
            memory_trim.forget_layers(os.stat(REHEARSED).st_mtime)
        _check_derivation(end, docker)
    else:
        if sparse:
            memory_trim.drop_caches()
        with memory_trim.little_read_ahead() if sparse else nullcontext():
            if sparse:
                memory_trim.reclaim()
            _rehearse(end, docker)
    with open(REHEARSED, "w", encoding="ascii") as handle:
        handle.write(_runs())
    if sparse:
        # Users reach forks from outside and do not need the client in the guest.
        memory_trim.forget("docker")
        # At most half of the remaining time: the controller waits for the answer with a deadline.
        memory_trim.zero_free_memory(min(ZEROING, max(1.0, (end - time.monotonic()) / 2)))
    # Until a fork has its identity: systemd notifies all services of the new clock and the new
    # name.
    LinuxEffects().prioritize(True)
    return result


def _runs() -> str:
    """Return the IDs of the current runs of the rehearsed services; an empty line for none."""
    links = [RUN_LINK.format(unit) for unit in REHEARSED_UNITS]
    return "\n".join(os.readlink(link) if os.path.islink(link) else "" for link in links)


def _is_rehearsed() -> bool:
    """Return whether the rehearsed services still run. A boot, an update of a package or a command
    of the user can start them again.
    """
    try:
        with open(REHEARSED, encoding="ascii") as handle:
            return handle.read() == _runs()
    except FileNotFoundError:
        return False


def _check_derivation(end: float, docker: bool) -> None:
    """Check that the services of a derived template are as the rehearsal left them."""
    if not docker:
        return
    if image_policy.restore("/"):
        # The plugin was restarted: its first request must not come from a fork.
        _docker("ps")
    if failures := units.failures(units.DOCKER):
        raise UnitFailed(" | ".join(failures))
    _until(end, "the TLS front", units.FRONTS, _fronts_wait)


def _rehearse(end: float, docker: bool) -> None:
    """Run the steps of each fork once, so that their pages are in memory; delete the results."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    rehearsal = Identity(SCRATCH, _DryEffects())
    answer = rehearsal.identify(_request())
    rehearsal.renew_certificate(_self_signed(answer["csr"]))
    rehearsal.csr()
    rehearsal.settle()
    if docker:
        _rehearse_front(end)
        _rehearse_container()
        if image_policy.restore("/"):
            # The plugin was restarted: its first request must not come from a fork.
            _docker("ps")
    shutil.rmtree(SCRATCH)


def _request() -> dict[str, object]:
    network = {"interface": "eth0", "mac": "", "address": ANY, "netmask": ANY, "gateway": ""}
    return {
        "entropy": "",
        "time": 0,
        "hostname": "rehearsal",
        "machine_id": "0" * 32,
        "uuid": "",
        "network": network,
        "authorized_keys": [],
    }


def _rehearse_front(end: float) -> None:
    """Start the front once with the rehearsal's key, and complete a TLS handshake."""
    target = f"/{STATE}/tls"
    shutil.copytree(f"{SCRATCH}/{STATE}/tls", target, copy_function=_copy_with_owner)
    try:
        LinuxEffects().open_gate()
        context = ssl.create_default_context(cafile=f"{target}/ca.pem")
        context.check_hostname = False
        context.load_cert_chain(f"{target}/cert.pem", f"{target}/key.pem")
        _until(end, "the TLS front", units.FRONTS, lambda: engine.ping(_tls_connection(context)))
    finally:
        shutil.rmtree(target)
    # New fronts, which wait at their gates: the front in use has used its generator in a handshake.
    for front in units.FRONTS:
        LinuxEffects().close_gate(front)
    subprocess.run(["systemctl", "restart", *units.FRONTS], check=True, timeout=60)
    _until(end, "the TLS front", units.FRONTS, _fronts_wait)


def _fronts_wait() -> str:
    """Check that the fronts wait at their pipes: their processes have the front's name, sleep, and
    use no CPU time for a while. Return an empty text.

    :raises OSError: if a front does not wait yet.
    """
    pids: list[str] = []
    for front in units.FRONTS:
        with open(FRONT_PROCESSES.format(front), encoding="ascii") as handle:
            pids += handle.read().split()
    initial_states = [_state(pid) for pid in pids]
    time.sleep(QUIET)
    if len(pids) < len(units.FRONTS) or any(
        name != FRONT_NAME or state != "S" for name, state, _ticks in initial_states
    ):
        raise OSError("it is still being started")
    if initial_states != [_state(pid) for pid in pids]:
        raise OSError("it does not wait")
    return ""


def _state(pid: str) -> tuple[str, str, str]:
    """Return a process's name, its state and its CPU time (proc(5))."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as handle:
        head, fields = handle.read().rsplit(")", 1)
    return head.split("(", 1)[1], fields.split()[0], " ".join(fields.split()[11:13])


def _rehearse_container() -> None:
    """Run one container, and delete it and its image, so that the first container of a fork finds
    all pages in memory.

    The image is one static program that comes with Debian's Docker.
    """
    program = os.path.realpath("/usr/bin/docker-init")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(program, "init")
    try:
        _docker("import", "-", REHEARSAL_IMAGE, stdin=archive.getvalue())
    except subprocess.CalledProcessError as error:
        # If the policy allows only listed images, it refuses this image.
        if DENIED in error.stderr:
            return
        raise
    _docker("run", "--rm", REHEARSAL_IMAGE, "/init", "--version")
    _docker("rmi", REHEARSAL_IMAGE)


def _docker(*arguments: str, stdin: bytes = b"") -> None:
    subprocess.run(
        ["docker", *arguments], input=stdin, check=True, timeout=300, capture_output=True
    )


def _copy_with_owner(source: str, target: str) -> str:
    shutil.copy2(source, target)
    stat = os.stat(source)
    os.chown(target, stat.st_uid, stat.st_gid)
    return target


def _self_signed(csr_pem: str) -> dict[str, str]:
    """Return a self-signed certificate as authority and certificate, and its empty list of revoked
    certificates.
    """
    with open(f"{SCRATCH}/{STATE}/tls/key.pem", "rb") as handle:
        key = serialization.load_pem_private_key(handle.read(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the rehearsal's key is not the P-256 one that was written")
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    yesterday, tomorrow = (datetime.now(UTC) + timedelta(days=days) for days in (-1, 1))
    builder = (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(csr.subject)
        .public_key(csr.public_key())
        .serial_number(1)
        .not_valid_before(yesterday)
        .not_valid_after(tomorrow)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    crl = x509.CertificateRevocationListBuilder().issuer_name(csr.subject)
    signed = crl.last_update(yesterday).next_update(tomorrow).sign(key, hashes.SHA256())
    certificate = (
        builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    )
    revoked = signed.public_bytes(serialization.Encoding.PEM).decode()
    return {"ca": certificate, "certificate": certificate, "crl": revoked}


def _tls_connection(context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection("127.0.0.1", 2376, timeout=10, context=context)


class UnitFailed(Exception):
    """Error of a unit that failed for good, so that the agent need not wait for it."""


def _until(end: float, title: str, needed: Sequence[str], attempt: Callable[[], str]) -> str:
    """Try until the attempt succeeds, a needed unit fails for good, or the time is over.

    :raises UnitFailed: if a needed unit failed.
    :raises TimeoutError: if the time is over.
    """
    next_check = time.monotonic() + LOOK
    while True:
        try:
            return attempt()
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= next_check:
                if failures := units.failures(needed):
                    raise UnitFailed(" | ".join(failures)) from error
                next_check = time.monotonic() + LOOK
            if time.monotonic() >= end:
                raise TimeoutError(f"{title} did not answer: {error}") from error
            time.sleep(0.5)
