# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The container of a nested Docker, its disk and its mounts: made, looked for, and taken away
whole.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from ...clock import Deadline
from ...errors import StockyardError
from .. import subids
from ..machine import Machine
from . import image as images
from .outer_host import Outer
from .spec import NestedSpec

FOLDER = "/var/lib/stockyard/nested"
DISK, ARCHIVE = f"{FOLDER}/disk.ext4", f"{FOLDER}/image.tar"
# Where that disk is mounted, and the host's programs.
STORAGE, PROGRAMS = f"{FOLDER}/disk", f"{FOLDER}/usr"
IMAGE, LABEL = "stockyard-nested", "stockyard.nested"
SUBID_USER = "stockyard-nested"
# Under a dockerd that remaps users: somebody inside the range that its containers have.
USER, LAST = 1000, 65535
DELEGATED = ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads")
MODULES = ("tun", "overlay", "br_netfilter", "ip_tables")
PATH = f"{images.FOLDER}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
# Not Docker's --init: it puts that program where /usr is mounted over it.
INIT = ("/usr/bin/tini", "--")
STEP = 60.0


class NestedFailed(StockyardError):
    """A nested Docker did not come up, or something of it cannot be taken away."""


@dataclass(frozen=True)
class Found:
    """A container that is there: ours where it has a digest."""

    name: str
    digest: str
    running: bool


