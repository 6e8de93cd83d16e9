# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a template outside of a hypervisor."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True, kw_only=True)
class ArtifactInfo(Info):
    """A template in a registry or a file.

    :param location: the reference or the path.
    :param digest: the digest of the manifest. Empty if it does not exist yet.
    :param key: the public key of the signer.
    :param generation: the first twelve digits of the template's generation.
    :param total_bytes: the size of the compressed content.
    :param sent_bytes: the size of the content that was transferred. The other content existed.
    """

    location: str
    digest: str
    key: str
    generation: str
    total_bytes: int
    sent_bytes: int
