# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's ``daemon.json``: the checks that are possible without a dockerd. Keys that are not
listed are left to dockerd.

The types are those of dockerd's flags: docs.docker.com/reference/cli/dockerd, "Daemon configuration
file".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import InvalidInput

PATH = "/etc/docker/daemon.json"
# Debian's unit sets them by flags, and dockerd does not start if both set them.
FLAGS = ("containerd", "hosts")
TRUTHS = (
    "debug",
    "experimental",
    "icc",
    "init",
    "ip-forward",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "no-new-privileges",
    "raw-logs",
    "selinux-enabled",
    "tls",
    "tlsverify",
    "userland-proxy",
)
NUMBERS = (
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "mtu",
    "network-control-plane-mtu",
    "network-diagnostic-port",
    "oom-score-adjust",
    "shutdown-timeout",
)
TEXTS = (
    "bip", "bridge", "cgroup-parent", "containerd", "containerd-namespace", "data-root",
    "default-cgroupns-mode", "default-gateway", "default-gateway-v6", "default-ipc-mode",
    "default-runtime", "exec-root", "fixed-cidr", "fixed-cidr-v6", "group", "init-path", "ip",
    "log-driver", "log-format", "log-level", "metrics-addr", "pidfile", "seccomp-profile",
    "storage-driver", "tlscacert", "tlscert", "tlskey", "userland-proxy-path", "userns-remap",
)  # fmt: skip
LISTS = (
    "allow-nondistributable-artifacts",
    "authorization-plugins",
    "cdi-spec-dirs",
    "default-address-pools",
    "dns",
    "dns-opts",
    "dns-search",
    "exec-opts",
    "hosts",
    "insecure-registries",
    "labels",
    "node-generic-resources",
    "registry-mirrors",
    "storage-opts",
)
OBJECTS = (
    "builder",
    "default-network-opts",
    "default-ulimits",
    "features",
    "log-opts",
    "proxies",
    "runtimes",
)
TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(TRUTHS, (bool, "true or false")),
    **dict.fromkeys(NUMBERS, (int, "a whole number")),
    **dict.fromkeys(TEXTS, (str, "a text")),
    **dict.fromkeys(LISTS, (list, "a list")),
    **dict.fromkeys(OBJECTS, (dict, "an object")),
}
REMEDY = "correct the value: dockerd does not start with it"


def parse(text: str, name: str) -> dict[str, Any]:
    """Return the settings of a file; none for an empty file.

    :raises InvalidInput: if the text is no JSON object.
    """
    try:
        settings = json.loads(text.strip() or "{}", parse_constant=_refuse)
    except ValueError as error:
        raise InvalidInput(
            "the file is not JSON.", name=name, cause=str(error), remedy=REMEDY
        ) from error
    except RecursionError as error:
        raise InvalidInput("the file is nested too deeply.", name=name, remedy=REMEDY) from error
    if not isinstance(settings, dict):
        raise InvalidInput("the file is not a JSON object.", name=name, remedy=REMEDY)
    return settings


def check_types(settings: Mapping[str, Any], name: str) -> None:
    """Refuse a value whose type dockerd does not accept.

    :raises InvalidInput: with key and value.
    """
    for key, value in sorted(settings.items()):
        kind, title = TYPES.get(key, (object, ""))
        if value is not None and (
            not isinstance(value, kind) or (kind is int and isinstance(value, bool))
        ):
            excerpt = json.dumps(value, default=str)[:100]
            raise InvalidInput(
                f"{key} is {excerpt}, and must be {title}.", name=name, remedy=REMEDY
            )
    for key, value in sorted(dict(settings.get("log-opts") or {}).items()):
        if not isinstance(value, str):
            raise InvalidInput(
                f"log-opts: {key} is {json.dumps(value, default=str)[:100]}, and must be a text.",
                name=name,
                remedy=f'write "{key}": "{value}"',
            )


def check_file(text: str, name: str = PATH) -> None:
    """Refuse a file with which dockerd of a template would not start.

    :raises InvalidInput: with the reason.
    """
    settings = parse(text, name)
    check_types(settings, name)
    if conflicts := [key for key in FLAGS if key in settings]:
        raise InvalidInput(
            f"{conflicts[0]} cannot be set in this file.",
            name=name,
            cause="the unit docker.service sets it with a flag, and dockerd does not start "
            "if both set it",
            remedy=f"remove {conflicts[0]} from the file",
        )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