class Box:
    """A nested Docker on one host."""

    def __init__(self, machine: Machine, spec: NestedSpec, deadline: Deadline) -> None:
        self.machine = machine
        self.spec = spec
        self.deadline = deadline

    def containers(self) -> list[Found]:
        """All containers of the host."""
        shape = f'{{{{.Names}}}}\t{{{{.State}}}}\t{{{{.Label "{LABEL}"}}}}'
        told = self._do("docker", "ps", "--all", "--no-trunc", "--format", shape)
        lines = [line.split("\t") for line in told.splitlines() if line.count("\t") == 2]
        return [Found(name, digest, state == "running") for name, state, digest in lines]

    def answers(self) -> bool:
        """Whether the Docker inside does."""
        line = [
            "docker",
            "exec",
            self.spec.name,
            "docker",
            "version",
            "--format",
            "{{.Server.Version}}",
        ]
        return self.machine.programs(line, self._patience()).code == 0

    def leftovers(self) -> list[str]:
        """What there is beside the container."""
        found = [path for path in (STORAGE, PROGRAMS) if self.machine.mounts(path)]
        found += [FOLDER] if self.machine.stat(FOLDER) else []
        return found + self._do("docker", "images", "--quiet", IMAGE).split()

    def make(self, outer: Outer) -> None:
        """Make it and wait until its Docker answers; nothing is left of one that does not.

        :raises NestedFailed: then.
        """
        try:
            users = self._users(outer)
            self._prepare(users)
            self._do(*self._line(users))
            if users.user:
                self._delegate(users)
            self._wait()
        except StockyardError:
            self.remove()
            raise

    def remove(self) -> None:
        """Take the container and all that belongs to it away.

        :raises NestedFailed: when something stays.
        """
        if any(found.name == self.spec.name and found.digest for found in self.containers()):
            self._do("docker", "rm", "--force", "--volumes", self.spec.name)
        for path in (STORAGE, PROGRAMS):
            self._unmount(path)
        if self._do("docker", "images", "--quiet", IMAGE).strip():
            self._do("docker", "rmi", "--force", IMAGE)
        self._forget()
        subids.converge(self.machine, subids.Wish(SUBID_USER, present=False), check=False)
        if left := self.leftovers():
            raise self._failed(
                f"{', '.join(left)} cannot be taken away", "", "take the host away instead"
            )

    def _users(self, outer: Outer) -> images.Users:
        """Who the job is: root, or somebody who has IDs that nobody else on the host has."""
        if self.spec.mode == "privileged":
            return images.Users(0)
        if outer.users == "remap":
            return images.Users(USER, ((1, USER - 1), (USER + 1, LAST - USER)), outer.first)
        found = subids.converge(self.machine, subids.Wish(SUBID_USER, LAST + 1), check=False).range
        first = found.first if found else 0
        return images.Users(first, ((first + 1, LAST),))

    def _prepare(self, users: images.Users) -> None:
        """Image, disk and mounts."""
        owner, options = users.outside, "loop,discard" if not users.user else "loop,discard,nodev"
        self.machine.programs(["modprobe", "--all", *MODULES], self._patience())
        for path in (FOLDER, STORAGE, PROGRAMS):
            self.machine.path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        mappers = {name: self._program(name) for name in images.MAPPERS} if users.user else {}
        self.machine.path(ARCHIVE).write_bytes(images.image(users, self.spec.config, mappers))
        self._do("docker", "import", self._real(ARCHIVE), IMAGE)
        self._do("truncate", f"--size={self.spec.disk_mib}M", self._real(DISK))
        self._do(
            "mkfs.ext4",
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            f"root_owner={owner}:{owner}",
            self._real(DISK),
        )
        self._do("mount", "-o", options, self._real(DISK), self._real(STORAGE))
        self._do(
            "install",
            "--directory",
            f"--owner={owner}",
            f"--group={owner}",
            self._real(f"{STORAGE}/work"),
        )
        self._do("mount", "--bind", "/usr", self._real(PROGRAMS))
        # A program that is set-uid on the host is not in there.
        self._do("mount", "-o", "remount,bind,ro,nosuid,nodev", self._real(PROGRAMS))

    def _program(self, name: str) -> bytes:
        return self.machine.path(f"/usr/bin/{name}").read_bytes()

    def _line(self, users: images.Users) -> list[str]:
        """The command that starts it."""
        spec, memory = self.spec, f"{self.spec.memory_mib}m"
        line = [
            "docker",
            "run",
            "--detach",
            "--read-only",
            "--restart=no",
            f"--name={spec.name}",
            f"--hostname={spec.name}",
            f"--label={LABEL}={spec.digest}",
            f"--memory={memory}",
            f"--memory-swap={memory}",
            f"--cpus={spec.cpus:g}",
            f"--pids-limit={spec.pids}",
            "--tmpfs=/run:mode=1777,size=64m",
            "--tmpfs=/tmp:mode=1777,exec",
            f"--workdir={images.WORK}",
            f"--volume={self._real(STORAGE)}:{images.STORAGE}",
            f"--volume={self._real(PROGRAMS)}:/usr:ro",
            "--volume=/etc/alternatives:/etc/alternatives:ro",
            f"--env=PATH={PATH}",
            "--env=container=docker",
            f"--env=HOME={images.WORK}",
            f"--env=DOCKER_HOST=unix://{images.SOCKET}",
        ]
        if self.machine.stat("/etc/ssl/certs"):
            line.append("--volume=/etc/ssl/certs:/etc/ssl/certs:ro")
        if not users.user:
            return [*line, "--privileged", IMAGE, *INIT, f"{images.FOLDER}/daemons"]
        # What makes a user name space and mounts in it. The user has no capability of his own: the
        # two are for the programs that map his IDs.
        options = (
            "seccomp=unconfined",
            "apparmor=unconfined",
            "systempaths=unconfined",
            "no-new-privileges=false",
        )
        line += [f"--security-opt={option}" for option in options]
        line += ["--cap-drop=ALL", "--cap-add=SETUID", "--cap-add=SETGID", "--device=/dev/net/tun"]
        return [*line, f"--user={users.user}:{users.user}", IMAGE, *INIT, f"{images.FOLDER}/start"]

    def _delegate(self, users: images.Users) -> None:
        """Let the user divide up what the container has. Its limits are in files that
        stay root's.
        """
        pid = self._do("docker", "inspect", "--format", "{{.State.Pid}}", self.spec.name).strip()
        told = (self.machine.read(f"/proc/{pid}/cgroup") or "").strip()
        if not told.startswith("0::/") or told == "0::/":
            raise self._failed("its cgroup is not known", told, "see docker logs")
        files = [f"/sys/fs/cgroup{told[3:]}{name}" for name in DELEGATED]
        self._do("chown", f"{users.outside}:{users.outside}", *files)

    def _wait(self) -> None:
        while not (self.machine.stat(f"{STORAGE}/run/docker.sock") and self.answers()):
            ours = [found for found in self.containers() if found.name == self.spec.name]
            if self.deadline.passed() or not ours or not ours[0].running:
                told = self.machine.programs(
                    ["docker", "logs", "--tail", "12", self.spec.name], STEP
                )
                said = " | ".join((told.out + told.err).split("\n"))[-900:]
                raise self._failed(
                    "its Docker does not answer", said, "give it more memory or time"
                )
            self.deadline.pause(1.0)

    def _unmount(self, path: str) -> None:
        """What is still busy a moment after its container ended may need a second try."""
        while self.machine.mounts(path):
            done = self.machine.programs(["umount", self._real(path)], self._patience())
            if done.code and self.deadline.passed():
                raise self._failed(
                    f"{path} cannot be unmounted", done.err, "take the host away instead"
                )
            if done.code:
                self.deadline.pause(0.5)

    def _forget(self) -> None:
        """Take files and directories away by their names: one of them may still be the host's own
        programs.
        """
        for path in (DISK, ARCHIVE):
            self.machine.path(path).unlink(missing_ok=True)
        for path in (STORAGE, PROGRAMS, FOLDER):
            with suppress(OSError):
                self.machine.path(path).rmdir()

    def _do(self, *line: str) -> str:
        done = self.machine.programs(list(line), self._patience())
        if done.code:
            raise self._failed(
                f"{line[0]} {line[1]} failed", done.err.strip()[-500:], "mend that and run it again"
            )
        return done.out

    def _patience(self) -> float:
        """For one program: taking things away goes on when the time is up."""
        return max(STEP, self.deadline.left())

    def _real(self, name: str) -> str:
        return str(self.machine.path(name))

    def _failed(self, message: str, cause: str, remedy: str) -> NestedFailed:
        return NestedFailed(
            f"{message}.", name=f"nested {self.spec.name}", cause=cause, remedy=remedy
        )
