# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an image's packages come from."""

from __future__ import annotations


class ModuleDocFragment:
    """What modules that build images have in common."""

    DOCUMENTATION = r"""
options:
  mirror:
    description:
      - The Debian mirror that the image is built from, by default Debian's own.
      - A change of it builds no new generation. Nor does one of O(security_mirror), O(proxy) or O(repositories).
    type: str
    default: ""
  security_mirror:
    description:
      - The mirror of Debian's security updates that goes with O(mirror).
    type: str
    default: ""
  proxy:
    description:
      - An HTTP proxy for the download of packages.
    type: str
    default: ""
  repositories:
    description:
      - Repositories of packages beside the mirror, such as your own. The latest version of a package is taken, wherever
        it is.
      - They are for the build alone. The hosts know nothing of them.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description:
          - Where the repository is, as C(http), C(https) or C(file).
        type: str
        required: true
      signed_by:
        description:
          - The public key that it is signed with, as C(gpg --armor --export) prints it. One that is not signed cannot
            be used.
        type: str
        required: true
      suite:
        description:
          - Its suite, by default the image's own. One that ends with a slash is a directory without components.
        type: str
        default: ""
      components:
        description:
          - Its components.
        type: list
        elements: str
        default: [main]
"""
