# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts of a tenant are to trust and to show, and how one differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..model.host import Identity

NEW = "known after it is made"


@dataclass(frozen=True)
class Trust:
    """What a host of a tenant is to be admitted with.

    :param authority: fingerprint of the tenant's CA; empty where there is none yet.
    :param renew_before: a certificate that ends before this moment is due, in seconds since the
        epoch.
    :param revoked: serial numbers of revoked client certificates, each with its end.
    """

    authority: str
    renew_before: float
    revoked: Mapping[str, float] = field(default_factory=dict)

    def reasons(self, identity: Identity | None) -> list[str]:
        """Why a host has to be admitted anew; empty when it has not."""
        if identity is None:
            return []
        found = [self._of_authority(identity.authority)]
        if identity.not_after < self.renew_before:
            found.append(
                f"its certificate ends on "
                f"{datetime.fromtimestamp(identity.not_after, UTC):%Y-%m-%d}"
            )
        if self.revoked.keys() - identity.revoked.keys():
            found.append("its list of revoked certificates is behind")
        return [reason for reason in found if reason]

    def shown(self) -> dict[str, Any]:
        """What a host has after it was admitted, for a diff."""
        return {
            "authority": self.authority or NEW,
            "certificate": NEW,
            "revoked": sorted(self.revoked),
        }

    def _of_authority(self, theirs: str) -> str:
        # Hosts on record since before it was recorded say nothing of their CA.
        if theirs in ("", self.authority):
            return ""
        return (
            f"it trusts another CA ({theirs[:12]})"
            if self.authority
            else "its CA is not here: a new one is made"
        )


def shown(identity: Identity) -> dict[str, Any]:
    """What a host has now, for a diff."""
    return {
        "authority": identity.authority,
        "certificate": identity.certificate,
        "revoked": sorted(identity.revoked),
    }
