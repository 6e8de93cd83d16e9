# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packages come from."""

from __future__ import annotations

from pathlib import Path

from stockyard import BuildOptions, Repository
from stockyard.providers.libvirt.debian import write_sources

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"


def test_every_source_says_whose_signature_it_needs(tmp_path: Path) -> None:
    build = BuildOptions(repositories=(Repository("https://ours/debian", KEY), Repository("https://theirs", KEY)))
    mirrors, others = tmp_path / "sources.list", tmp_path / "others.sources"
    write_sources("bookworm", build, mirrors, others)
    assert all(line.startswith("deb [signed-by=/") for line in mirrors.read_text().splitlines())
    paragraphs = others.read_text().split("\n\n")
    assert [p.count("Signed-By:\n -----BEGIN") for p in paragraphs] == [1, 1]
