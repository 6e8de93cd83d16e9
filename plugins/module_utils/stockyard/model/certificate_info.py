# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a client certificate."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True, kw_only=True)
class ClientCertificateInfo(Info):
    """A valid client certificate.

    :param name: the user or job that the certificate is for.
    :param tenant: the tenant whose hosts accept the certificate.
    :param directory: the directory of the newest certificate for this name.
    :param serial: the serial number, in hexadecimal digits.
    :param not_after: the end of the validity, in seconds since the epoch.
    """

    name: str
    tenant: str
    directory: str
    serial: str
    not_after: float
