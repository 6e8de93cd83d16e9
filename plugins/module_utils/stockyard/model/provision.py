# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook or roles of the user that Ansible runs against a template before the freeze, as
declared. Reads nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ..errors import InvalidInput
from . import codec, naming

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True)
class Provision:
    """One run of Ansible against the template.

    :param playbook: a path on the machine of the SDK; its plays are for ``template`` or ``all``.
    :param roles: directories of roles, applied one after the other as root, instead of a playbook.
    :param variables: extra variables; part of the digest, and no place for secrets.
    :param files: the files and directories next to the playbook that count for the digest; empty
        for its whole directory.
    :param digest: SHA-256 of all their content, computed by the SDK.
    """

    playbook: str = ""
    roles: tuple[str, ...] = ()
    variables: dict[str, Any] | None = None
    files: tuple[str, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        if bool(self.playbook) == bool(self.roles):
            raise InvalidInput(
                "provision: either a playbook or roles must be declared.",
                remedy="declare one of the two",
            )
        for text in (self.playbook, *self.roles, *self.files):
            naming.line("provision", text, 4096)
        if not all((*self.roles, *self.files)):
            raise InvalidInput(
                "provision: a path is empty.",
                remedy="omit the path, or declare a file or a directory",
            )
        if self.files and not self.playbook:
            raise InvalidInput(
                "provision: files can be declared only with a playbook.",
                remedy="omit files: a role includes all its files",
            )
        for name in self.variables or {}:
            _variable(name)
        try:
            json.dumps(self.variables, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInput(
                "provision: the variables are not plain data.", cause=str(error)
            ) from error

    @property
    def title(self) -> str:
        """Return a short description of the run."""
        names = [PurePath(path).name for path in (self.playbook, *self.roles) if path]
        return f"{'playbook' if self.playbook else 'roles'} {', '.join(names)}"

    @property
    def sum(self) -> str:
        """Return its part of a template's digest: the content without its location."""
        names = [PurePath(path).name for path in (self.playbook, *self.roles)]
        return codec.digest(
            {"content": self.digest, "names": names, "variables": self.variables or {}}
        )


def _variable(name: object) -> None:
    """Check an extra variable. Variables of Ansible's own would direct the play to another machine
    than the template.
    """
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise InvalidInput(
            f"provision: {naming.shown(name)} is not a variable name.",
            remedy="use letters, digits and _",
        )
    if name.startswith("ansible_"):
        raise InvalidInput(
            f"provision: {name} is Ansible's own variable.",
            cause="stockyard sets how Ansible reaches the template",
            remedy="omit the variable, or set it in the playbook",
        )
