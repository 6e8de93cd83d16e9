# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The deletion of an object whose creation failed. A failed deletion is reported with the first
failure.
"""

from __future__ import annotations

from ..errors import StockyardError
from ..model.observation import Record
from .context import Context


def undo(ctx: Context, record: Record, error: BaseException) -> None:
    """Delete an incomplete object; its console log is kept, and the error names the log.

    :raises StockyardError: if the object could not be deleted: with both causes, and the note that
        the rest is on record.
    """
    log = ctx.provider.keep_log(record)
    if log and isinstance(error, StockyardError):
        error.remedy = "; ".join(
            part for part in (error.remedy, f"the guest's console log is in {log}") if part
        )
    try:
        ctx.provider.destroy(record)
    except StockyardError as second_error:
        raise StockyardError(
            "the creation failed, and its remains could not be deleted.",
            name=record.title,
            cause=f"{error}; then {second_error}",
            remedy="correct the second cause and run again: the next run deletes the remains",
        ) from error
