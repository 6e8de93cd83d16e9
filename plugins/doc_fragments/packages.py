# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the sources of an image: cloud image, mirrors and repositories."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  cloud_image:
    description:
      - A cloud image to start from, instead of packages alone. It must be a qcow2 disk with the
        release O(suite) that boots with a BIOS and contains cloud-init.
      - The image is booted once in a temporary machine without network access. cloud-init installs
        the packages that a host needs, then O(packages), O(files) and O(preload). After that
        cloud-init is disabled.
      - The image keeps its kernel. O(disk_gib) must be at least the size of the image's disk.
      - Not supported on vSphere, where a template is a clone of O(source).
    type: dict
    suboptions:
      location:
        description:
          - An absolute path on the machine that the module runs on, or an C(https) URL. The
            location does not change the digest of the template.
        type: str
        required: true
      checksum:
        description:
          - The checksum of the image, as C(sha256:) or C(sha512:) and hexadecimal digits. Required
            for a URL.
          - The image is validated before it is used, and cached, so that it is downloaded once.
          - Without a checksum, the content of a file determines the digest of the template, and
            every run reads the whole file.
        type: str
        default: ""
  mirror:
    description:
      - The Debian mirror from which the image is built. By default Debian's own mirror.
      - A change of O(mirror), O(security_mirror), O(proxy) or O(repositories) does not build a new
        generation.
    type: str
    default: ""
  security_mirror:
    description: The mirror of Debian's security updates that belongs to O(mirror).
    type: str
    default: ""
  proxy:
    description: An HTTP proxy for the download of packages.
    type: str
    default: ""
  repositories:
    description:
      - Additional package repositories, such as your own. The latest version of a package is
        installed, whichever repository provides it.
      - Repositories are used for the build only. The hosts have no configuration of them.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: The URL of the repository. The scheme must be C(http), C(https) or C(file).
        type: str
        required: true
      signed_by:
        description:
          - The public key of the repository, as C(gpg --armor --export) prints it. Unsigned
            repositories are not supported.
        type: str
        required: true
      suite:
        description:
          - The suite of the repository. By default the suite of the image. A suite that ends with a
            slash is a directory without components.
        type: str
        default: ""
      components:
        description: The components of the repository. Required unless the suite ends with a slash.
        type: list
        elements: str
        default: [main]
"""
