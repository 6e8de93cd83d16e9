# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options for keys and certificates."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  pki_dir:
    description:
      - The directory, where the module runs, for keys and certificates. What belongs to one tenant is in
        C(OWNER/TENANT) under it. C(docs/pki.md) tells how to back it up.
      - It is made when it is first needed. By default C(stockyard) in the user's directory for configuration, such as
        C(~/.config/stockyard).
    type: path
  ca_certificate:
    description:
      - The certificate of the tenant's certificate authority, as PEM text. It takes the place of one in O(pki_dir).
        Where it has a key usage, that has to allow signing certificates and revocation lists.
      - Needs O(ca_private_key).
    type: str
  ca_private_key:
    description:
      - The private key of the tenant's certificate authority, as unencrypted PEM text. It is never written to disk.
      - Needs O(ca_certificate).
    type: str
  volume_key:
    description:
      - What the keys of encrypted volumes are made of, at least 32 random characters, such as C(openssl rand -hex 32)
        makes. Each volume has a key of its own, which goes to its host's agent and is written nowhere.
      - It is needed where hosts whose template has C(security.encrypted_data) are made, started or opened. Who loses it
        loses what is on the volumes.
    type: str
"""
