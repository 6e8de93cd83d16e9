# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packages come from, and what of them stays."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from stockyard import BuildOptions, Repository
from stockyard.providers.libvirt.debian import LEFT_OUT, write_sources

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"


def test_every_source_says_whose_signature_it_needs(tmp_path: Path) -> None:
    build = BuildOptions(
        repositories=(Repository("https://ours/debian", KEY), Repository("https://theirs", KEY))
    )
    mirrors, others = tmp_path / "sources.list", tmp_path / "others.sources"
    write_sources("bookworm", build, mirrors, others)
    assert all(line.startswith("deb [signed-by=/") for line in mirrors.read_text().splitlines())
    paragraphs = others.read_text().split("\n\n")
    assert [p.count("Signed-By:\n -----BEGIN") for p in paragraphs] == [1, 1]


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("/usr/share/man/man1/ls.1.gz", True),
        ("/usr/share/man/de/man1/ls.1.gz", True),
        ("/usr/share/doc/bash/copyright", True),
        # Packages of Java link manual pages when they are configured, and fail where they cannot.
        ("/usr/share/man/man1", False),
        ("/usr/share/man/man1/", False),
        ("/usr/bin/man", False),
    ],
)
def test_what_is_left_out_of_an_image(path: str, left_out: bool) -> None:
    # dpkg matches as fnmatch(3) does without flags: a star matches slashes too.
    assert any(fnmatchcase(path, pattern) for pattern in LEFT_OUT) == left_out
