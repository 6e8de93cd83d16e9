# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import hypothesis
from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(__file__).parents[1] / "build" / "cache" / "hypothesis")
# No deadline: a loaded machine is not a bug. Failures print the line that replays them.
hypothesis.settings.register_profile("stockyard", deadline=None, print_blob=True, max_examples=50)
hypothesis.settings.load_profile("stockyard")
