# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Sphinx makes the site. Nothing is fetched: no theme, no inventory of other sites, no font."""

from __future__ import annotations

project = "stockyard.container_hosts"
author = "stockyard contributors"
project_copyright = "stockyard contributors, GPL-3.0-or-later"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_antsibull_ext"]
exclude_patterns = ["examples/**"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Container hosts as cattle", "page_width": "72rem", "sidebar_width": "15rem"}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Ansible's own pages are elsewhere, and its modules are named in the text.
suppress_warnings = ["ref.ref", "docutils"]
