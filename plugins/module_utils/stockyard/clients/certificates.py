# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Client certificates of a yard, for users of the SDK."""

from __future__ import annotations

from ..model.certificate_info import ClientCertificateInfo
from ..resources.certificates import clients
from ..resources.certificates.clients import CertificateIssue, CertificateRevocation, Client
from ..resources.context import Context
from ..resources.operation import run
from ..result import Result

TIMEOUT = 600.0


class CertificatesClient:
    """The client certificates of a yard: ``yard.certificates``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def issue(self, client: Client, *, check: bool = False) -> Result[ClientCertificateInfo]:
        """Issue a client certificate into a directory; replace it if less than a third of its life
        remains, or if it was revoked.
        """
        plan = run(CertificateIssue(self._context, client), check=check, timeout=TIMEOUT)
        return Result(plan, clients.describe(self._context, client))

    def revoke(
        self,
        client: Client,
        *,
        certificate: str = "",
        serial: str = "",
        check: bool = False,
        timeout: float = TIMEOUT,
    ) -> Result[ClientCertificateInfo]:
        """Make all running hosts of a tenant refuse a client: all certificates that this controller
        issued to the client, and a certificate that is given as PEM or by its serial number in hex.
        """
        serials = clients.serials_of(self._context, client, certificate, serial)
        revocation = CertificateRevocation(self._context, client.tenant, client.name, serials)
        plan = run(revocation, check=check, timeout=timeout)
        return Result(plan, clients.describe(self._context, client))
