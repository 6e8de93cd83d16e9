# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of the memory hypervisor with the agent of an older template."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from stockyard.providers.memory import guest
from stockyard.providers.memory.guest import NoEffects
from stockyard.providers.memory.volumes import FolderDisks

AGENTS = Path(__file__).parents[1] / "unit" / "guest" / "agents"


class EffectsOfVersion4(NoEffects):
    """The effects with the names that agents before version 6 call them by."""

    def hurry(self, on: bool) -> None:
        self.prioritize(on)


class DisksOfVersion4(FolderDisks):
    """The disks with the names that agents before version 6 call them by."""

    def seal(self, device: str, key: str) -> None:
        self.encrypt(device, key)

    def make(self, device: str, uuid: str) -> None:
        self.format(device, uuid)


def use_agent_of_version_4(patch: pytest.MonkeyPatch) -> None:
    """Let every guest run the agent of version 4, until the patch is undone."""
    modules = {name: agent_of_version_4(name) for name in ("apply", "main", "volumes")}
    patch.setattr(guest, "Identity", modules["apply"].Identity)
    patch.setattr(guest, "Agent", modules["main"].Agent)
    patch.setattr(guest, "Volumes", modules["volumes"].Volumes)
    patch.setattr(guest, "NoEffects", EffectsOfVersion4)
    patch.setattr(guest, "FolderDisks", DisksOfVersion4)


def agent_of_version_4(module: str) -> Any:
    """Return a module of the agent of version 4."""
    archive = str(AGENTS / "version-4.zip")
    if archive not in sys.path:
        sys.path.append(archive)
    return importlib.import_module(f"stockyard_agent_4.{module}")
