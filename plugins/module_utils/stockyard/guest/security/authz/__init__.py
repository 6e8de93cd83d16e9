# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker authorization plugin: looks at each request to dockerd and refuses what leads out of a
container.

The same files are imported by the tests and put into hosts. They use the standard library alone,
and nothing of the rest of the SDK.
"""
