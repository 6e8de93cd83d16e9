# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Work in, results out: a directory is copied to a host over SSH, and files come back from it.

The host can run hostile code, so nothing that it sends is trusted: only regular files arrive, only
under paths that a pattern matches, and never through a symbolic link. Copies to the host use rsync
if both sides have it, else tar.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tarfile import AREGTYPE, REGTYPE, ReadError, TarError, TarFile, TarInfo
from typing import IO, Any

from ..clock import Deadline
from ..errors import DeadlineExceeded, GuestError, InvalidInput
from ..model.access_info import SshAccess, ssh_options
from ..model.path_pattern import PathPattern

# The directory in the home of the host's user.
REMOTE = "stockyard-work"
# Limits of an answer that a hostile host can exceed.
LIST_MAX = 64 << 20
FETCH_MAX = 10 << 30
HEADER_MAX = 1 << 20
ERROR_MAX = 2000
BLOCK = 1 << 16
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
KEEPALIVE = ("-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15")


def check_directory(path: str | Path) -> Path:
    """Return the absolute path of a directory to copy.

    :raises InvalidInput: if it is no directory that this user can read, or the root directory.
    """
    directory = Path(path).absolute()
    if not directory.is_dir() or not os.access(directory, os.R_OK | os.X_OK):
        raise InvalidInput(
            "the directory to copy cannot be read.",
            name=str(path),
            remedy="name an existing directory",
        )
    if directory.resolve() == Path("/"):
        raise InvalidInput(
            "the root directory cannot be copied.",
            name=str(path),
            remedy="name a smaller directory",
        )
    return directory


