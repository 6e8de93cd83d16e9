# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A latent worker of Buildbot whose builds run on leased hosts, one host for each build.

The master starts the worker on the host over SSH. The worker reaches the master through the same
connection, so hosts need no egress. If the master is killed, the worker ends, and the host is
deleted when its lease has expired.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from buildbot import config
from buildbot.worker import AbstractLatentWorker
from twisted.internet import defer, task, threads
from twisted.python import log

from stockyard import HostInfo, LeaseExpired, StockyardError, Yard

# The password is the first line of the input. The end of the input ends the worker.
SCRIPT = """\
read -r password || exit 1
buildbot-worker create-worker worker {master} {name} "$password" > /dev/null || exit 1
exec 3<&0
buildbot-worker start --nodaemon worker < /dev/null &
worker=$!
(cat <&3; kill "$worker") > /dev/null 2>&1 &
wait "$worker"
"""
# The part of a lease's duration after which it is renewed.
PART = 1 / 3
OPTIONS = (
    *("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=15"),
    *("-o", "ExitOnForwardFailure=yes"),
)
LOG_MAX = 2000
ONE_BUILD = {"max_builds": 1, "build_wait_timeout": 0}


@dataclass(frozen=True)
class Instance:
    """A leased host on which the worker runs.

    :param lease: the number of the lease.
    :param process: the SSH client.
    :param output: the output of the worker.
    """

    lease: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]

    def end(self) -> None:
        """End the worker."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.output.close()

    def last_output(self) -> str:
        """Return the last output of the worker."""
        self.output.seek(0)
        return self.output.read()[-LOG_MAX:].decode(errors="replace")


class LeasedWorker(AbstractLatentWorker):  # type: ignore[misc]  # Buildbot has no types
    """A latent worker that leases a host for each build.

    :param fleet: the fleet of the hosts.
    :param duration: the duration of the lease in seconds. It is renewed while the build runs.
    :param wait: the longest time to wait for a host, in seconds.
    :param port: the port of the master for workers, on this machine and on the host.
    :param yard: the arguments of :class:`stockyard.Yard`; by default those of the environment.
    """

    def checkConfig(  # noqa: N802  # a name of Buildbot
        self,
        name: str,
        fleet: str,
        *,
        duration: float = 1800.0,
        wait: float = 600.0,
        tenant: str = "default",
        port: int = 9989,
        yard: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if options.keys() & ONE_BUILD.keys():
            config.error(f"{' and '.join(ONE_BUILD)} are fixed: a host runs one build only")
        if duration <= 0:
            config.error("duration must be a positive number of seconds")
        super().checkConfig(name, None, **options | ONE_BUILD)

    @defer.inlineCallbacks
    def reconfigService(  # noqa: N802  # a name of Buildbot
        self,
        name: str,
        fleet: str,
        *,
        duration: float = 1800.0,
        wait: float = 600.0,
        tenant: str = "default",
        port: int = 9989,
        yard: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        self.fleet, self.tenant, self.port = fleet, tenant, port
        self.duration, self.wait = duration, wait
        self.yard_options = dict(yard or {})
        self.holder = f"buildbot worker {name} of {self.master.name}"[:100]
        if not hasattr(self, "renewal"):
            self.instance: Instance | None = None
            self.renewal = task.LoopingCall(self._renew)
            yield threads.deferToThread(self._release_earlier)
        yield super().reconfigService(name, self.getRandomPass(), **options | ONE_BUILD)

    @defer.inlineCallbacks
    def start_instance(self, build: Any) -> Any:
        """Lease a host and start the worker on it."""
        self.instance = yield threads.deferToThread(self._start)
        self.renewal.start(self.duration * PART, now=False)
        return True

    def stop_instance(self, fast: bool = False) -> Any:
        """End the worker and replace the host."""
        if self.renewal.running:
            self.renewal.stop()
        instance, self.instance = self.instance, None
        return threads.deferToThread(self._stop, instance) if instance else defer.succeed(None)

    def check_instance(self) -> tuple[bool, str]:
        """Return whether the worker still runs, and its last output if not."""
        if self.instance is None or self.instance.process.poll() is None:
            return True, ""
        return False, self.instance.last_output()

    def _start(self) -> Instance:
        self._release_earlier()
        with Yard(**self.yard_options) as yard:
            lease = yard.leases.acquire(
                self.fleet,
                holder=self.holder,
                duration=self.duration,
                tenant=self.tenant,
                wait=self.wait,
            ).info
            try:
                return self._connect(lease.id, yard.hosts.get(lease.host, self.tenant))
            except Exception:
                self._release(yard, lease.id)
                raise

    def _release_earlier(self) -> None:
        """Release the hosts that a master left which was killed."""
        try:
            with Yard(**self.yard_options) as yard:
                for lease in yard.leases.list(self.tenant, holder=self.holder):
                    self._release(yard, lease.id)
        except StockyardError as error:
            log.msg(f"{self.name}: earlier hosts were not released: {error}")

    def _connect(self, lease: str, host: HostInfo) -> Instance:
        master = f"127.0.0.1:{self.port}"
        program, *address = shlex.split(host.ssh.command)
        forward = ("-o", f"RemoteForward={master} {master}")
        script = SCRIPT.format(master=master, name=shlex.quote(self.name))
        output = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the instance
        process = subprocess.Popen(
            [program, *OPTIONS, *forward, *address, script],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        process.stdin.write(f"{self.password}\n".encode())  # type: ignore[union-attr]
        return Instance(lease, process, output)

    def _stop(self, instance: Instance) -> None:
        instance.end()
        with Yard(**self.yard_options) as yard:
            self._release(yard, instance.lease)

    def _release(self, yard: Yard, lease: str) -> None:
        try:
            yard.leases.release(lease, replace=True)
        except StockyardError as error:
            log.msg(f"{self.name}: the host is deleted, but not replaced: {error}")
            yard.leases.release(lease)

    def _renew(self) -> Any:
        instance = self.instance
        return threads.deferToThread(self._extend, instance) if instance else None

    def _extend(self, instance: Instance) -> None:
        try:
            with Yard(**self.yard_options) as yard:
                yard.leases.renew(instance.lease, self.duration)
        except LeaseExpired as error:
            log.msg(f"{self.name}: {error}")
            instance.end()
        except StockyardError as error:
            # The hypervisor can answer next time, before the lease ends.
            log.msg(f"{self.name}: the lease was not renewed: {error}")
