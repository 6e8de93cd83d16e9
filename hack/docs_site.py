# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the generated sources of the documentation site, and check its search.

``docs_site.py sources CHECKOUT SOURCE`` writes dark pictures and the reference of playbook
variables below SOURCE. ``docs_site.py check HTML`` fails if the search of the built site does not
lead from an option to its module.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml
from sphinx.search.en import SearchEnglish

# The colours of the pictures and plots, each with its counterpart on a dark page.
DARK = {
    "#fffdfa": "#131416",
    "#f4ece4": "#2b2622",
    "#6b5b4b": "#b8a896",
    "#f0c8ac": "#5c3420",
    "#b5562b": "#e08a5f",
    "#cfe0e4": "#23393f",
    "#4d7c8a": "#7fb3c2",
    "#2b2622": "#eee6de",
    "#000000": "#e6e6e6",
    "#ffffff": "#131416",
    "#b0b0b0": "#555555",
    "#cccccc": "#555555",
    "#666666": "#aaaaaa",
    "#1f77b4": "#6cb2eb",
    "#d62728": "#f2777a",
}
MARKUP = re.compile(r"\b([A-Z]+)\(([^()]*)\)")
PAGE = """\
# Variables of a declaration

The role `yard` and the playbooks read these variables. A file of them is a declaration: name it
with `-e yard=FILE`.
`site` refuses a name that starts with `yard_` and is not in this list.

The options inside `yard_templates`, `yard_fleets`, `yard_pools` and `yard_volumes` are the options
of the modules
{ansplugin}`template <stockyard.container_hosts.template#module>`,
{ansplugin}`fleet <stockyard.container_hosts.fleet#module>`,
{ansplugin}`pool <stockyard.container_hosts.pool#module>` and
{ansplugin}`volume <stockyard.container_hosts.volume#module>`.
"""


# Options that users search for, each with a page that the search must offer.
SEARCHED = {
    "egress_allow": "collections/fleet_module",
    "egress_proxy": "collections/fleet_module",
    "yard_prune": "variables",
    "by_digest": "collections/template_module",
}


def check(html: Path) -> None:
    """Exit with an error if the search index misses an option."""
    text = (
        (html / "searchindex.js")
        .read_text()
        .removeprefix("Search.setIndex(")
        .rstrip()
        .removesuffix(")")
    )
    index, stem = json.loads(text), SearchEnglish({}).stem
    for word, page in SEARCHED.items():
        entries = index["terms"].get(stem(word), []), index["titleterms"].get(stem(word), [])
        documents = [
            n for entry in entries for n in (entry if isinstance(entry, list) else [entry])
        ]
        if page not in [index["docnames"][n] for n in documents]:
            sys.exit(f"The search of the site does not lead from {word} to {page}.")


def write_sources(checkout: Path, source: Path) -> None:
    """Write everything that is generated."""
    for picture in sorted((source / "pictures").rglob("*.svg")):
        picture.with_name(f"{picture.stem}-dark.svg").write_text(darkened(picture.read_text()))
    specification = yaml.safe_load((checkout / "roles/yard/meta/argument_specs.yml").read_text())
    (source / "variables.md").write_text(
        variables(specification["argument_specs"]["main"]["options"])
    )


def darkened(picture: str) -> str:
    """Return an SVG picture in the colours of a dark page."""
    return re.sub(r"#[0-9a-f]{6}\b", lambda colour: DARK.get(colour[0], colour[0]), picture)


def variables(options: dict[str, dict[str, Any]]) -> str:
    """Return the page of all variables, each with type, default and description."""
    return "\n".join([PAGE, *(section(name, option) for name, option in options.items())])


def section(name: str, option: dict[str, Any]) -> str:
    """Return one variable's part of the page."""
    facts = [f"Type: `{option['type']}`"]
    if "elements" in option:
        facts[0] += f" of `{option['elements']}`"
    if "choices" in option:
        facts.append("one of " + ", ".join(f"`{choice}`" for choice in option["choices"]))
    facts.append(f"default: `{option['default']!r}`" if "default" in option else "no default")
    if option.get("no_log"):
        facts.append("never logged")
    description = option["description"]
    paragraphs = [description] if isinstance(description, str) else description
    return "\n\n".join([f"## `{name}`", "; ".join(facts) + ".", *map(plain, paragraphs)]) + "\n"


def plain(text: str) -> str:
    """Return Ansible's markup as Markdown."""
    return MARKUP.sub(lambda part: f"**{part[2]}**" if part[1] == "B" else f"`{part[2]}`", text)


if __name__ == "__main__":
    {"sources": write_sources, "check": check}[sys.argv[1]](*map(Path, sys.argv[2:]))
