# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packages come from, and what of them stays."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from stockyard import BuildOptions, Repository
from stockyard.clock import Deadline
from stockyard.model.recipe import Recipe
from stockyard.providers.common.debian import LEFT_OUT, add, bootstrap, versions, write_sources

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"


def test_each_source_names_its_keyring(tmp_path: Path) -> None:
    build = BuildOptions(
        repositories=(Repository("https://ours/debian", KEY), Repository("https://theirs", KEY))
    )
    mirrors, other_sources = tmp_path / "sources.list", tmp_path / "others.sources"
    write_sources("bookworm", build, mirrors, other_sources)
    assert all(line.startswith("deb [signed-by=/") for line in mirrors.read_text().splitlines())
    paragraphs = other_sources.read_text().split("\n\n")
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
def test_image_omits_caches_and_logs(path: str, left_out: bool) -> None:
    # dpkg matches as fnmatch(3) does without flags: a star matches slashes too.
    assert any(fnmatchcase(path, pattern) for pattern in LEFT_OUT) == left_out


APT = """\
#!/bin/sh
for word in "$@"; do
  case $word in
    Dir::Cache=*) cache=${word#*=} ;;
    Dir::State::Status=*) status=${word#*=} ;;
  esac
done
case "$*" in
  *--simulate*)
    grep -q '^Package: libc6$' "$status"
    echo 'Inst libc6 [2.41-12] (2.41-13 Debian:13.1/stable [amd64])'
    echo 'Inst tree (2.2.1-1 Debian:13.1/stable [amd64])'
    echo 'Conf tree (2.2.1-1 Debian:13.1/stable [amd64])' ;;
  *--download-only*) touch "$cache/archives/tree_2.2.1-1_amd64.deb" ;;
esac
"""


def test_packages_are_added_to_an_installed_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "apt-get"
    program.write_text(APT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    (tmp_path / "work").mkdir()
    installed = "Package: libc6\nStatus: install ok installed\n"
    versions = add(
        ("tree",),
        "trixie",
        BuildOptions(),
        installed,
        tmp_path / "work",
        tmp_path / "packages",
        Deadline(60),
        "template jdk",
    )
    assert versions == {"libc6": "2.41-13", "tree": "2.2.1-1"}
    assert [path.name for path in (tmp_path / "packages").iterdir()] == ["tree_2.2.1-1_amd64.deb"]


WATCHED = """\
#!/bin/sh
echo "$0 $*" >>{log}
env >>{log}
while [ $# -gt 0 ]; do
  case $1 in
    -c) cat "$2" >>{settings}; stat -c %a "$2" >>{settings} ;;
    --setup-hook=copy-in*) set -- $1; cat "$2" >>{settings}; stat -c %a "$2" >>{settings} ;;
    --simulate) echo 'Inst tree (2.2.1-1 Debian:13.1/stable [amd64])' ;;
  esac
  shift
done
"""
PROXY = "http://me:canary-of-a-proxy@127.0.0.1:3128"


@pytest.mark.parametrize("program", ["apt-get", "mmdebstrap"])
def test_proxy_is_in_a_private_file_and_not_on_a_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    log, settings = tmp_path / "log", tmp_path / "settings"
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / program
    path.write_text(WATCHED.format(log=log, settings=settings))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    work = tmp_path / "work"
    work.mkdir()
    recipe, build = Recipe("trixie", ("tree",), {}, {}, 2), BuildOptions(proxy=PROXY)
    if program == "apt-get":
        versions(recipe, build, work, Deadline(60), "image")
    else:
        bootstrap(recipe, build, work, Deadline(60), "image")
    assert program in log.read_text()
    assert "canary" not in log.read_text()
    lines = settings.read_text().splitlines()
    assert set(lines) == {f'Acquire::http::Proxy "{PROXY}";', "600"}
