# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor without machines, for tests of your own playbooks and programs:
``memory:///absolute/file``.

It does all that the port asks: templates, forks, identities (by the real agent, with real keys and
certificates), compare and set, locks. What it lacks it declares: no endpoint of its hosts answers.

A file ``file.d/mirror.json`` stands in for a Debian mirror: package to version. What is not in it
has version 1.

Everything lives in ``file`` (what is on record, JSON) and in ``file.d`` beside it (locks, and the
guests' disks as directories), so that it outlives a process and is shared by all that name it.
Remove both to begin anew.
"""
