# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container, an image, a network or a volume may be. What is not known is refused when it is set.

Keys come in lower case: Go does not tell case apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .body import Denied

Body = dict[str, Any]
# What Docker gives every container anyway.
CAPABILITIES = frozenset((
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
))  # fmt: skip
# An id alone names any image that was loaded or imported: a registry's digest is behind a name.
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
# Settings that lead nowhere, whatever they are set to.
HARMLESS = frozenset((
    "autoremove", "blkiodevicereadbps", "blkiodevicereadiops", "blkiodevicewritebps", "blkiodevicewriteiops",
    "blkioweight", "blkioweightdevice", "capdrop", "consolesize", "containeridfile", "cpucount", "cpupercent",
    "cpuperiod", "cpuquota", "cpurealtimeperiod", "cpurealtimeruntime", "cpusetcpus", "cpusetmems", "cpushares", "dns",
    "dnsoptions", "dnssearch", "extrahosts", "groupadd", "init", "iomaximumbandwidth", "iomaximumiops", "kernelmemory",
    "kernelmemorytcp", "links", "memory", "memoryreservation", "memoryswap", "memoryswappiness", "nanocpus",
    "pidslimit", "portbindings", "publishallports", "readonlyrootfs", "restartpolicy", "shmsize", "storageopt", "tmpfs",
    "ulimits", "volumesfrom",
))  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """What is let through: see the options of the SDK by the same names."""

    mounts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    by_digest: bool = False
    build: bool = True

    def allows_image(self, name: str) -> bool:
        """Whether an image may be used."""
        if self.by_digest and not _DIGEST.fullmatch(name):
            return False
        return not self.images or any(
            name.startswith(item[:-1]) if item.endswith("*") else name == item for item in self.images
        )


def check_create(policy: Policy, body: Body) -> None:
    """A new container."""
    image(policy, body.get("image"))
    if any(":" in path for path in _mapping("Volumes", body.get("volumes"))):
        raise Denied("a volume of a container is a path in it")
    host_config(policy, _mapping("HostConfig", body.get("hostconfig")))
    networks = _mapping("NetworkingConfig", body.get("networkingconfig")).get("endpointsconfig")
    if "host" in _mapping("EndpointsConfig", networks):
        raise Denied("the host's network is not for containers")


def check_update(policy: Policy, body: Body) -> None:
    """New limits of a container."""
    host_config(policy, body)


def check_exec(_policy: Policy, body: Body) -> None:
    """A program in a container."""
    _only("Privileged", body.get("privileged"), (None, False))


def check_pull(policy: Policy, query: dict[str, list[str]]) -> None:
    """An image from a registry, or out of an archive."""
    names, tags = query.get("fromImage", [""]), query.get("tag", [""])
    if len(names) > 1 or len(tags) > 1:
        raise Denied("the query of this request has a name twice")
    if not names[0]:
        if policy.images or policy.by_digest:
            raise Denied("only images of the list are let in, and what is in this one cannot be seen")
        return
    joint = "@" if tags[0].startswith("sha256:") else ":"
    image(policy, names[0] + (joint + tags[0] if tags[0] else ""))


def check_build(policy: Policy, query: dict[str, list[str]]) -> None:
    """An image that is built. What it is built from is in an archive, which no plugin sees."""
    if not policy.build:
        raise Denied("images are not built on this host")
    if policy.images or policy.by_digest:
        raise Denied("only images of the list are let in, and what a Dockerfile is built from cannot be seen")
    if query.get("version", ["1"]) != ["1"]:
        raise Denied("BuildKit's requests cannot be seen: set DOCKER_BUILDKIT=0")
    for name in ("networkmode", "securityopt", "cgroupparent", "outputs", "session"):
        if any(value not in ("", "default", "none", "bridge", "null", "[]") for value in query.get(name, [])):
            raise Denied(f"a build may not set {name}")


def check_network(_policy: Policy, body: Body) -> None:
    """A new network: a bridge of its own."""
    _only("Driver", body.get("driver"), (None, "", "bridge"))
    options = _mapping("Options", body.get("options"))
    if strange := sorted(options.keys() - {"com.docker.network.bridge.enable_icc", "com.docker.network.driver.mtu"}):
        raise Denied(f"a network may not set {strange[0][:80]}")
    for name in ("configfrom", "configonly", "ingress", "attachable"):
        value = body.get(name)
        if value and value != {"network": ""}:
            raise Denied(f"a network may not set {name}")


def check_volume(_policy: Policy, body: Body) -> None:
    """A new volume. Options of the local driver mount whatever they name."""
    _only("Driver", body.get("driver"), (None, "", "local"))
    if body.get("driveropts") or body.get("clustervolumespec"):
        raise Denied("a volume may not set driver options")


