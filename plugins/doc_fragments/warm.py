# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of what a template is given before it is frozen."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  preload:
    description:
      - Images that Docker has in the template, and so in every host from its first moment. Each is one of
        O(preload[].archive), O(preload[].rootfs), O(preload[].image) and O(preload[].build). Their content is part
        of the digest of the template.
      - Paths are those of the machine that the module runs on. Needs O(docker=running).
    type: list
    elements: dict
    default: []
    suboptions:
      archive:
        description:
          - A file that C(docker save) wrote.
        type: str
      rootfs:
        description:
          - A root file system as a tar file, as C(docker import) takes it.
        type: str
      image:
        description:
          - An image in a registry by its digest, as C(registry.example/app@sha256:…). With C(http://) before it the
            registry is asked without TLS. What arrives is held against its digest in any case.
          - The registry is asked by the machine that the module runs on, as nobody in particular.
        type: str
      build:
        description:
          - A directory with a C(Dockerfile), which is built in the template. It has no network there. What it is made
            of is preloaded before it.
        type: str
      name:
        description:
          - What Docker is to call it. Required, but for O(preload[].archive), which has names of its own.
        type: str
        default: ''
  commands:
    description:
      - Commands that a shell of root's runs in the template, once, when Docker is up and before it is frozen. They have
        no network. When one fails there is no template.
    type: list
    elements: str
    default: []
"""
