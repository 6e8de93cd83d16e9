# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules do on the very machine that they run on: a container host, over SSH or any other way
of Ansible's.

It knows no hypervisor and no yard, and needs nothing but the standard library there.
"""
