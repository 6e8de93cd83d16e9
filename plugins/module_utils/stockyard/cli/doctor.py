# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command ``stockyard doctor``: finds what is missing, and names the command that corrects it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StockyardError
from . import connection, say
from .command import JSON, Command, Options
from .declare import declared

if TYPE_CHECKING:
    from ..yard import Yard

OK, MISSING, PROBLEM = "ok", "missing", "problem"
# Programs of this machine: whether all hosts need the program, its purpose and its remedy.
PROGRAMS = {
    "ssh": (True, "ssh, exec, logs and tunnel", "sudo apt-get install openssh-client"),
    "scp": (True, "cp", "sudo apt-get install openssh-client"),
    "docker": (
        False,
        "docker",
        "sudo apt-get install docker-cli || sudo apt-get install docker.io",
    ),
    "rsync": (False, "fast copies of lease exec --sync", "sudo apt-get install rsync"),
    "qemu-img": (
        False,
        "hosts of QEMU on this machine",
        "sudo apt-get install qemu-system-x86 qemu-utils",
    ),
    "mmdebstrap": (
        False,
        "template builds for QEMU on this machine",
        "sudo apt-get install mmdebstrap uidmap",
    ),
}
KVM = Path("/dev/kvm")


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    :param state: ``ok``, ``missing`` (a part works without it) or ``problem``.
    """

    state: str
    subject: str
    text: str
    remedy: str = ""


def _doctor(options: Options) -> int:
    findings = [*_programs(), _kvm(), *_declaration(options), *_hypervisor(options)]
    if options.json:
        say.data([vars(finding) for finding in findings])
    else:
        for finding in findings:
            say.out(f"{finding.state}: {finding.subject}: {finding.text}")
            if finding.remedy:
                say.out(f"  remedy: {finding.remedy}")
    return 1 if any(finding.state == PROBLEM for finding in findings) else 0


def _programs() -> Iterator[Finding]:
    for program, (needed, purpose, remedy) in PROGRAMS.items():
        path = shutil.which(program)
        if path:
            yield Finding(OK, program, path)
        else:
            state = PROBLEM if needed else MISSING
            yield Finding(state, program, f"not found; needed by {purpose}", remedy)


def _kvm() -> Finding:
    if os.access(KVM, os.R_OK | os.W_OK):
        return Finding(OK, "KVM", str(KVM))
    remedy = "enable virtualization in the firmware, or nested virtualization of this machine"
    if KVM.exists():
        remedy = 'sudo usermod --append --groups kvm "$USER", then log in again'
    text = "not usable; hosts of QEMU on this machine are emulated, and slow"
    return Finding(MISSING, "KVM", text, remedy)


def _declaration(options: Options) -> Iterator[Finding]:
    try:
        file = connection.declaration(options)
        if file is None:
            text = "none; the yard is selected by options and the environment"
            yield Finding(MISSING, "declaration", text, "stockyard init")
        else:
            file.connection()
            declared(file, rebuild=False, prune=None)
            yield Finding(OK, "declaration", str(file.path))
    except StockyardError as error:
        yield _failed("declaration", error)


def _hypervisor(options: Options) -> Iterator[Finding]:
    try:
        with connection.open_yard(options) as yard:
            uri = yard.context.provider.uri
            information = yard.preflight()
            for problem in information.problems:
                yield Finding(PROBLEM, "hypervisor", problem)
            if not information.problems:
                yield Finding(OK, "hypervisor", f"{uri}, forks: {', '.join(information.modes)}")
            hosts = yard.listing()
            yield Finding(OK, "yard", f"owner {yard.context.owner}, {len(hosts.hosts)} hosts")
            for item in hosts.unreadable:
                yield Finding(PROBLEM, item.name, item.reason, "stockyard reap --dry-run")
            yield from _objects(yard)
    except StockyardError as error:
        yield _failed("hypervisor", error)


def _objects(yard: Yard) -> Iterator[Finding]:
    """Return what is wrong with the current templates and with the hosts."""
    current = {(item.tenant, item.name): item for item in yard.templates.list()}
    if not current:
        text = "none; hosts are forked from templates"
        yield Finding(MISSING, "templates", text, "stockyard template build, or stockyard apply")
    for (_tenant, name), template in sorted(current.items()):
        if template.problem:
            remedy = f"stockyard template build {name}"
            yield Finding(PROBLEM, f"template {name}", template.problem, remedy)
    for host in yard.hosts.list():
        if host.state == "running" and not host.ready:
            reason = host.waits or "; ".join(host.drift) or f"its phase is {host.phase}"
            text = f"it runs and is not ready: {reason}"
            yield Finding(PROBLEM, f"host {host.name}", text, "stockyard apply, or reap")


def _failed(subject: str, error: StockyardError) -> Finding:
    text = " ".join(part for part in (error.message, error.cause) if part)
    return Finding(PROBLEM, subject, text, error.remedy)


DOCTOR = Command(
    "doctor",
    "find what is missing on this machine and on the hypervisor",
    _doctor,
    (*connection.OPTIONS, JSON),
    opens_yard=False,
    text="The exit code is 1 if there is a problem.",
)
