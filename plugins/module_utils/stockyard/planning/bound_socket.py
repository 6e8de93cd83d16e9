# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether containers of an endpoint can bind its socket. Pure."""

from __future__ import annotations

from ..errors import OperationRefused
from ..model.host import HostRecord


def check_bindable(profile: str, record: HostRecord | None) -> None:
    """Check that containers can get the socket of an endpoint.

    :param profile: the security profile of the image host.
    :param record: the image host, if it exists.
    :raises OperationRefused: if containers are not trusted, or the tunnels of the socket cannot be
        opened.
    """
    if profile != "trusted":
        raise OperationRefused(
            "socket_in_containers: a container with the socket controls the endpoint, which the "
            f"security profile {profile} does not permit.",
            name=record.title if record else "",
            remedy="use a template with the profile trusted, or omit socket_in_containers",
        )
    if record and record.spec.authorized_keys:
        raise OperationRefused(
            "socket_in_containers: the operator's SSH key opens the tunnel of the socket, and the "
            "host has other authorized_keys.",
            name=record.title,
            remedy="use an image host without authorized_keys, or omit socket_in_containers",
        )
