# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as build agents of a Jenkins controller: each host of a fleet has a node, and each of its
nodes has a host.
"""

from __future__ import annotations

from .agents import Agents
from .client import Controller
from .spec import AgentSpec

__all__ = ["AgentSpec", "Agents", "Controller"]
