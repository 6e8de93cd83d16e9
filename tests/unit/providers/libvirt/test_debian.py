# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packages come from."""

from __future__ import annotations

from pathlib import Path

from stockyard import BuildOptions, Repository
from stockyard.providers.libvirt.debian import sources

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"


def test_every_source_says_whose_signature_it_needs(tmp_path: Path) -> None:
    ours = Repository("https://ours/debian", KEY)
    lines = sources("bookworm", BuildOptions(repositories=(ours, ours)), tmp_path)
    assert all(line.startswith("deb [signed-by=/") for line in lines)
    assert lines[-1] == f"deb [signed-by={tmp_path}/repository-1.asc] https://ours/debian bookworm main"
    assert (tmp_path / "repository-0.asc").read_text() == KEY + "\n"
