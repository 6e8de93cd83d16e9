# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """The same for all subjects.

    :param work: where results and what is needed for them are kept.
    :param full: all sizes, and what takes long.
    :param samples: how often what is short is measured.
    :param minutes: when an idle fork's memory is looked at; as the subject says when empty.
    :param ansible: an environment with other people's collections; empty for none.
    """

    work: Path
    full: bool
    samples: int
    minutes: tuple[int, ...] = ()
    ansible: str = ""
