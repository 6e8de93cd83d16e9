# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image begins with, and where its packages come from."""

from __future__ import annotations


class ModuleDocFragment:
    """What modules that build images have in common."""

    DOCUMENTATION = r"""
options:
  cloud_image:
    description:
      - A cloud image to begin with, instead of packages alone. It is a disk in the format qcow2 that boots with a BIOS
        and has cloud-init, and it is of O(suite).
      - It is booted once in a machine that is thrown away and reaches nothing. cloud-init puts in what a host needs,
        then O(packages), O(files) and O(preload). After that cloud-init is off for good.
      - Its kernel stays. O(disk_gib) has to be at least the size of its disk.
      - It is not for vSphere, where a template is a clone.
    type: dict
    suboptions:
      location:
        description:
          - An absolute path on the machine that the module runs on, or an C(https) URL. Where it is does not count for
            the digest of the template.
        type: str
        required: true
      checksum:
        description:
          - Its checksum, as C(sha256:) or C(sha512:) and hexadecimal digits. Required for a URL. The image is held
            against it before anything is made of it, and kept, so that it is fetched once.
          - Of a file without one the content counts for the digest, and all of it is read in every run.
        type: str
        default: ""
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