@dataclass(frozen=True)
class WorkTree:
    """The copy of a directory on a host.

    :param title: the host, in messages.
    :param directory: the directory on this machine.
    """

    ssh: SshAccess
    title: str
    directory: Path

    def send(self, deadline: Deadline) -> str:
        """Copy the directory to the host; return a sentence if rsync could not be used.

        :raises GuestError: if the directory was not copied completely.
        """
        obstacle = self._obstacle(deadline)
        if obstacle:
            self._send_archive(deadline)
            return f"{obstacle}: the directory was copied with tar"
        ssh = self.ssh
        address = f"[{ssh.host}]" if ":" in ssh.host else ssh.host
        words = ["rsync", "-rlpt", "--delete", f"--rsh={shlex.join(self._ssh())}", "--"]
        words += [f"{self.directory}/", f"{ssh.user}@{address}:{REMOTE}/"]
        with self._started(words, deadline, stdin=subprocess.DEVNULL) as process:
            process.communicate()
        return ""

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return the arguments that run a command in the copy."""
        return self._remote(f"cd {REMOTE} && exec {shlex.join(words)}")

    def fetch(self, patterns: Sequence[PathPattern], deadline: Deadline) -> list[str]:
        """Copy the files that match a pattern from the host into the directory; return their paths.

        :raises GuestError: if the host sends anything else.
        """
        names = {
            "/".join(path): path
            for path in self._list(deadline)
            if any(pattern.matches(path) for pattern in patterns)
        }
        if names:
            self._receive(names, deadline)
        return sorted(names)

    def _list(self, deadline: Deadline) -> Iterator[tuple[str, ...]]:
        words = self._remote(f"cd {REMOTE} && find . -type f -print0")
        with self._started(words, deadline, stdin=subprocess.DEVNULL) as process:
            listing = _output(process).read(LIST_MAX + 1)
            if len(listing) > LIST_MAX:
                raise self._refusal("a list of files that is too long")
        for name in listing.split(b"\0"):
            if name:
                yield self._checked(os.fsdecode(name))

    def _checked(self, name: str) -> tuple[str, ...]:
        path = tuple(name.removeprefix("./").split("/"))
        if any(part in ("", ".", "..") for part in path):
            raise self._refusal(f"the path {name[:200]!a}")
        return path

    def _receive(self, names: dict[str, tuple[str, ...]], deadline: Deadline) -> None:
        words = self._remote(
            f"cd {REMOTE} && tar --create --file=- --format=pax --hard-dereference --no-recursion"
            " --null --files-from=-"
        )
        with tempfile.TemporaryFile() as request:
            request.write(b"".join(b"./" + os.fsencode(name) + b"\0" for name in names))
            request.seek(0)
            with self._started(words, deadline, stdin=request) as process:
                try:
                    self._extract(_output(process), dict(names))
                except (TarError, EOFError, ValueError) as error:
                    raise self._refusal(f"a damaged archive ({error})") from error

    def _extract(self, stream: IO[bytes], missing: dict[str, tuple[str, ...]]) -> None:
        space = FETCH_MAX
        with TarFile.open(fileobj=stream, mode="r|", tarinfo=_LimitedInfo) as archive:
            for member in archive:
                name = "/".join(self._checked(member.name))
                path = missing.pop(name, None)
                space -= max(member.size, 0)
                # tar(1) writes sparse files on request alone; their size can be any number.
                is_file = member.isreg() and not member.issparse() and member.size >= 0
                source = archive.extractfile(member) if is_file else None
                if path is None or source is None:
                    raise self._refusal(f"{name[:200]!a}, which is no requested regular file")
                if space < 0:
                    raise self._refusal(f"more than {FETCH_MAX >> 30} GiB")
                self._write(path, source, executable=bool(member.mode & stat.S_IXUSR))
        if missing:
            raise self._refusal(f"no file {min(missing)[:200]!a}")

    def _write(self, path: tuple[str, ...], source: IO[bytes], *, executable: bool) -> None:
        """Write a file below the directory. A symbolic link on its way is an error, and one in its
        place is replaced.
        """
        temporary = f".stockyard-{secrets.token_hex(8)}"
        try:
            with _directory(self.directory, path[:-1]) as folder:
                handle = os.open(
                    temporary,
                    os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                    0o777 if executable else 0o666,
                    dir_fd=folder,
                )
                try:
                    with os.fdopen(handle, "wb") as target:
                        shutil.copyfileobj(source, target, BLOCK)
                    os.rename(temporary, path[-1], src_dir_fd=folder, dst_dir_fd=folder)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=folder)
                    raise
        except OSError as error:
            raise GuestError(
                f"the file {'/'.join(path)[:200]!a} cannot be written: {error.strerror}.",
                name=str(self.directory),
                cause="a part of its path is no directory, or the directory is not writable",
            ) from error

    def _obstacle(self, deadline: Deadline) -> str:
        if shutil.which("rsync") is None:
            return "this machine has no rsync"
        words = self._remote("command -v rsync >/dev/null && echo yes || echo no")
        with self._started(words, deadline, stdin=subprocess.DEVNULL) as process:
            answer = _output(process).read(BLOCK)
        return "" if answer.strip() == b"yes" else f"{self.title} has no rsync"

    def _send_archive(self, deadline: Deadline) -> None:
        archive_words = ["tar", "--create", "--file=-", f"--directory={self.directory}", "."]
        words = self._remote(f"mkdir -p {REMOTE} && tar --extract --file=- --directory={REMOTE}")
        with (
            self._started(archive_words, deadline, stdin=subprocess.DEVNULL) as archive,
            self._started(words, deadline, stdin=_output(archive)) as process,
        ):
            # Only the process on the other end of the pipe keeps it open.
            _output(archive).close()
            process.communicate()

    def _ssh(self) -> tuple[str, ...]:
        pinned = ssh_options(self.ssh.known_hosts, self.ssh.private_key)
        quiet = ("-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", *KEEPALIVE)
        return ("ssh", "-p", str(self.ssh.port), *pinned, *quiet)

    def _remote(self, command: str) -> tuple[str, ...]:
        return (*self._ssh(), "--", f"{self.ssh.user}@{self.ssh.host}", command)

    @contextmanager
    def _started(
        self, words: Sequence[str], deadline: Deadline, stdin: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a program for the length of a ``with`` block, at most until the deadline, and check
        its exit code.

        :raises GuestError: if the program fails.
        """
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    words, stdin=stdin, stdout=subprocess.PIPE, stderr=errors
                )
            except OSError as error:
                raise GuestError(
                    f"{words[0]} cannot be run: {error.strerror}.", name=self.title
                ) from error
            watchdog = threading.Timer(deadline.left(), process.kill)
            # A signal can interrupt this thread at any point, and its end must not wait for the
            # deadline.
            watchdog.daemon = True
            try:
                watchdog.start()
                yield process
                process.wait()
            finally:
                watchdog.cancel()
                process.kill()
                process.wait()
                _output(process).close()
            if deadline.passed():
                raise DeadlineExceeded(
                    "the copy took longer than the lease.",
                    name=self.title,
                    remedy="request a longer lease with --duration",
                )
            if process.returncode:
                errors.seek(0)
                raise GuestError(
                    f"{words[0]} failed with code {process.returncode}.",
                    name=self.title,
                    cause=errors.read(ERROR_MAX).decode(errors="replace").strip(),
                )

    def _refusal(self, content: str) -> GuestError:
        return GuestError(
            f"the host sent {content}.",
            name=self.title,
            remedy="files that were fetched before remain; do not trust the host",
        )


class _LimitedInfo(TarInfo):
    """A member of an archive whose additional headers are small: they are read into memory."""

    def _proc_member(self, tarfile: TarFile) -> TarInfo:
        if self.type not in (REGTYPE, AREGTYPE) and self.size > HEADER_MAX:
            raise ReadError("a header is too large")
        member: TarInfo = super()._proc_member(tarfile)  # type: ignore[misc]
        return member


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise AssertionError("the process has no pipe")
    return process.stdout


@contextmanager
def _directory(root: Path, parts: Iterable[str]) -> Iterator[int]:
    """Open a directory below another one, created if it does not exist, without following a
    symbolic link.
    """
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=handle)
            child = os.open(part, DIRECTORY, dir_fd=handle)
            os.close(handle)
            handle = child
        yield handle
    finally:
        os.close(handle)
