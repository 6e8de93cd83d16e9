# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options for the template or host that a template is created from."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  docker_packages:
    description:
      - Whose packages of Docker are installed.
      - V(debian) are those of the Debian release, C(docker.io) with C(containerd) and C(runc).
      - V(docker-ce) are those of Docker, C(docker-ce), C(docker-ce-cli) and C(containerd.io). They
        come from a repository in O(repositories), for example
        U(https://download.docker.com/linux/debian) with the component C(stable). A declaration
        without a repository is refused.
      - A derived template has the packages of its parent.
    type: str
    choices: [debian, docker-ce]
    default: debian
  from:
    description:
      - The name of a template of the same tenant to derive this template from. The module forks
        that template, and adds O(packages), O(files), O(preload), O(commands) and O(provision) of
        this one to it. No image is built and no guest boots, so this takes less time than a build.
      - The kernel, the machine (O(vcpus), O(max_vcpus), O(memory_mib), O(max_memory_mib),
        O(spare_ports), O(accelerator)), O(suite), O(docker), O(runtime), O(docker_packages),
        O(ssh_user) and O(disk_gib) are those of the other template. A different value is an error,
        except for a value that is the default of its option, which is ignored.
      - O(security) is that of the other template by default. Another profile restarts the guest
        once. A difference in C(user_namespaces) or C(limits.disk_percent) is an error, because
        Docker would lose the images of the other template.
      - A new generation of the other template leads to a new generation of this one. O(upgrade)
        compares only the packages that this template adds.
      - On vSphere, O(security) is an error, and the machine that the module runs on must reach the
        network of the hosts.
    type: str
    default: ""
  from_host:
    description:
      - The name of a running host of the same tenant to create this template from. The host is
        branched and continues. The branch is scrubbed without a network, and frozen. Its identity,
        keys, logins, logs, histories and volumes are deleted. Files of users, images and containers
        stay, with everything that is secret in them.
      - A template that exists does not follow its host, and stays if the host is deleted. Another
        O(revision) requests a new generation.
      - Excludes all options that describe the content of a template or its machine. Derive another
        template from this one with O(from) to add something.
      - A leased host, a resized host and a host with encrypted data are refused. Not available on
        vSphere.
    type: str
    default: ""
  revision:
    description:
      - A text of your choice. If it changes, a new generation is created from O(from_host). If you
        restore an earlier text, its generation becomes current again, provided it still exists.
    type: str
    default: ""
"""
