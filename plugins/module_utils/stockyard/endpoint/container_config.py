# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a new container, as clients send it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..guest.security.reader.grammar import Refusal
from .calls import decode
from .sizes import LIMITS


def _is_anything(_value: Any) -> bool:
    return True


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of(check: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and all(check(item) for item in value)


def _is_texts(value: Any) -> bool:
    return _is_list_of(_is_text, value)


def _is_mounts(value: Any) -> bool:
    return _is_list_of(_is_mount, value)


def _is_mount(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    options = value.get("VolumeOptions") or {}
    return (
        isinstance(options, dict)
        and isinstance(options.get("DriverConfig") or {}, dict)
        and isinstance(options.get("Labels") or {}, dict)
    )


def _is_bindings(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_list_of(_is_object, targets or []) for targets in value.values()
    )


# The fields that the endpoint reads, each with the check of its value.
_CONFIG = {
    "Image": _is_text,
    "ExposedPorts": _is_object,
    "HostConfig": _is_object,
    "NetworkingConfig": _is_object,
}
_NETWORKING = {"EndpointsConfig": _is_object}
_HOST: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys((*LIMITS, "PublishAllPorts"), _is_anything),
    "Binds": _is_texts,
    "Mounts": _is_mounts,
    "PortBindings": _is_bindings,
    "VolumesFrom": _is_texts,
    "Links": _is_texts,
    "NetworkMode": _is_text,
    "IpcMode": _is_text,
    "PidMode": _is_text,
    "VolumeDriver": _is_text,
}


def parse_config(body: bytes) -> dict[str, Any]:
    """Return the configuration in the body of a call.

    :raises Refusal: if it is none that Docker accepts, or has a field in another spelling: Docker
        ignores the case of fields, and would read what the endpoint did not.
    """
    config = decode(body)
    if not isinstance(config, dict):
        raise Refusal("Config cannot be empty in order to create a container")
    _check(config, _CONFIG)
    _check(config.get("HostConfig") or {}, _HOST)
    _check(config.get("NetworkingConfig") or {}, _NETWORKING)
    return config


def _check(fields: Mapping[str, Any], checks: Mapping[str, Callable[[Any], bool]]) -> None:
    spellings = {name.lower(): name for name in checks}
    for field, value in fields.items():
        name = spellings.get(field.lower(), field)
        if name != field:
            raise Refusal(f"The field {field} of the configuration is written {name}.")
        if value is not None and name in checks and not checks[name](value):
            raise Refusal(f"The field {field} of the configuration has a wrong type.")
