# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast stockyard is, beside what it is made of and what it replaces. ``python -m bench.run
--help`` says how.
"""
