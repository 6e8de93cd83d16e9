# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a container host, for modules that run on the host itself, over SSH or another
connection of Ansible.

This package uses no hypervisor and no yard, and needs only the standard library on the host.
"""
