# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a lease."""

from __future__ import annotations

from dataclasses import dataclass

from .access_info import DockerAccess
from .info import Info


@dataclass(frozen=True, kw_only=True)
class LeaseInfo(Info):
    """A lease.

    :param id: the ID of the lease. With the ID a lease can be renewed and released. It gives no
        access to the host.
    :param holder: the holder of the lease.
    :param taken: the time at which the lease began, in seconds since the epoch.
    :param until: the time at which the lease ends, in seconds since the epoch.
    :param ended: whether the lease has expired. Its host will be deleted.
    :param certificate: the serial number of the client certificate of the lease, in hexadecimal
        digits.
    :param host: the name of the host.
    :param fleet: the fleet that the host belongs to.
    :param tenant: the tenant that the host belongs to.
    :param address: the address of the host.
    :param docker: the connection parameters for a Docker client, with a certificate that is valid
        for this host only.
    """

    id: str
    holder: str
    taken: float  # words: a field of records and results
    until: float
    ended: bool
    certificate: str
    host: str
    fleet: str
    tenant: str
    address: str
    docker: DockerAccess
