# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trust of hosts of a tenant: CA, certificate and revocations, and how a host differs
from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..model.host import Identity

NEW = "known after its creation"


@dataclass(frozen=True)
class Trust:
    """The CA, the certificate and the revocations that a host of a tenant must have.

    :param authority: fingerprint of the tenant's CA; empty if there is none yet.
    :param renew_before: a certificate that ends before this moment is due for renewal, in seconds
        since the epoch.
    :param revoked: serial numbers of revoked client certificates, each with its end.
    """

    authority: str
    renew_before: float
    revoked: Mapping[str, float] = field(default_factory=dict)

    def reasons(self, identity: Identity | None) -> list[str]:
        """Return the reasons to renew the certificate of a host; empty if there are none."""
        if identity is None:
            return []
        reasons = [self._of_authority(identity.authority)]
        if identity.not_after < self.renew_before:
            reasons.append(
                f"its certificate ends on "
                f"{datetime.fromtimestamp(identity.not_after, UTC):%Y-%m-%d}"
            )
        if self.revoked.keys() - identity.revoked.keys():
            reasons.append("its list of revoked certificates is outdated")
        return [reason for reason in reasons if reason]

    def values(self) -> dict[str, Any]:
        """Return the trust of a host after its renewal, for a diff."""
        return {
            "authority": self.authority or NEW,
            "certificate": NEW,
            "revoked": sorted(self.revoked),
        }

    def _of_authority(self, fingerprint: str) -> str:
        # Older records do not contain the CA of their host.
        if fingerprint in ("", self.authority):
            return ""
        return (
            f"it trusts a different CA ({fingerprint[:12]})"
            if self.authority
            else "its tenant has no CA on this controller: a new CA will be created"
        )


def identity_values(identity: Identity) -> dict[str, Any]:
    """Return the present trust of a host, for a diff."""
    return {
        "authority": identity.authority,
        "certificate": identity.certificate,
        "revoked": sorted(identity.revoked),
    }
