# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packages come from, and what of them stays."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from stockyard import BuildOptions, Repository
from stockyard.providers.libvirt.debian import LEFT_OUT, sources

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"


def test_every_source_says_whose_signature_it_needs(tmp_path: Path) -> None:
    ours = Repository("https://ours/debian", KEY)
    lines = sources("bookworm", BuildOptions(repositories=(ours, ours)), tmp_path)
    assert all(line.startswith("deb [signed-by=/") for line in lines)
    assert lines[-1] == f"deb [signed-by={tmp_path}/repository-1.asc] https://ours/debian bookworm main"
    assert (tmp_path / "repository-0.asc").read_text() == KEY + "\n"


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
