# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option security."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation that Ansible merges into modules."""

    DOCUMENTATION = r"""
options:
  security:
    description:
      - The security settings of the hosts. A profile, and settings that differ from it. Omitted
        settings keep the value of the profile.
      - A change builds a new generation.
    type: dict
    suboptions:
      profile:
        description:
          - V(trusted) is for a machine with a single user. Privileged containers work.
          - V(shared) is for several users who trust each other. The root user of a container is not
            root on the host. Containers cannot gain privileges, cannot reach each other on the
            default network, and have limits.
          - V(hostile) is for users who may try to escape from a container. In addition to
            V(shared), an authorization plugin checks each request, and the kernel audits access to
            Docker's files.
        type: str
        choices: [trusted, shared, hostile]
        default: trusted
      user_namespaces:
        description:
          - V(none) uses no user namespaces.
          - V(remap) gives containers their own range of user IDs.
          - V(rootless) runs dockerd as an ordinary user. It cannot be combined with
            O(security.authorization), O(security.limits.network_mib) and
            O(security.limits.disk_percent).
        type: str
        choices: [none, remap, rootless]
      no_new_privileges:
        description: Whether programs in containers are prevented from gaining privileges.
        type: bool
      icc:
        description: Whether containers on the default network can reach each other.
        type: bool
      kernel:
        description: Whether the kernel settings, the kernel modules and OpenSSH are hardened.
        type: bool
      firewall:
        description:
          - Whether the host has a firewall. It accepts SSH, Docker's TLS port and published ports,
            and prevents containers from reaching the host's own services.
        type: bool
      audit:
        description: Whether the kernel audits changes of Docker's programs, files and sockets.
        type: bool
      authorization:
        description:
          - Whether an authorization plugin checks each request to dockerd. If the plugin fails,
            requests are denied.
        type: bool
      encrypted_data:
        description:
          - Whether all volumes of the hosts are encrypted. Requires O(ignore:docker=stopped), and
            O(ignore:volume_key) in every task that creates, starts or unlocks such hosts.
        type: bool
        default: false
      seccomp:
        description:
          - A seccomp profile as JSON text, instead of Docker's own. Its default action must deny
            system calls.
        type: str
        default: ""
      sysctls:
        description: Kernel settings. They override the settings of the profile.
        type: dict
        default: {}
      limits:
        description: The resources that containers can use. V(0) means no limit.
        type: dict
        suboptions:
          pids:
            description: The maximum number of processes of all containers together.
            type: int
          memory_percent:
            description:
              - The maximum memory of all containers together, as a percentage of the host's memory.
            type: int
          cpu_percent:
            description:
              - The maximum CPU time of all containers together, as a percentage of one CPU.
            type: int
          cpus:
            description: The CPUs that containers can run on, such as V(0,2-3). By default all CPUs.
            type: str
          read_mib:
            description:
              - The maximum amount of data that all containers together can read from the disk, in
                MiB per second.
            type: int
          write_mib:
            description:
              - The maximum amount of data that all containers together can write to the disk, in
                MiB per second.
            type: int
          network_mib:
            description:
              - The maximum amount of data that all containers together can send, in MiB per second.
            type: int
          disk_percent:
            description:
              - The share of the host's disk and of its inodes for images and containers, as a
                percentage, at most 90. They then have their own file system.
              - With C(docker=stopped) the volume is that file system.
            type: int
          container_pids:
            description:
              - The maximum number of processes of a container that does not request its own limit.
            type: int
          container_memory_percent:
            description:
              - The maximum memory of a container that does not request its own limit, as a
                percentage of the host's memory.
            type: int
      policy:
        description: The rules of the authorization plugin. Requires an authorization plugin.
        type: dict
        suboptions:
          mounts:
            description:
              - The paths of the host that containers can mount. Paths below them are not included.
            type: list
            elements: str
            default: []
          images:
            description:
              - The images that can be pulled and run. A V(*) at the end matches any text. An empty
                list allows all images.
            type: list
            elements: str
            default: []
          by_digest:
            description:
              - Whether images must be referenced by their digest (C(name@sha256:…)). The bare ID of
                an image is refused.
            type: bool
            default: false
          build:
            description:
              - Whether images can be built. Builds are always denied unless
                O(security.user_namespaces=remap).
            type: bool
            default: true
"""
