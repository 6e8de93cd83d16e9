# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a template's warm-up before the freeze."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  preload:
    description:
      - Images that Docker contains in the template, and therefore in every host. Each item has
        exactly one of O(preload[].archive), O(preload[].rootfs), O(preload[].image) and
        O(preload[].build). The content of the images is part of the template's digest.
      - Paths are on the machine that the module runs on. Requires O(docker=running).
    type: list
    elements: dict
    default: []
    suboptions:
      archive:
        description: A file that C(docker save) created.
        type: str
      rootfs:
        description: A root file system as a tar file, in the format of C(docker import).
        type: str
      image:
        description:
          - An image in a registry, referenced by its digest, as C(registry.example/app@sha256:…).
            With the prefix C(http://) the registry is contacted without TLS. The downloaded data
            are always validated against the digest.
          - The machine that the module runs on downloads the image, without credentials.
        type: str
      build:
        description:
          - A directory with a C(Dockerfile) to build in the template. The build has no network.
            Preload the base image before it.
        type: str
      name:
        description:
          - The name of the image in Docker. Required unless O(preload[].archive) is set, whose
            images have names already.
        type: str
        default: ""
  commands:
    description:
      - Commands that root's shell runs once in the template, after Docker is up and the images are
        preloaded, and before the freeze. They have no network. If a command fails, no template is
        created.
    type: list
    elements: str
    default: []
  provision:
    description:
      - A playbook or roles that Ansible runs against the template after O(commands) and before the
        freeze. C(ansible-playbook) of the machine that the module runs on does this, over SSH with
        a pinned host key.
      - The template has no other network connection. Install packages with O(packages).
      - If the run fails, no template is created, and the error contains the output of Ansible.
      - Every host contains the result. Do not put secrets into it.
    type: dict
    suboptions:
      playbook:
        description:
          - The path of the playbook. Its plays must use the group C(template) or C(all), which
            contain only the template. A play for a host that does not exist is an error.
          - All files in the playbook's directory are part of the template's digest, except hidden
            files.
          - Mutually exclusive with O(provision.roles).
        type: str
      roles:
        description:
          - Directories of roles, which are applied in their order as root. All files in them are
            part of the template's digest.
          - Mutually exclusive with O(provision.playbook).
        type: list
        elements: str
      variables:
        description: Extra variables. They are part of the template's digest.
        type: dict
        default: {}
      files:
        description:
          - Files and directories, relative to the playbook's directory, that are part of the
            template's digest instead of the whole directory. The playbook itself is always part of
            it.
        type: list
        elements: str
        default: []
"""
