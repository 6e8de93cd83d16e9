# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes that a controller who died left half-made or half-deleted, and those held by hosts that
are gone.
"""

from __future__ import annotations

from ...errors import Conflict, NotFound
from ...model.volume import VolumeRecord
from ...planning.plan import Action
from ...planning.retention import SkippedObject
from ...planning.volumes import HALF
from ..context import Context
from . import attachment

LOCK_WAIT = 5.0
GONE = "the host that had it is gone"


def run(ctx: Context, grace: float, *, check: bool) -> tuple[list[Action], list[SkippedObject]]:
    """Take away what is half there, and let go what nobody has. A whole volume is never taken away.

    :param grace: seconds that one may take to be made.
    :return: what was done, or would be, and what is left alone.
    """
    done: list[Action] = []
    # Volumes first: who has one then was on record before that.
    found = ctx.provider.volumes.observe(ctx.owner)
    hosts = attachment.living(ctx.provider.observe(ctx.owner))
    left = [
        SkippedObject("volume", s.name.removeprefix("volume "), s.reason) for s in found.unreadable
    ]
    for volume in found.volumes:
        half = volume.phase == "deleting" or (
            volume.phase == "creating" and ctx.clock.now() - volume.created >= grace
        )
        void = volume.holder and hosts is not None and volume.holder.uuid not in hosts
        try:
            if half:
                done += _destroyed(ctx, volume, check)
            elif void:
                done += _let_go(ctx, volume, check)
        except (Conflict, NotFound) as error:
            left.append(SkippedObject("volume", volume.name, str(error)))
    return done, left


def _destroyed(ctx: Context, volume: VolumeRecord, check: bool) -> list[Action]:
    if not check:
        name = ctx.lock_name("volume", volume.tenant, volume.name)
        with ctx.provider.exclusive(name, ctx.deadline(LOCK_WAIT)):
            ctx.provider.volumes.claim(volume, phase="deleting", holder=None)
            ctx.provider.volumes.destroy(volume)
        ctx.progress(f"{volume.title}: {HALF[volume.phase]}, deleted")
    return [
        Action("destroy", "volume", volume.name, HALF[volume.phase], {"phase": volume.phase}, {})
    ]


def _let_go(ctx: Context, volume: VolumeRecord, check: bool) -> list[Action]:
    holder = volume.holder.host if volume.holder else ""
    if not check:
        ctx.provider.volumes.claim(volume, holder=None)
        ctx.progress(f"{volume.title}: {GONE} ({holder}); it stays")
    return [Action("detach", "volume", volume.name, GONE, {"host": holder}, {})]
