# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host for a test: leased from a fleet or a service, or branched from a running host."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InvalidInput, NotFound, StockyardError
from ..model.lease import seconds
from ..paths import expand_user
from ..result import Result

if TYPE_CHECKING:
    from ..yard import Yard

# The part of a lease's duration after which it is renewed.
PART = 1 / 3


class RenewableLease(Protocol):
    """A lease of a test."""

    @property
    def host(self) -> str:
        """Return the name of the host."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""

    def renew(self) -> None:
        """Renew the lease."""

    def release(self) -> None:
        """Release the lease."""


@dataclass(frozen=True)
class HostOptions:
    """The options of the plugin.

    :param fleet: the fleet to lease from.
    :param branch: the running host to branch instead.
    :param tenant: the tenant of both.
    :param duration: the time after which a host of a killed run is deleted.
    :param wait: the longest time to wait for a host.
    :param hypervisor: the URI of the hypervisor.
    :param owner: the owner of the yard.
    :param pki_dir: the directory of keys.
    :param service: the address of a lease service, instead of the hypervisor.
    :param token_file: the file with the token for the service.
    """

    fleet: str = ""
    branch: str = ""
    tenant: str = "default"
    duration: str = "30m"
    wait: str = "10m"
    hypervisor: str = ""
    owner: str = ""
    pki_dir: str = ""
    service: str = ""
    token_file: str = ""

    def check(self) -> None:
        """Check the options.

        :raises InvalidInput: if they do not select a host.
        """
        seconds("stockyard_duration", self.duration)
        seconds("stockyard_wait", self.wait)
        if bool(self.fleet) == bool(self.branch):
            raise InvalidInput(
                "the tests have no host." if not self.fleet else "the tests have two hosts.",
                remedy="set stockyard_fleet or stockyard_branch in the configuration of pytest",
            )
        if self.service and (self.branch or not self.token_file):
            raise InvalidInput(
                "a lease service leases hosts of fleets to projects.",
                remedy="set stockyard_fleet and stockyard_token_file",
            )


@dataclass(frozen=True)
class StockyardHost:
    """A host that one test, or all tests of a session, can use.

    :param name: the name of the host.
    :param environment: the environment variables that a Docker client needs.
    """

    name: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class StockyardDocker:
    """Docker on a host, by Docker's own client.

    :param host: the host.
    """

    host: StockyardHost

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment variables that a Docker client needs."""
        return self.host.environment

    def __call__(
        self, *words: str, check: bool = True, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker`` with these words, and return its outcome with the output as text.

        :raises subprocess.CalledProcessError: if the command fails, unless ``check`` is false.
        """
        options = {"capture_output": True, "text": True, **options}
        argv: Sequence[str] = ("docker", *words)
        environment = {**os.environ, **self.environment}
        result: subprocess.CompletedProcess[str] = subprocess.run(
            argv, check=check, env=environment, **options
        )
        return result


@contextmanager
def host_for(options: HostOptions, yard: Yard | None, holder: str) -> Iterator[StockyardHost]:
    """Lease or branch a host, and release or delete it at the end, however the block ends.

    :param yard: the yard; ``None`` with a lease service.
    """
    with _ended_by_sigterm():
        if yard and options.branch:
            with _branched(options, yard, holder) as host:
                yield host
            return
        lease = _leased(options, yard, holder)
        try:
            with _renewed(lease, seconds("duration", options.duration) * PART):
                yield StockyardHost(lease.host, lease.environment)
        finally:
            lease.release()


def _leased(options: HostOptions, yard: Yard | None, holder: str) -> RenewableLease:
    if yard is not None:
        return yard.leases.acquire(
            options.fleet,
            holder=holder,
            duration=options.duration,
            tenant=options.tenant,
            wait=options.wait,
            replace=True,
        )
    from ..service.client import LeaseService
    from ..service.projects import read_private

    token = read_private(expand_user(options.token_file)).decode("ascii", "replace").strip()
    return LeaseService(options.service, token).acquire(
        options.fleet, holder=holder, duration=options.duration, wait=options.wait
    )


@contextmanager
def _branched(options: HostOptions, yard: Yard, holder: str) -> Iterator[StockyardHost]:
    """Branch a host, and delete the child at the end. The child of a killed run expires."""
    from ..model.branch import BranchSpec

    name = f"{options.branch[:40]}-{holder.rpartition('-')[2]}"
    spec = BranchSpec(
        options.branch,
        (name,),
        tenant=options.tenant,
        ttl=seconds("duration", options.duration),
    )
    try:
        result: Result[Any] = yard.hosts.branch(spec)
        yield StockyardHost(name, dict(result.object.docker.environment))
    finally:
        with suppress(NotFound):
            yard.hosts.delete(name, options.tenant)


@contextmanager
def _renewed(lease: RenewableLease, interval: float) -> Iterator[None]:
    """Renew a lease until the end of the block. After a failure the next attempt follows."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(interval):
            with suppress(StockyardError):
                lease.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does. A program's own handler stays."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
