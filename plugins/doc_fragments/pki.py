# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of keys and certificates."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  pki_dir:
    description:
      - The directory for keys and certificates, on the machine that the module runs on.
        C(OWNER/TENANT) in it contains the files of one tenant. C(docs/pki.md) explains the backup.
      - The directory is created when it is first needed. By default C(stockyard) in the user's
        configuration directory, such as C(~/.config/stockyard).
    type: path
  ca_certificate:
    description:
      - The certificate of the tenant's certificate authority, as PEM text. It replaces the
        authority in O(pki_dir).
      - If the certificate has a key usage extension, that must permit the signing of certificates
        and revocation lists.
      - Requires O(ca_private_key).
    type: str
  ca_private_key:
    description:
      - The private key of the tenant's certificate authority, as unencrypted PEM text. It is never
        written to disk.
      - Requires O(ca_certificate).
    type: str
  volume_key:
    description:
      - The secret from which the keys of encrypted volumes are derived, at least 32 random
        characters, such as the output of C(openssl rand -hex 32). Each volume has its own key,
        which is sent to the agent of its host and is never stored.
      - Required to create, start or unlock hosts whose template has C(security.encrypted_data). If
        the secret is lost, the data on the volumes are lost too.
    type: str
"""
