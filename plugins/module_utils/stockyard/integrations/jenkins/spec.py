# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declaration of the nodes of a fleet."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...errors import InvalidInput
from ...model import naming

LAUNCHERS = ("ssh", "inbound")
LOST_HOSTS = ("register", "replace")
# Jenkins splits labels at white space and reads ! & | > ( ) " in them as operators.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,61}[A-Za-z0-9_])?")
_PATH = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_CREDENTIALS = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True)
class AgentSpec:
    """Declared nodes of one fleet.

    :param place: the name of this hypervisor. A node whose host is gone is deleted only by a run
        with the same place.
    :param launcher: ``ssh``: the controller logs in and starts the agent; ``inbound``: the agent
        connects.
    :param labels: labels that jobs can require.
    :param executors: the number of parallel builds on a host.
    :param work_dir: the directory of builds in the host.
    :param exclusive: whether the node accepts only jobs that require one of its labels.
    :param credentials_id: the controller's credentials for ``ssh``: a user and a private key.
    :param java: the path of Java in the host, for ``ssh``; if empty, the controller searches for
        it.
    :param one_build: whether a host is deleted after its first build.
    :param lost_hosts: ``register`` or ``replace`` hosts that have no node although they are not
        new.
    """

    fleet: str
    tenant: str = "default"
    place: str = ""
    launcher: str = field(default="ssh", metadata={"choices": LAUNCHERS})
    labels: tuple[str, ...] = ()
    executors: int = 1
    work_dir: str = "/var/lib/jenkins"
    exclusive: bool = True
    credentials_id: str = ""
    java: str = ""
    one_build: bool = False
    lost_hosts: str = field(default="register", metadata={"choices": LOST_HOSTS})

    def __post_init__(self) -> None:
        naming.name("fleet", self.fleet, naming.FLEET_NAME_MAX)
        naming.name("tenant", self.tenant)
        naming.line("place", self.place)
        naming.check_choices(self)
        naming.whole("executors", self.executors, 1, 100)
        for label in self.labels:
            _matching("labels", _LABEL, label, "use letters, digits and . _ -, at most 63")
        _matching(
            "work_dir", _PATH, self.work_dir, "set an absolute path of letters, digits and . _ - /"
        )
        if self.java:
            _matching(
                "java", _PATH, self.java, "set an absolute path of letters, digits and . _ - /"
            )
        self._check_together()

    def _check_together(self) -> None:
        if self.launcher == "ssh":
            remedy = "set the ID of the controller's SSH credentials"
            _matching("credentials_id", _CREDENTIALS, self.credentials_id, remedy)
        if self.one_build and self.executors != 1:
            raise InvalidInput(
                f"one_build requires one executor, and {self.executors} are declared.",
                name=f"fleet {self.fleet}",
                remedy="leave executors at 1",
            )

    @property
    def replaces_lost(self) -> bool:
        """Return whether a host without a node is deleted. A host for one build may have had it
        already.
        """
        return self.one_build or self.lost_hosts == "replace"


def _matching(option: str, pattern: re.Pattern[str], value: object, remedy: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value) or "/../" in f"{value}/":
        raise InvalidInput(f"{option}: {naming.shown(value)} is not allowed.", remedy=remedy)
