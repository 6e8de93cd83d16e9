# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benchmarks of stockyard, compared with its components and with the tools that it replaces.
``python -m bench.run --help`` describes the subjects.
"""
