# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker authorization plugin: checks each request to dockerd, and refuses those that lead out of
a container.

The tests import the same files that are installed in hosts. The files use only the standard
library, and no other part of the SDK.
"""
