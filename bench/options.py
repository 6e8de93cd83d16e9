# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Options for all subjects.

    :param work: the directory for results and temporary objects.
    :param full: whether to measure all sizes and slow subjects.
    :param samples: the number of samples of short measurements.
    :param minutes: the times at which the memory of an idle fork is measured; the subject's default
        if empty.
    :param ansible: an environment with other collections of Ansible; empty for none.
    """

    work: Path
    full: bool
    samples: int
    minutes: tuple[int, ...] = ()
    ansible: str = ""
