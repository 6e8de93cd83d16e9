# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of the module template_transfer: shows its progress while it runs."""

from __future__ import annotations

from ansible_collections.stockyard.container_hosts.plugins.plugin_utils._progress import (
    ProgressAction,
)


class ActionModule(ProgressAction):
    """Progress of the module, as all action plugins of this collection show it."""
