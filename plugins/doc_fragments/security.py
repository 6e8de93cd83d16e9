# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option security."""

from __future__ import annotations


class ModuleDocFragment:
    """Read by Ansible."""

    DOCUMENTATION = r"""
options:
  security:
    description:
      - How well the hosts are shut. A profile, and what is to be otherwise. What is left out is as the profile has it.
      - A change of it builds a new generation.
    type: dict
    suboptions:
      profile:
        description:
          - V(trusted) is for a machine of one's own. Privileged containers work.
          - V(shared) is for people who mean well. The root of a container is no root of the host, containers do not
            gain privileges, do not reach each other on the default network, and have limits.
          - V(hostile) is for whoever tries to get out. An authorization plugin looks at each request as well, and the
            kernel keeps a record of who touches Docker's files.
        type: str
        choices: [trusted, shared, hostile]
        default: trusted
      user_namespaces:
        description:
          - V(none), V(remap) (containers have user IDs of their own) or V(rootless) (dockerd runs as an ordinary user).
        type: str
        choices: [none, remap, rootless]
      no_new_privileges:
        description:
          - Whether programs in containers are kept from gaining privileges.
        type: bool
      icc:
        description:
          - Whether containers on the default network reach each other.
        type: bool
      kernel:
        description:
          - Whether the kernel, modules and OpenSSH are hardened.
        type: bool
      firewall:
        description:
          - Whether there is a firewall that lets SSH, Docker's TLS port and published ports in, and keeps containers
            from the host's own services.
        type: bool
      audit:
        description:
          - Whether the kernel keeps a record of who changes Docker's programs, files and sockets.
        type: bool
      authorization:
        description:
          - Whether an authorization plugin looks at each request to dockerd. It fails closed.
        type: bool
      encrypted_data:
        description:
          - Whether all volumes of its hosts are encrypted. It needs O(ignore:docker=stopped), and O(ignore:volume_key)
            in every task that makes, starts or opens such hosts.
        type: bool
        default: false
      seccomp:
        description:
          - A seccomp profile as JSON text, instead of Docker's own. It has to forbid by default.
        type: str
        default: ""
      sysctls:
        description:
          - Kernel settings, which win over those of the profile.
        type: dict
        default: {}
      limits:
        description:
          - What containers may use. 0 is no limit.
        type: dict
        suboptions:
          pids:
            description: Processes of all containers together.
            type: int
          memory_percent:
            description: Memory of all containers together, in hundredths of the host's.
            type: int
          cpu_percent:
            description: CPU time of all containers together, in hundredths of one CPU.
            type: int
          cpus:
            description: The CPUs that containers run on, such as V(0,2-3).
            type: str
          read_mib:
            description: MiB a second that all containers together read from the disk.
            type: int
          write_mib:
            description: MiB a second that all containers together write to the disk.
            type: int
          network_mib:
            description: MiB a second that all containers together send.
            type: int
          disk_percent:
            description:
              - What images and containers take of the host's disk, and of its inodes, in hundredths, at most 90. They
                then have a file system of their own. With C(docker=stopped) the volume is that.
            type: int
          container_pids:
            description: Processes of a container that asks for no limit of its own.
            type: int
          container_memory_percent:
            description: Memory of such a container, in hundredths of the host's.
            type: int
      policy:
        description:
          - What the authorization plugin lets through.
        type: dict
        suboptions:
          mounts:
            description: Paths of the host that containers may mount, exactly these.
            type: list
            elements: str
            default: []
          images:
            description: Images that may be pulled and run. A V(*) at the end stands for anything. Empty is all.
            type: list
            elements: str
            default: []
          by_digest:
            description:
              - Whether images must be named by their digest (C(name@sha256:…)). The bare ID of an image is refused.
            type: bool
            default: false
          build:
            description: Whether images may be built. Without V(remap) they may not, whatever is said here.
            type: bool
            default: true
"""
