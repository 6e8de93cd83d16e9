# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of an uplink: their options, and the refusal of a machine that lacks one."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Iterable

from ...errors import MissingDependency, Unsupported
from ...model.destinations import Destination, destinations
from ...model.host import HostSpec
from . import uplink_allow_rules, uplink_guard, uplink_rules

# The first version of slirp4netns with a stable sandbox.
OLDEST_SLIRP = (1, 0)
# The version of Debian 12.
OLDEST_HAPROXY = (2, 6)
PATH = f"{os.defpath}:/usr/sbin:/sbin:/usr/local/sbin"
# Seconds for a query of a program.
QUERY = 20.0
_VERSION = re.compile(r"version (\d+)\.(\d+)")


def check(spec: HostSpec) -> None:
    """Refuse an uplink that this machine cannot provide. Nothing is changed.

    :raises MissingDependency: with the package of a missing program.
    :raises Unsupported: with the reason.
    """
    slirp()
    allowed = destinations(spec.egress_allow)
    _check_own(allowed)
    rules = uplink_rules.rules(allowed)
    if spec.egress == "allow":
        haproxy()
        rules = uplink_allow_rules.rules(allowed)
    if not os.access(uplink_guard.TUN, os.R_OK | os.W_OK):
        raise Unsupported(
            f"{uplink_guard.TUN} cannot be opened, and egress open needs it.",
            remedy=f"run modprobe tun, and set the mode of {uplink_guard.TUN} to 0666 as udev does",
        )
    result = _run([*unshare(), nft(), "--check", "--file", "-"], rules)
    if result.returncode:
        raise Unsupported(
            "the rules of egress open cannot be loaded in a namespace of this user.",
            cause=result.stderr.strip()[-500:],
            remedy="permit user namespaces to ordinary users (user.max_user_namespaces, "
            "kernel.apparmor_restrict_unprivileged_userns), and install the package nftables in "
            "version 0.9.8 or later",
        )


def _check_own(allowed: Iterable[Destination]) -> None:
    """Refuse an address of the hypervisor, which stays denied."""
    networks = [ipaddress.IPv4Network(network) for network in uplink_guard.read_own_networks()]
    for entry in allowed:
        if not entry.network:
            continue
        allowed_network = ipaddress.IPv4Network(entry.network)
        if any(allowed_network.subnet_of(network) for network in networks):
            raise Unsupported(
                f"egress_allow: {entry.network} is an address of the hypervisor.",
                cause="guests reach no address of the hypervisor",
                remedy="omit it, or use egress proxy for a service of the hypervisor",
            )


def slirp() -> list[str]:
    """Return slirp4netns and its options.

    It does not translate an address to the hypervisor's loopback, except for name resolution. Its
    sandbox contains only the files for name resolution, and a filter limits its system calls.
    """
    program = _program("slirp4netns", "slirp4netns")
    text = _run([program, "--version"]).stdout
    version = _VERSION.search(text)
    if not version or (int(version[1]), int(version[2])) < OLDEST_SLIRP:
        raise Unsupported(
            "egress open needs a newer slirp4netns.",
            cause=text.strip()[:200],
            remedy="install the package slirp4netns in version "
            f"{'.'.join(map(str, OLDEST_SLIRP))} or later",
        )
    seccomp = ["--enable-seccomp"] if "libseccomp" in text else []
    options = ["--configure", "--mtu=1500", f"--cidr={uplink_rules.EXIT}"]
    return [program, *options, "--disable-host-loopback", "--enable-sandbox", *seccomp]


def haproxy() -> list[str]:
    """Return HAProxy and its options.

    The process has no capabilities, so it cannot change the rules, and ends with its parent.

    :raises MissingDependency: with the package.
    """
    program = _program("haproxy", "haproxy")
    text = _run([program, "-v"]).stdout
    version = _VERSION.search(text)
    if not version or (int(version[1]), int(version[2])) < OLDEST_HAPROXY:
        raise Unsupported(
            "egress allow needs a newer HAProxy.",
            cause=text.strip()[:200],
            remedy="install the package haproxy in version "
            f"{'.'.join(map(str, OLDEST_HAPROXY))} or later",
        )
    setpriv = [_program("setpriv", "util-linux"), "--no-new-privs", "--inh-caps=-all"]
    return [*setpriv, "--bounding-set=-all", "--pdeathsig=KILL", program, "-db", "-q"]


def nft() -> str:
    """Return the path of nft."""
    return _program("nft", "nftables")


def unshare() -> list[str]:
    """Return the program that enters new namespaces, and its options."""
    return [_program("unshare", "util-linux"), "--user", "--map-root-user", "--net"]


def _program(name: str, package: str) -> str:
    """Return the path of a program.

    :raises MissingDependency: with its package.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")
    if not path:
        raise MissingDependency(
            f"{name} is not installed, and the declared egress needs it.",
            remedy=f"install the package {package}",
        )
    return path


def _run(arguments: list[str], text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, input=text, capture_output=True, text=True, check=False, timeout=QUERY
    )
