# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configure the documentation site. The build fetches nothing: no inventory of other sites, no
font.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.transforms import SphinxTransform

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "stockyard"
author = "stockyard contributors"
project_copyright = "stockyard contributors, GPL-3.0-or-later"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_antsibull_ext",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["examples/**"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "stockyard"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#9a4420", "color-brand-content": "#9a4420"},
    "dark_css_variables": {"color-brand-primary": "#f0a681", "color-brand-content": "#f0a681"},
}
pygments_dark_style = "monokai"
# A copied console block holds the commands only: no prompt, no output.
copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Ansible's own pages are on another site, and the text names its modules.
suppress_warnings = ["ref.ref", "docutils"]


class DarkPictures(SphinxTransform):
    """Give each SVG picture a second file for dark mode. ``hack/docs_site.py`` writes
    those files.
    """

    default_priority = 400

    def apply(self) -> None:
        """Add the dark picture after each light one."""
        for image in list(self.document.findall(nodes.image)):
            path = image["uri"]
            if path.startswith("pictures/") and path.endswith(".svg"):
                dark = image.deepcopy()
                dark["uri"] = path.removesuffix(".svg") + "-dark.svg"
                image["classes"].append("only-light")
                dark["classes"].append("only-dark")
                image.parent.insert(image.parent.index(image) + 1, dark)


def setup(app: Sphinx) -> None:
    """Register the transform."""
    app.add_transform(DarkPictures)
