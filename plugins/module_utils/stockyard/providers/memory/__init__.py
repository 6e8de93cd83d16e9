# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisor without machines, for tests of your own playbooks and programs:
``memory:///absolute/file``.

The provider implements the whole port: templates, forks, identities (by the real agent, with real
keys and certificates), compare-and-set, locks. Missing features are declared as capabilities: no
endpoint of a host answers.

A file ``file.d/mirror.json`` replaces a Debian mirror: package to version. A package that the file
does not contain has version 1.

The state is in ``file`` (records, JSON) and in ``file.d`` (locks, and the guests' disks as
directories). It outlives a process, and all processes with the same URI share it. Remove both to
start with an empty hypervisor.
"""