def image(policy: Policy, name: object) -> None:
    """An image by its name."""
    if not isinstance(name, str) or not policy.allows_image(name):
        raise Denied(f"the image {str(name)[:80]!a} is not on the list")


def host_config(policy: Policy, config: Body) -> None:
    """The part of a container that the host has to do with."""
    for key, value in config.items():
        if key in CHECKS:
            CHECKS[key](policy, value)
        elif key not in HARMLESS and value not in (None, False, 0, "", [], {}):
            raise Denied(f"a container may not set {key[:80]}")


def _mode(what: str) -> Callable[[Policy, Any], None]:
    def look(_policy: Policy, value: Any) -> None:
        if not isinstance(value, (str, type(None))) or (value or "").strip().lower().startswith("host"):
            raise Denied(f"the host's {what} is not for containers")

    return look


def _within(what: str, *allowed: Any) -> Callable[[Policy, Any], None]:
    return lambda _policy, value: _only(what, value, allowed)


def _capabilities(_policy: Policy, value: Any) -> None:
    for name in _list("CapAdd", value):
        if str(name).upper().removeprefix("CAP_") not in CAPABILITIES:
            raise Denied(f"the capability {str(name)[:80]!a} is not for containers")


def _options(_policy: Policy, value: Any) -> None:
    allowed = ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true", "apparmor=docker-default")
    for item in _list("SecurityOpt", value):
        _only("SecurityOpt", item, allowed)


def _binds(policy: Policy, value: Any) -> None:
    for item in _list("Binds", value):
        source = str(item).partition(":")[0]
        # What does not begin with a slash is the name of a volume.
        if source.startswith(("/", "~", ".", "\\")) and ":" in str(item):
            _mounted(policy, source)


def _mounts(policy: Policy, value: Any) -> None:
    for item in (_mapping("Mounts", found) for found in _list("Mounts", value)):
        kind = item.get("type") or "volume"
        _only("Mounts", kind, ("bind", "volume", "tmpfs"))
        if kind == "bind":
            _mounted(policy, item.get("source"))
        driver = _mapping("DriverConfig", _mapping("VolumeOptions", item.get("volumeoptions")).get("driverconfig"))
        _only("DriverConfig", driver.get("name"), (None, "", "local"))
        if driver.get("options"):
            raise Denied("a volume may not set driver options")


def _mounted(policy: Policy, source: object) -> None:
    if source not in policy.mounts:
        raise Denied(f"{str(source)[:80]!a} of the host is not for containers")


def _oom(_policy: Policy, value: Any) -> None:
    if not isinstance(value, (int, type(None))) or (value or 0) < 0:
        raise Denied("a container may not be spared when memory runs out")


def _log(_policy: Policy, value: Any) -> None:
    config = _mapping("LogConfig", value)
    _only("LogConfig", config.get("type"), (None, "", "json-file", "local", "none"))
    known = {"max-size", "max-file", "compress", "mode", "max-buffer-size", "tag", "labels", "env"}
    if strange := sorted(_mapping("LogConfig", config.get("config")).keys() - known):
        raise Denied(f"a log may not set {strange[0][:80]}")


CHECKS: dict[str, Callable[[Policy, Any], None]] = {
    "privileged": _within("Privileged", None, False),
    "pidmode": _mode("processes"),
    "ipcmode": _mode("shared memory"),
    "networkmode": _mode("network"),
    "utsmode": _mode("name"),
    "usernsmode": _mode("users"),
    "cgroupnsmode": _mode("cgroups"),
    "capadd": _capabilities,
    "securityopt": _options,
    "binds": _binds,
    "mounts": _mounts,
    "volumedriver": _within("VolumeDriver", None, "", "local"),
    "runtime": _within("Runtime", None, "", "runc"),
    "isolation": _within("Isolation", None, "", "default"),
    "maskedpaths": _within("MaskedPaths", None),
    "readonlypaths": _within("ReadonlyPaths", None),
    "oomkilldisable": _within("OomKillDisable", None, False),
    "oomscoreadj": _oom,
    "logconfig": _log,
}


def _only(what: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not any(value is item or (isinstance(item, str) and value == item) for item in allowed):
        raise Denied(f"{what} may not be {str(value)[:80]!a}")


def _mapping(what: str, value: Any) -> Body:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Denied(f"{what} is no object")
    return dict(value)


def _list(what: str, value: Any) -> list[Any]:
    if value is None:
        return []
    # Some of these may be one string in old clients' requests; nobody who means well sends that.
    if not isinstance(value, list):
        raise Denied(f"{what} is no list")
    return list(value)
