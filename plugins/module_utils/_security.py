# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Option security and its specification."""

from __future__ import annotations

from typing import Any

from .stockyard.model.security import PROFILES, USER_NAMESPACES, Policy, SecuritySpec

Params = dict[str, Any]

LIMITS: Params = {
    "pids": {"type": "int"},
    "memory_percent": {"type": "int"},
    "cpu_percent": {"type": "int"},
    "cpus": {"type": "str"},
    "read_mib": {"type": "int"},
    "write_mib": {"type": "int"},
    "network_mib": {"type": "int"},
    "disk_percent": {"type": "int"},
    "container_pids": {"type": "int"},
    "container_memory_percent": {"type": "int"},
}

POLICY: Params = {
    "mounts": {"type": "list", "elements": "str", "default": []},
    "images": {"type": "list", "elements": "str", "default": []},
    "by_digest": {"type": "bool", "default": False},
    "build": {"type": "bool", "default": True},
}

SECURITY: Params = {
    "profile": {"type": "str", "choices": list(PROFILES), "default": "trusted"},
    "user_namespaces": {"type": "str", "choices": list(USER_NAMESPACES)},
    "no_new_privileges": {"type": "bool"},
    "icc": {"type": "bool"},
    "kernel": {"type": "bool"},
    "firewall": {"type": "bool"},
    "audit": {"type": "bool"},
    "authorization": {"type": "bool"},
    "seccomp": {"type": "str", "default": ""},
    "sysctls": {"type": "dict", "default": {}},
    "limits": {"type": "dict", "options": LIMITS},
    "policy": {"type": "dict", "options": POLICY},
    "encrypted_data": {"type": "bool", "default": False},
}


def security_spec(params: Params) -> SecuritySpec:
    """Return the security settings of hosts that a task declares."""
    limits = {name: value for name, value in (params["limits"] or {}).items() if value is not None}
    policy = params["policy"]
    lists = {name: tuple(policy[name]) for name in ("mounts", "images")} if policy else {}
    return SecuritySpec(
        **{
            **params,
            "sysctls": {name: str(value) for name, value in params["sysctls"].items()} or None,
            "limits": limits or None,
            "policy": Policy(**{**policy, **lists}) if policy else None,
        }
    )
