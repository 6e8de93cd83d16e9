# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Container of a nested Docker, with its disk and its mounts: create, observe and delete."""

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
# Mount points of the disk and of the host's programs.
STORAGE, PROGRAMS = f"{FOLDER}/disk", f"{FOLDER}/usr"
IMAGE, LABEL = "stockyard-nested", "stockyard.nested"
SUBID_USER = "stockyard-nested"
# The user under a dockerd that remaps users: an ID inside the range of its containers.
USER, LAST = 1000, 65535
DELEGATED = ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads")
MODULES = ("tun", "overlay", "br_netfilter", "ip_tables")
PATH = f"{images.FOLDER}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
# Not Docker's --init, because the mount of /usr hides its program.
INIT = ("/usr/bin/tini", "--")
STEP = 60.0


class NestedFailed(StockyardError):
    """Error: a nested Docker did not start, or a part of it cannot be deleted."""


@dataclass(frozen=True)
class Found:
    """Existing container. It belongs to stockyard if it has a digest."""

    name: str
    digest: str
    running: bool


class Box:
    """Nested Docker on one host."""

    def __init__(self, machine: Machine, spec: NestedSpec, deadline: Deadline) -> None:
        self.machine = machine
        self.spec = spec
        self.deadline = deadline

    def containers(self) -> list[Found]:
        """Return all containers of the host."""
        shape = f'{{{{.Names}}}}\t{{{{.State}}}}\t{{{{.Label "{LABEL}"}}}}'
        listing = self._do("docker", "ps", "--all", "--no-trunc", "--format", shape)
        lines = [line.split("\t") for line in listing.splitlines() if line.count("\t") == 2]
        return [Found(name, digest, state == "running") for name, state, digest in lines]

    def answers(self) -> bool:
        """Return whether the nested Docker answers."""
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
        """Return the objects of a nested Docker other than its container."""
        objects = [path for path in (STORAGE, PROGRAMS) if self.machine.mounts(path)]
        objects += [FOLDER] if self.machine.stat(FOLDER) else []
        return objects + self._do("docker", "images", "--quiet", IMAGE).split()

    def make(self, outer: Outer) -> None:
        """Create the container and wait until its Docker answers. If it does not, delete
        everything.

        :raises NestedFailed: if its Docker does not answer.
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
        """Delete the container and everything that belongs to it.

        :raises NestedFailed: if a part cannot be deleted.
        """
        if any(
            container.name == self.spec.name and container.digest for container in self.containers()
        ):
            self._do("docker", "rm", "--force", "--volumes", self.spec.name)
        for path in (STORAGE, PROGRAMS):
            self._unmount(path)
        if self._do("docker", "images", "--quiet", IMAGE).strip():
            self._do("docker", "rmi", "--force", IMAGE)
        self._forget()
        subids.converge(self.machine, subids.Wish(SUBID_USER, present=False), check=False)
        if leftovers := self.leftovers():
            raise self._failed(
                f"{', '.join(leftovers)} cannot be deleted", "", "delete the host instead"
            )

    def _users(self, outer: Outer) -> images.Users:
        """Return the user of the job: root, or a user with IDs that no other user of the host
        has.
        """
        if self.spec.mode == "privileged":
            return images.Users(0)
        if outer.users == "remap":
            return images.Users(USER, ((1, USER - 1), (USER + 1, LAST - USER)), outer.first)
        range_ = subids.converge(self.machine, subids.Wish(SUBID_USER, LAST + 1), check=False).range
        first = range_.first if range_ else 0
        return images.Users(first, ((first + 1, LAST),))

    def _prepare(self, users: images.Users) -> None:
        """Create image, disk and mounts."""
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
        # Programs that are set-uid on the host are not set-uid in the container.
        self._do("mount", "-o", "remount,bind,ro,nosuid,nodev", self._real(PROGRAMS))

    def _program(self, name: str) -> bytes:
        return self.machine.path(f"/usr/bin/{name}").read_bytes()

    def _line(self, users: images.Users) -> list[str]:
        """Return the command that starts the container."""
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
        # These options permit the creation of a user name space and mounts in it. The user has no
        # capability: the two capabilities are for the programs that map the user's IDs.
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
        """Let the user divide the container's cgroup. The files with its limits still belong to
        root.
        """
        pid = self._do("docker", "inspect", "--format", "{{.State.Pid}}", self.spec.name).strip()
        cgroup = (self.machine.read(f"/proc/{pid}/cgroup") or "").strip()
        if not cgroup.startswith("0::/") or cgroup == "0::/":
            raise self._failed("the container's cgroup is not known", cgroup, "read docker logs")
        files = [f"/sys/fs/cgroup{cgroup[3:]}{name}" for name in DELEGATED]
        self._do("chown", f"{users.outside}:{users.outside}", *files)

    def _wait(self) -> None:
        while not (self.machine.stat(f"{STORAGE}/run/docker.sock") and self.answers()):
            containers = [
                container for container in self.containers() if container.name == self.spec.name
            ]
            if self.deadline.passed() or not containers or not containers[0].running:
                process = self.machine.programs(
                    ["docker", "logs", "--tail", "12", self.spec.name], STEP
                )
                log = " | ".join((process.out + process.err).split("\n"))[-900:]
                raise self._failed(
                    "the nested Docker does not answer",
                    log,
                    "give the container more memory or time",
                )
            self.deadline.pause(1.0)

    def _unmount(self, path: str) -> None:
        """Unmount a path. A file system may be busy for a moment after its container ended, so that
        the unmount is retried.
        """
        while self.machine.mounts(path):
            process = self.machine.programs(["umount", self._real(path)], self._patience())
            if process.code and self.deadline.passed():
                raise self._failed(
                    f"{path} cannot be unmounted", process.err, "delete the host instead"
                )
            if process.code:
                self.deadline.pause(0.5)

    def _forget(self) -> None:
        """Delete files and empty directories by name only, never recursively: a directory may still
        contain the mount of the host's own programs.
        """
        for path in (DISK, ARCHIVE):
            self.machine.path(path).unlink(missing_ok=True)
        for path in (STORAGE, PROGRAMS, FOLDER):
            with suppress(OSError):
                self.machine.path(path).rmdir()

    def _do(self, *line: str) -> str:
        process = self.machine.programs(list(line), self._patience())
        if process.code:
            raise self._failed(
                f"{line[0]} {line[1]} failed",
                process.err.strip()[-500:],
                "correct the cause and run again",
            )
        return process.out

    def _patience(self) -> float:
        """Return the timeout of one program. Deletion continues after the deadline."""
        return max(STEP, self.deadline.left())

    def _real(self, name: str) -> str:
        return str(self.machine.path(name))

    def _failed(self, message: str, cause: str, remedy: str) -> NestedFailed:
        return NestedFailed(
            f"{message}.", name=f"nested {self.spec.name}", cause=cause, remedy=remedy
        )
