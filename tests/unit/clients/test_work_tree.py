# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory that is copied to a host and back, also with a host that sends hostile answers."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from stockyard.clients.work_tree import REMOTE, WorkTree, check_directory
from stockyard.clock import Deadline
from stockyard.errors import DeadlineExceeded, GuestError, InvalidInput
from stockyard.model.access_info import SshAccess
from stockyard.model.path_pattern import PathPattern
from tests.helpers import ssh_stand_in

ALL = [PathPattern("**")]


@pytest.fixture
def tree(tmp_path: Path) -> WorkTree:
    """The copy of a small directory, with unusual names."""
    directory = tmp_path / "my work"
    (directory / "src dir").mkdir(parents=True)
    (directory / "src dir" / "a'b.txt").write_text("one")
    (directory / "run.sh").write_text("#!/bin/sh\n")
    (directory / "run.sh").chmod(0o755)
    (directory / "link").symlink_to("run.sh")
    ssh = SshAccess("127.77.0.1", 2222, "user", str(tmp_path / "known hosts"), "/key", "", "")
    return WorkTree(ssh, "host ci-1", directory)


@pytest.fixture(params=[True, False], ids=["rsync", "tar"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the host's user; the host has rsync or not."""
    if request.param and shutil.which("rsync") is None:
        pytest.skip("no rsync")
    ssh_stand_in.install(monkeypatch, tmp_path / "bin", tmp_path / "home", rsync=request.param)
    return tmp_path / "home"


def test_directory_is_copied_completely(
    tree: WorkTree, home: Path, request: pytest.FixtureRequest
) -> None:
    note = tree.send(Deadline(30))
    copy = home / REMOTE
    assert (copy / "src dir" / "a'b.txt").read_text() == "one"
    assert (copy / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (copy / "link").readlink() == Path("run.sh")
    with_rsync = "rsync" in request.node.name
    assert note == (
        "" if with_rsync else "host ci-1 has no rsync: the directory was copied with tar"
    )
    (tree.directory / "run.sh").write_text("changed")
    tree.send(Deadline(30))
    assert (copy / "run.sh").read_text() == "changed"


def test_machine_without_rsync_uses_tar(
    tree: WorkTree, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert "this machine has no rsync" in tree.send(Deadline(30))
    assert (home / REMOTE / "run.sh").exists()


def test_matching_files_are_fetched(tree: WorkTree, home: Path) -> None:
    copy = home / REMOTE
    (copy / "reports" / "deep").mkdir(parents=True)
    (copy / "reports" / "deep" / "ä b.xml").write_text("new")
    (copy / "reports" / "tool").write_text("x")
    (copy / "reports" / "tool").chmod(0o700)
    (copy / "reports" / "twin").hardlink_to(copy / "reports" / "tool")
    (copy / "reports" / "secret").symlink_to("/etc/passwd")
    (copy / "other").write_text("not requested")
    names = tree.fetch([PathPattern("reports/**")], Deadline(30))
    assert names == ["reports/deep/ä b.xml", "reports/tool", "reports/twin"]
    assert (tree.directory / "reports" / "deep" / "ä b.xml").read_text() == "new"
    assert (tree.directory / "reports" / "tool").stat().st_mode & 0o111
    assert (tree.directory / "reports" / "twin").read_text() == "x"
    assert not (tree.directory / "other").exists()
    assert tree.fetch([PathPattern("nothing/**")], Deadline(30)) == []


def test_failure_of_the_host_is_an_error(tree: WorkTree, home: Path) -> None:
    home.rmdir()
    with pytest.raises(GuestError, match="failed with code 255"):
        tree.fetch(ALL, Deadline(30))
    with pytest.raises(GuestError):
        tree.send(Deadline(30))


def test_copy_ends_at_its_deadline(
    tree: WorkTree, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin" / "programs" / "ssh").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(DeadlineExceeded):
        tree.send(Deadline(0.5))


@pytest.mark.parametrize("path", ["/does/not/exist", "/etc/passwd", "/"])
def test_path_that_is_no_usable_directory_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        check_directory(path)


class HostileHost:
    """A host that answers with a prepared list of files and a prepared archive."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "ssh").write_text(
            "#!/bin/sh\n"
            f"case \"$*\" in *find*) cat '{folder}/list' ;; *) cat '{folder}/archive' ;; esac\n"
        )
        (programs / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", str(programs), prepend=":")

    def answer(self, names: list[str], members: list[tarfile.TarInfo]) -> None:
        (self.folder / "list").write_bytes(b"".join(name.encode() + b"\0" for name in names))
        with tarfile.open(self.folder / "archive", "w") as archive:
            for member in members:
                content = b"evil"[: member.size] if member.isreg() else b""
                archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostileHost:
    return HostileHost(tmp_path / "hostile", monkeypatch)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    ("names", "members"),
    [
        (["../evil"], [member("../evil")]),
        (["/evil"], [member("/evil")]),
        (["a/../../evil"], [member("a/../../evil")]),
        (["a"], [member("../evil")]),
        (["a"], [member("/evil")]),
        (["a"], [member("evil")]),
        (["a"], [member("a"), member("a")]),
        (["a"], [member("a", tarfile.SYMTYPE, "/etc/passwd")]),
        (["a"], [member("a", tarfile.LNKTYPE, "run.sh")]),
        (["a"], [member("a", tarfile.CHRTYPE)]),
        (["a"], [member("a", tarfile.FIFOTYPE)]),
        (["a"], [member("a", tarfile.DIRTYPE)]),
        (["a/b"], [member("a", tarfile.SYMTYPE, ".."), member("a/b")]),
        (["a", "b"], [member("a")]),
        (["a"], []),
    ],
)
def test_file_of_a_hostile_host_never_leaves_the_directory(
    tree: WorkTree, hostile: HostileHost, names: list[str], members: list[tarfile.TarInfo]
) -> None:
    before = {path for path in tree.directory.parent.rglob("*") if path.name != "a"}
    hostile.answer(names, members)
    with pytest.raises(GuestError, match="the host sent"):
        tree.fetch(ALL, Deadline(30))
    after = {path for path in tree.directory.parent.rglob("*") if path.name != "a"}
    assert after - before <= {hostile.folder / "list", hostile.folder / "archive"}
    assert not (tree.directory / "a").is_symlink()


def test_symbolic_link_of_this_machine_is_not_followed(
    tree: WorkTree, hostile: HostileHost, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("mine")
    (tree.directory / "a").symlink_to(elsewhere)
    hostile.answer(["a/file"], [member("a/file")])
    with pytest.raises(GuestError, match="cannot be written"):
        tree.fetch(ALL, Deadline(30))
    (tree.directory / "b").symlink_to(elsewhere / "file")
    hostile.answer(["b"], [member("b")])
    assert tree.fetch(ALL, Deadline(30)) == ["b"]
    assert (tree.directory / "b").read_text() == "evil"
    assert (elsewhere / "file").read_text() == "mine"


def test_programs_of_git_are_not_fetched(tree: WorkTree, hostile: HostileHost) -> None:
    hostile.answer([".git/hooks/pre-commit"], [])
    assert tree.fetch(ALL, Deadline(30)) == []


def test_damaged_or_huge_answer_is_refused(
    tree: WorkTree, hostile: HostileHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile.answer(["a"], [])
    (hostile.folder / "archive").write_bytes(b"no archive" * 1000)
    with pytest.raises(GuestError, match="damaged archive"):
        tree.fetch(ALL, Deadline(30))
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 8 << 30
    (hostile.folder / "archive").write_bytes(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(GuestError, match="header is too large"):
        tree.fetch(ALL, Deadline(30))
    hostile.answer(["a"], [member("a")])
    monkeypatch.setattr("stockyard.clients.work_tree.FETCH_MAX", 3)
    with pytest.raises(GuestError, match="more than"):
        tree.fetch(ALL, Deadline(30))
    shrunk = member("a")
    shrunk.pax_headers = {"GNU.sparse.size": "-100"}
    hostile.answer(["a", "b"], [shrunk, member("b")])
    with pytest.raises(GuestError, match="no requested regular file"):
        tree.fetch(ALL, Deadline(30))
    assert not (tree.directory / "b").exists()
    monkeypatch.setattr("stockyard.clients.work_tree.LIST_MAX", 1)
    with pytest.raises(GuestError, match="too long"):
        tree.fetch(ALL, Deadline(30))
